"""Where a simulated provider runs: a thread of this process, or a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Final, Protocol

from wallie_litellm.simulator.settings import Ports, ProviderSettings

START_TIMEOUT: Final = 30.0  # seconds a provider may take to listen
STOP_TIMEOUT: Final = 5.0  # seconds a provider may take to end before it is given up or killed


class Host(Protocol):
    """Runs one provider."""

    def start(self, settings: ProviderSettings) -> Ports:
        """Run it and wait until it listens."""

    def stop(self) -> None:
        """End it; a second call does nothing."""


class ThreadHost:
    """A daemon thread with its own event loop."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def start(self, settings: ProviderSettings) -> Ports:
        """Run the server in a new thread."""
        # Not at the top: `python -m` runs the server module afresh and warns if the package has imported it.
        from wallie_litellm.simulator.server import serve

        ready: Future[Ports] = Future()

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            await serve(settings, ready.set_result, self._stop)

        def target() -> None:
            try:
                asyncio.run(run())
            except Exception as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        self._thread = threading.Thread(target=target, name=f"simulated-{settings.name}", daemon=True)
        self._thread.start()
        return ready.result(START_TIMEOUT)

    def stop(self) -> None:
        """Ask the loop to stop and wait for its thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(STOP_TIMEOUT)


class ProcessHost:
    """A child process that ends when this one does: it holds the read end of a pipe from here."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self, settings: ProviderSettings) -> Ports:
        """Run the server module and read its ports."""
        command = [sys.executable, "-m", "wallie_litellm.simulator.server", json.dumps(asdict(settings))]
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(  # noqa: S603 - our own module with our own arguments
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            # Ctrl-C in a terminal goes to the whole group; the pipe alone decides when this child ends.
            start_new_session=True,
        )
        return self._read_ports(self._process)

    def _read_ports(self, process: subprocess.Popen[str]) -> Ports:
        line = ""
        if (pipe := process.stdout) is not None:
            with selectors.DefaultSelector() as selector:  # select() takes no descriptor from 1,024 on
                selector.register(pipe, selectors.EVENT_READ)
                line = pipe.readline() if selector.select(START_TIMEOUT) else ""
        if not line:
            self.stop()
            raise RuntimeError(f"the simulated provider did not start (exit status {process.returncode})")
        return Ports(**json.loads(line))

    def stop(self) -> None:
        """Close the pipe and wait; kill what does not end."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
