"""A process that asks the ledger and draws the page, so that neither takes Python's lock from requests.

A thread would: while it computes, whoever serves requests waits up to 5 ms for the lock each time it comes back from a
socket. The process is told what the guard says, looks into the ledger by itself, and ends with its parent, or when
nobody has looked for a while. Messages are a length (4 bytes, big-endian) and JSON; drawings follow theirs as bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.panels import Panels, Rendered
from wallie_litellm.dashboard.view_model import Fleet, Worker

logger = logging.getLogger(__name__)

TIMEOUT: Final = 6.0  # seconds that a drawing may take; live.js waits for 9
UNUSED_FOR: Final = 300.0  # seconds after which the process ends
RETRY_IN: Final = 60.0  # seconds until one that could not be started is started again
_NEEDED: Final = {"ledger", "quota", "kpis"}  # of the configuration
_MODULE: Final = "wallie_litellm.dashboard.render_process"


class RenderProcessGone(Exception):  # noqa: N818 - it says what happened
    """The process cannot draw now."""


class RenderProcess:
    """The process, as its parent sees it. Belongs to the parent's desk's event loop."""

    def __init__(self, config: WallieConfig) -> None:
        self._settings = config.model_dump(mode="json", include=_NEEDED)
        self._process: Process | None = None
        self._starting: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Rendered]] = {}
        self._numbers = itertools.count()
        self._failed_at = float("-inf")
        self._writing = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether it can draw; if not, it is being started."""
        if self._process is not None and self._process.returncode is None:
            return True
        now = asyncio.get_running_loop().time()
        if self._starting is None and now - self._failed_at > RETRY_IN:
            self._starting = asyncio.ensure_future(self._start())
        return False

    async def draw(
        self, range_name: str, language: str, status: Mapping[str, Any], fleet: Fleet, *, anew: bool
    ) -> Rendered:
        """The panels; ``anew`` has the ledger's news looked up again.

        Raises:
            PainterGone: the process has ended, or says nothing.
        """
        number = next(self._numbers)
        asked = {"number": number, "range": range_name, "language": language, "anew": anew}
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send({**asked, "status": status, "fleet": asdict(fleet)})
            return await asyncio.wait_for(answer, TIMEOUT)
        except TimeoutError as error:
            self._end_if_it_hangs()
            raise RenderProcessGone("it hangs") from error
        except OSError as error:
            raise RenderProcessGone(type(error).__name__) from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the process."""
        for task in (self._starting, self._reading):
            if task is not None:
                task.cancel()
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            assert process.stdin is not None, "it is a pipe"  # noqa: S101 - narrows the type
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 1.0)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _end_if_it_hangs(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _start(self) -> None:
        try:
            # In a session of its own: Ctrl-C is for the parent, which then closes it.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _MODULE, stdin=PIPE, stdout=PIPE, start_new_session=True, env=_environment()
            )
            assert process.stdout is not None, "it is a pipe"  # noqa: S101 - narrows the type
            self._process = process
            await self._send(self._settings)
            await process.stdout.readexactly(1)  # it is there
        except (OSError, asyncio.IncompleteReadError) as error:
            self._gone(f"cannot be started ({type(error).__name__})")
        else:
            self._reading = asyncio.ensure_future(self._read(process))
        finally:
            self._starting = None

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None, "it is a pipe"  # noqa: S101 - narrows the type
        try:
            while (told := await _receive(process.stdout)) is not None:
                html = await process.stdout.readexactly(told["html"])
                compressed = await process.stdout.readexactly(told["compressed"])
                answer = self._waiting.get(told["number"])
                if answer is None or answer.done():
                    continue
                if told["error"] is None:
                    answer.set_result(Rendered(html, compressed, told["etag"]))
                else:
                    answer.set_exception(RenderProcessGone(told["error"]))
        except asyncio.IncompleteReadError:
            pass
        if await process.wait():
            self._gone(f"has ended ({process.returncode})")
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RenderProcessGone("it has ended"))
        if self._process is process:
            self._process = None

    async def _send(self, message: Mapping[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise RenderProcessGone("it has ended")
        async with self._writing:
            process.stdin.write(_framed(message))
            await process.stdin.drain()

    def _gone(self, why: str) -> None:
        self._process, self._failed_at = None, asyncio.get_running_loop().time()
        logger.warning("the dashboard's own process %s: its work is done in this one meanwhile", why)


class _ReportedSource:
    """A source that says what the parent has said."""

    read_only: str | None = None

    def __init__(self) -> None:
        self._status: Mapping[str, Any] = {}
        self._fleet: Fleet | None = None

    def tell(self, status: Mapping[str, Any], fleet: Mapping[str, Any]) -> None:
        self._status = status
        self._fleet = Fleet(**{**fleet, "workers": [Worker(**one) for one in fleet["workers"]]})

    async def status(self) -> Mapping[str, Any]:
        return self._status

    async def fleet(self) -> Fleet:
        assert self._fleet is not None, "it was told first"  # noqa: S101 - narrows the type
        return self._fleet

    def order(self, *_: Any) -> None:
        raise NotImplementedError("orders are the parent's")

    note_export = order


async def _draw_for_parent() -> None:
    """What the process does: draw what the parent asks for, until that ends or has not asked for long."""
    from wallie_litellm.dashboard.html import render_panels

    loop = asyncio.get_running_loop()
    asked = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    answers = asyncio.StreamWriter(transport, protocol, None, loop)
    settings = await _receive(asked)
    if settings is None:
        return
    source = _ReportedSource()
    drawing = Panels(source, WallieConfig.model_validate(settings), render_panels)
    answers.write(b"+")
    tasks: set[asyncio.Task[None]] = set()

    async def answer(request: Mapping[str, Any]) -> None:
        told: dict[str, Any] = {"number": request["number"], "error": None, "etag": ""}
        html = compressed = b""
        try:
            source.tell(request["status"], request["fleet"])
            if request["anew"]:
                drawing.forget()
            drawn = await drawing.draw(request["range"], request["language"])
            html, compressed, told["etag"] = drawn.html, drawn.compressed, drawn.etag
        except Exception as error:  # noqa: BLE001 - the parent draws itself then, and meets it too
            told["error"] = f"{type(error).__name__}: {error}"
        answers.write(_framed({**told, "html": len(html), "compressed": len(compressed)}) + html + compressed)
        await answers.drain()

    with suppress(TimeoutError):
        while (request := await asyncio.wait_for(_receive(asked), UNUSED_FOR)) is not None:
            task = asyncio.ensure_future(answer(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await drawing.close()


def _environment() -> dict[str, str]:
    """This process's, with the path on which it found what it has imported."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _framed(message: Mapping[str, Any]) -> bytes:
    text = json.dumps(message).encode()
    return len(text).to_bytes(4, "big") + text


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        found: dict[str, Any] = json.loads(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None
    return found


if __name__ == "__main__":
    asyncio.run(_draw_for_parent())
