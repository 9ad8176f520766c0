"""``wallie-litellm proxy``: LiteLLM's proxy with the environment that the guard needs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from wallie_litellm.config import RouterConfig, load_config
from wallie_litellm.core.loopback import is_loopback
from wallie_litellm.errors import ConfigError
from wallie_litellm.proxy.workers import NOTED, divided, worker_count

_START: Final = "from litellm.proxy.proxy_cli import run_server; run_server()"


def proxy_command(
    config: str | None, host: str, port: int, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str], list[str]]:
    """The command line, the environment and the notes for a proxy on ``host:port``.

    Raises:
        ConfigError: the file cannot be used, the proxy would not be guarded, or it would be open to the network.
    """
    if importlib.util.find_spec("uvicorn") is None:
        raise ConfigError(["the proxy's packages are missing: install wallie-litellm[proxy]"])
    loaded = load_config(config)
    _require_callback(loaded)
    path = str(loaded.path.resolve())
    own = loaded.environment_variables  # LiteLLM itself sets them after it has read what refers to them
    prepared = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", **environment, **own, "WALLIE_CONFIG": path}
    notes = []
    if not (prepared.get("LITELLM_MASTER_KEY") or loaded.general_settings.get("master_key")):
        if not is_loopback(host):
            raise ConfigError([f"LITELLM_MASTER_KEY is not set: without a key the proxy may not listen on {host}"])
        prepared["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
        notes.append("LITELLM_MASTER_KEY is not set: any program on this machine may use the proxy")
    if (note := divided(loaded.wallie, worker_count(prepared, arguments))) is not None:
        prepared[NOTED] = "1"
        notes.append(note)
    command = [sys.executable, "-c", _START, "--config", path, "--host", host, "--port", str(port), *arguments]
    return command, prepared, notes


def _require_callback(loaded: RouterConfig) -> None:
    callbacks = loaded.litellm_settings.get("callbacks") or []
    named = [callbacks] if isinstance(callbacks, str) else callbacks
    if not any("wallie" in str(name) for name in named):
        raise ConfigError(
            [
                f"{loaded.path.name}: litellm_settings.callbacks does not name callbacks.wallie.handler, "
                "so the proxy would not be guarded"
            ]
        )


def run_proxy(config: str | None, host: str, port: int, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the proxy.

    Raises:
        ConfigError: as :func:`proxy_command`.
    """
    command, environment, notes = proxy_command(config, host, port, arguments, os.environ)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)  # noqa: T201 - the process is about to be LiteLLM's
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - no shell wanted
