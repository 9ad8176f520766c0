"""The page's texts about the configuration in force, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CONFIG_EN: Final[Mapping[str, str]] = {
    "config.changed": "{file} has changed since it was loaded.",
    "config.refused": "{file} has changed, and cannot be used as it is: what was loaded before is in force.",
    "config.restart": "A restart is needed for {keys}.",
    "action.reload": "Reload the configuration",
    "confirm.reload": "{provider} is read again. Limits, chains, models, features and thresholds hold from then on; "
    "requests go on, and what is used stays counted. A file with a mistake is refused, and nothing changes.",
    "notice.reload": "{provider} has been reloaded.",
    "problem.reload": "The file is refused, and nothing has changed: {reason}",
}

CONFIG_ES: Final[Mapping[str, str]] = {
    "config.changed": "{file} ha cambiado desde que se cargó.",
    "config.refused": "{file} ha cambiado y no se puede usar así: vale lo que se cargó antes.",
    "config.restart": "Hace falta reiniciar por {keys}.",
    "action.reload": "Recargar la configuración",
    "confirm.reload": "Se lee de nuevo {provider}. Límites, cadenas, modelos, funciones y umbrales valen desde "
    "entonces; las peticiones siguen, y lo usado sigue contado. Un archivo con un error se rechaza, y nada cambia.",
    "notice.reload": "{provider} se ha recargado.",
    "problem.reload": "El archivo se rechaza y nada ha cambiado: {reason}",
}
