"""A real LiteLLM proxy as a process, and the little HTTP client that talks to it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support import SHIPPED

MASTER_KEY = "sk-test-master-key-1234567890"
START_SECONDS = 90


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its body as text and, where it is JSON, parsed."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Proxy:
    """One running proxy."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def send(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] = {},
    ) -> None:
        sent = {"content-type": "application/json", "authorization": f"Bearer {MASTER_KEY}", **headers}
        connection.request("POST", path, json.dumps(body), sent)

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] = {}) -> Answer:
        connection = self.connect()
        try:
            self.send(connection, path, body, headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read().decode())
        finally:
            connection.close()

    def chat(self, model: str, headers: Mapping[str, str] = {}, **body: Any) -> Answer:
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello there"}], **body}
        return self.post("/v1/chat/completions", asked, headers)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lay_out(folder: Path, config: Mapping[str, Any]) -> Path:
    """A folder as a user has it: the YAML, and ``callbacks/`` beside it."""
    shutil.copytree(SHIPPED.parent / "callbacks", folder / "callbacks", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "router_config.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    return path


def launch(command: list[str], folder: Path, port: int) -> Proxy:
    log = folder / "proxy.log"
    environment = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
    }
    environment.pop("WALLIE_CONFIG", None)
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    proxy = Proxy(port, process, log)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        connection = proxy.connect()
        try:
            connection.request("GET", "/health/liveliness")
            if connection.getresponse().status == 200:
                return proxy
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    proxy.stop()
    raise AssertionError(f"the proxy did not start:\n{log.read_text()[-3000:]}")


def executable(name: str) -> str:
    return str(Path(sys.executable).parent / name)
