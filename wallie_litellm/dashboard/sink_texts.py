"""The page's texts about sinks whose records wait, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SINK_EN: Final[Mapping[str, str]] = {
    "sink.backlog": "{name}: {wait} records wait to be written or sent, {disk} of them on disk; {lost} are lost.",
}

SINK_ES: Final[Mapping[str, str]] = {
    "sink.backlog": "{name}: {wait} registros esperan a ser escritos o enviados, {disk} de ellos en disco; "
    "{lost} se han perdido.",
}
