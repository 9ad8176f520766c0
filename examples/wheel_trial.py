"""Tries the wheel in an empty environment: ``python examples/wheel_trial.py``, with the interpreter to be tried.

It builds the wheel, installs it with its pins into a new environment outside of the checkout, and there plays the demo,
starts the proxy against simulated providers, asks it, looks at its page, and reads a ledger of its tables' version 1.
It needs no network but the package registry, prints a line for each step, and exits with 1 where one failed.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLD_LEDGER = ROOT / "tests" / "ledger" / "version_1" / "wallie.db.gz"
PIP = ("-m", "pip", "--disable-pip-version-check", "-qq")
CONFIG = """
import sys, yaml
from wallie_litellm.simulator.providers import SimulatedProviders
with SimulatedProviders(in_process=False) as providers:
    data = yaml.safe_load(open("router_config.yaml"))
    data["model_list"] = providers.point(data["model_list"])
    yaml.safe_dump(data, open("router_config.yaml", "w"))
    print("ready", flush=True)
    sys.stdin.read()
"""


class Trial:
    """An empty environment in a folder, and what is run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "WALLIE", "VIRTUAL_ENV"))
        }
        self.environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "WALLIE_ADMIN_TOKEN": "an-operators-token"}

    def bin(self, program: str) -> str:
        """A program of the environment."""
        return str(self.folder / "env" / "bin" / program)

    def run(self, *command: str, seconds: float = 600) -> str:
        """Run to the end; what it prints.

        Raises:
            RuntimeError: it fails.
        """
        done = subprocess.run(
            command, cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def install(self) -> None:
        """Build the wheel, and install it with its pins."""
        self.run(sys.executable, "-m", "venv", str(self.folder / "env"))
        python = self.bin("python")
        self.run(python, *PIP, "wheel", "--no-deps", "--wheel-dir", str(self.folder), str(ROOT))
        (wheel,) = self.folder.glob("*.whl")
        pins = ("--constraint", str(ROOT / "constraints.txt"))
        self.run(python, *PIP, "install", *pins, f"{wheel}[proxy,demo]", seconds=1800)

    def demo(self) -> None:
        """The demo of the wheel, with what init writes."""
        self.run(self.bin("wallie-litellm"), "init")
        self.run(self.bin("wallie-litellm"), "demo", "--no-serve", seconds=180)

    def proxy(self) -> None:
        """The proxy with its page, over a ledger of the first version, which its start converts."""
        (self.work / "wallie.db").write_bytes(gzip.decompress(OLD_LEDGER.read_bytes()))
        of_this_year(self.work / "wallie.db")
        simulated = subprocess.Popen(
            [self.bin("python"), "-c", CONFIG],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            if simulated.stdout is None or simulated.stdout.readline() != b"ready\n":
                raise RuntimeError("the simulated providers do not start")
            self._ask_proxy()
        finally:
            simulated.communicate(timeout=30)
        exported = self.run(self.bin("wallie-litellm"), "export", "--kind", "attempt")
        if len(exported.splitlines()) != 1 + 160 + 1:
            raise RuntimeError(f"the converted ledger has {len(exported.splitlines()) - 1} attempts, not 161")

    def _ask_proxy(self) -> None:
        port = free_port()
        proxy = subprocess.Popen(
            [self.bin("wallie-litellm"), "proxy", "--port", str(port)],
            cwd=self.work,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "proxy.log").open("wb"),
        )
        base = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: proxy.poll() is not None or answers(f"{base}/health/liveliness"), 180, "no start in 180 s")
            if proxy.returncode is not None:
                raise RuntimeError(f"the proxy ends: {(self.folder / 'proxy.log').read_text()[-2000:]}")
            body = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}'
            request = urllib.request.Request(f"{base}/v1/chat/completions", body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                if not answer.headers["x-wallie-provider"]:
                    raise RuntimeError("the proxy's answer is not guarded")
            token = {"authorization": "Bearer an-operators-token"}
            page = urllib.request.Request(f"{base}/wallie/", headers=token)
            with urllib.request.urlopen(page, timeout=60) as answer:
                if b"panel-health" not in answer.read():
                    raise RuntimeError("the page is not the dashboard")
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait(60)


def of_this_year(ledger: Path) -> None:
    """Move the records of an old ledger by whole days, to what its retention keeps."""
    with contextlib.closing(sqlite3.connect(ledger)) as opened, opened:
        ((newest,),) = opened.execute("SELECT max(at) FROM wallie_attempts")
        later = int((time.time() - newest) / 86400) * 86400
        tables = ("attempts", "requests", "alerts", "transitions", "actions", "outside_usage")
        columns = [*((table, "at") for table in tables), ("usage", "start")]
        for table, column in columns:
            opened.execute(f"UPDATE wallie_{table} SET {column} = {column} + ?", (later,))  # noqa: S608


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def answers(address: str) -> bool:
    """Whether there is an answer."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def wait_for(condition: Callable[[], bool], seconds: float, problem: str) -> None:
    """Poll ``condition``.

    Raises:
        RuntimeError: it does not hold in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(problem)
        time.sleep(0.2)


def main() -> None:
    """Take the steps in turn."""
    print(f"Python {sys.version.partition(' ')[0]}")
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        for step in (trial.install, trial.demo, trial.proxy):
            began = time.monotonic()
            try:
                step()
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                sys.exit(f"{step.__name__}: failed: {error}")
            print(f"{step.__name__:8} passed  {time.monotonic() - began:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
