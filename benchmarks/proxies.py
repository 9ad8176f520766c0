"""LiteLLM proxies to measure, as processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from wallie_litellm.simulator.providers import FAKE_KEY

KEY: Final = "sk-benchmark-master-key"
MODEL: Final = "gpt-4o-mini"
STARTED_WITHIN: Final = 120.0  # seconds
_LOGGED: Final = 2_000  # characters of a proxy's log in an error
_ROOT: Final = Path(__file__).resolve().parent.parent
_TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second; the unit of /proc


@dataclass(frozen=True)
class Proxy:
    """A proxy that answers."""

    url: str
    pid: int

    def cpu(self) -> float:
        """The CPU seconds that all its threads have taken. Linux only."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS  # utime, stime


def one_model(api_base: str) -> dict[str, Any]:
    """The model list of a proxy in front of one simulated provider."""
    parameters = {"model": f"openai/{MODEL}", "api_base": api_base, "api_key": FAKE_KEY}
    return {"model_list": [{"model_name": MODEL, "litellm_params": parameters}]}


@contextmanager
def started(folder: Path, config: Mapping[str, Any], *command: str) -> Iterator[Proxy]:
    """``command``, of this environment, on ``config`` in ``folder``, as a process with one worker."""
    path = folder / "router_config.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    if not (folder / "callbacks").exists():
        shutil.copytree(_ROOT / "callbacks", folder / "callbacks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program, *words = command
    executable = str(Path(sys.executable).parent / program)
    line = [executable, *words, "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with (folder / "proxy.log").open("ab") as log:
        process = subprocess.Popen(line, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(process, url, folder / "proxy.log")
        yield Proxy(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health/liveliness", timeout=5):  # noqa: S310 - http
            return
        time.sleep(0.2)
    raise RuntimeError(f"the proxy did not start (status {process.poll()}): {log.read_text()[-_LOGGED:]}")
