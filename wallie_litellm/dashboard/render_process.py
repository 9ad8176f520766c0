"""A process that reads the ledger and renders the panels, so that neither takes Python's lock from requests.

A thread would: while it computes, the thread that serves requests waits up to 5 ms for the lock each time it returns
from a socket. The process receives the guard's status, reads the ledger by itself, and ends with its parent, or when
it has had no request for a while: see ``render_child.py``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panels import Rendered
from wallie_litellm.dashboard.render_pipe import framed, receive
from wallie_litellm.dashboard.view_model import Fleet

logger = logging.getLogger(__name__)

RENDER_TIMEOUT: Final = 6.0  # seconds, the longest rendering; live.js waits for 9
RESTART_AFTER: Final = 60.0  # seconds after a failure until the process is started again
# Sections of the configuration; of the features, which experiments name, no more than the names.
_NEEDED: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("ledger", "quota", "kpis", "dashboard", "experiments"), True),
    "features": {"__all__": {"tier"}},
}
_MODULE: Final = "wallie_litellm.dashboard.render_child"


class RenderProcessGone(Exception):  # noqa: N818 - it says what happened
    """The process has ended, or does not answer."""


class RenderProcess:
    """Starts the process and sends requests to it. Belongs to the event loop of the dashboard service's thread."""

    def __init__(self, config: WallieConfig) -> None:
        self._settings = _settings_of(config)
        self._child: _Child | None = None
        self._starting: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._requests: dict[int, asyncio.Future[Rendered]] = {}
        self._numbers = itertools.count()
        self._failed_at = float("-inf")
        self._writing = asyncio.Lock()
        self._closed = False

    async def configure(self, config: WallieConfig) -> None:
        """Have the process go by another configuration."""
        self._settings = _settings_of(config)
        if self.ready:
            with suppress(OSError, RenderProcessGone):  # the next one is started with it
                await self._send({"settings": self._settings})

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        return self._child.process.pid if self._child is not None else None

    @property
    def ready(self) -> bool:
        """Whether the process can render; if not, it is being started, unless it failed a moment ago."""
        if self._child is not None and self._child.process.returncode is None:
            return self._reading is not None and not self._reading.done()  # else it still imports what it needs
        now = asyncio.get_running_loop().time()
        if self._starting is None and not self._closed and now - self._failed_at > RESTART_AFTER:
            self._starting = asyncio.ensure_future(self._start())
        return False

    async def render(
        self,
        key: PanelKey,
        *,
        status: Mapping[str, Any],
        fleet: Fleet,
        refresh: bool,
    ) -> Rendered:
        """The panels; ``refresh`` has the ledger's figures and recent records read anew.

        Raises:
            RenderProcessGone: the process has ended, or does not answer.
        """
        number = next(self._numbers)
        request = {"number": number, "key": key._asdict(), "refresh": refresh}
        response = self._requests[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send({**request, "status": status, "fleet": asdict(fleet)})
            return await asyncio.wait_for(response, RENDER_TIMEOUT)
        except TimeoutError as error:
            self._kill()
            raise RenderProcessGone("it hangs") from error
        except OSError as error:
            raise RenderProcessGone(type(error).__name__) from error
        finally:
            self._requests.pop(number, None)

    async def close(self) -> None:
        """End the process, and start no other."""
        self._closed = True
        tasks = [task for task in (self._starting, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # a process that is being started is ended by its task
        child, self._child = self._child, None
        if child is not None and child.process.returncode is None:
            child.requests.close()
            try:
                await asyncio.wait_for(child.process.wait(), 1.0)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    child.process.kill()
                await child.process.wait()

    def _kill(self) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.process.kill()

    async def _start(self) -> None:
        try:
            child = self._child = await _Child.start()
            await self._send(self._settings)
            await child.responses.readexactly(1)  # the process has imported what it needs
        except (OSError, asyncio.IncompleteReadError) as error:
            self._fail(f"cannot be started ({type(error).__name__})")
        else:
            self._reading = asyncio.ensure_future(self._read(child))
        finally:
            self._starting = None

    async def _read(self, child: _Child) -> None:
        with suppress(asyncio.IncompleteReadError):
            while (header := await receive(child.responses)) is not None:
                html = await child.responses.readexactly(header["html"])
                compressed = await child.responses.readexactly(header["compressed"])
                self._resolve(header, html, compressed)
        if await child.process.wait():
            self._fail(f"ended (exit code {child.process.returncode})")
        for response in self._requests.values():
            if not response.done():
                response.set_exception(RenderProcessGone("it has ended"))
        if self._child is child:
            self._child = None

    def _resolve(self, header: Mapping[str, Any], html: bytes, compressed: bytes) -> None:
        response = self._requests.get(header["number"])
        if response is None or response.done():
            return
        if header["error"] is None:
            response.set_result(Rendered(html, compressed, header["etag"]))
        else:
            response.set_exception(RenderProcessGone(header["error"]))

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self._child is None:
            raise RenderProcessGone("it has ended")
        requests = self._child.requests
        async with self._writing:
            requests.write(framed(message))
            await requests.drain()

    def _fail(self, why: str) -> None:
        self._child, self._failed_at = None, asyncio.get_running_loop().time()
        logger.warning("dashboard render process %s; rendering in this process", why)


class _Child(NamedTuple):
    process: Process
    requests: asyncio.StreamWriter
    responses: asyncio.StreamReader

    @classmethod
    async def start(cls) -> _Child:
        """Raises OSError where it cannot be started."""
        # In a session of its own: Ctrl-C is for the parent, which then closes it.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _MODULE, stdin=PIPE, stdout=PIPE, start_new_session=True, env=_environment()
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("the process has no pipes")
        return cls(process, process.stdin, process.stdout)


def _settings_of(config: WallieConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", include=dict(_NEEDED))


def _environment() -> dict[str, str]:
    """This process's environment, with the path from which this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
