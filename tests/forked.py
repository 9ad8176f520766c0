"""Python processes that are forked from one which has imported what they need: LiteLLM takes seconds to import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class ForkServer:
    """Starts scripts through ``fork_server.py``, which imports ``modules`` at the first start of a script."""

    def __init__(self, *modules: str, environment: Mapping[str, str] = os.environ) -> None:
        self._command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), *modules]
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def start(
        self,
        script: str,
        folder: Path,
        *,
        arguments: Sequence[str] = ("script.py",),
        output: str = "output.log",
        environment: Mapping[str, str] | None = None,
    ) -> ForkedProcess:
        """Begin ``script`` in ``folder``; what it prints is appended to the file ``output`` there."""
        request = {
            "script": script,
            "folder": str(folder),
            "arguments": list(arguments),
            "output": output,
            "environment": dict(self._environment if environment is None else environment),
        }
        return ForkedProcess(self, self._request(request))

    def exit_code(self, pid: int) -> int | None:
        """The exit code of a process that was started here, or None while it runs."""
        code: int | None = self._request({"ended": pid})
        return code

    def stop(self) -> None:
        if self._process is not None:
            with self._process:
                pass  # at the end of its input it ends

    def _request(self, request: dict[str, Any]) -> Any:
        with self._lock:
            if self._process is None:
                pipe = subprocess.PIPE
                self._process = subprocess.Popen(
                    self._command, stdin=pipe, stdout=pipe, env=dict(self._environment), text=True
                )
                assert self._answer() == "ready"
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return self._answer()

    def _answer(self) -> Any:
        return json.loads(self._process.stdout.readline())  # type: ignore[union-attr] # it is a pipe


class ForkedProcess:
    """A process of a :class:`ForkServer`, with the methods of :class:`subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        return self._server.exit_code(self.pid)

    def wait(self, timeout: float = 60.0) -> int:
        """The exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
