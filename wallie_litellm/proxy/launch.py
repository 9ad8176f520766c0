"""``wallie-litellm proxy``: LiteLLM's proxy with the environment that the guard needs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from wallie_litellm.check.callback import callback_problems
from wallie_litellm.check.packages import proxy_package_problems
from wallie_litellm.check.sinks import sink_problems
from wallie_litellm.check.store import store_problems
from wallie_litellm.config import RouterConfig, load_config
from wallie_litellm.core.loopback import is_loopback
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import ConfigError
from wallie_litellm.proxy.start_report import ADDRESS
from wallie_litellm.proxy.workers import NOTED, divided, worker_count

_START: Final = "from litellm.proxy.proxy_cli import run_server; run_server()"


def proxy_command(
    config: str | None, host: str, port: int, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str], list[str]]:
    """The command line, the environment and the notes for a proxy on ``host:port``.

    Raises:
        ConfigError: the file cannot be used, the proxy would not start or not be guarded, or it would be open to the
            network.
    """
    loaded = load_config(config)
    _require_startable(loaded)
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
    prepared[ADDRESS] = _address(host, port, arguments)
    command = [sys.executable, "-c", _START, "--config", path, "--host", host, "--port", str(port), *arguments]
    return command, prepared, notes


def _require_startable(loaded: RouterConfig) -> None:
    """Refuse what would end the start in the middle, where LiteLLM writes long tracebacks.

    Raises:
        ConfigError: it would not start, or would not be guarded.
    """
    found = [*callback_problems(loaded), *store_problems(loaded), *sink_problems(loaded)]
    if found := [*(f"{loaded.path}: {problem}" for problem in found), *proxy_package_problems()]:
        raise ConfigError(list(map(one_line, found)))


def _address(host: str, port: int, arguments: Sequence[str]) -> str:
    scheme = "https" if any(argument.startswith("--ssl_keyfile_path") for argument in arguments) else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _require_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on: for port 4000 LiteLLM would take one by chance.

    Raises:
        ConfigError: another program listens there, or the host is not this machine.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = str(error.strerror).partition(" (while ")[0]  # the place is in the message already
        raise ConfigError([f"cannot listen on {host}:{port}: {reason}; see --host and --port"]) from None


def run_proxy(config: str | None, host: str, port: int, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the proxy.

    Raises:
        ConfigError: as :func:`proxy_command`; or ``host:port`` cannot be listened on.
    """
    command, environment, notes = proxy_command(config, host, port, arguments, os.environ)
    _require_free(host, port)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)  # noqa: T201 - the process is about to be LiteLLM's
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - no shell wanted
