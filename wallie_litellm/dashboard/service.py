"""What all viewers share: one thread, and a process, that find out and draw, however many look.

The thread has an event loop of its own, so that questions to the ledger take no time from the loop that serves
requests; the process (see ``render_process.py``) does what is more than a moment's work.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, TypeVar

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.guard_source import Action, DashboardSource
from wallie_litellm.dashboard.panels import LedgerUnavailable, Panels, Render, Rendered
from wallie_litellm.dashboard.render_process import RenderProcess, RenderProcessGone
from wallie_litellm.dashboard.single_flight import SingleFlight
from wallie_litellm.dashboard.view_model import Snapshot
from wallie_litellm.ledger.export import Format
from wallie_litellm.ledger.queries import LedgerQueries

__all__ = ["DashboardService", "LedgerUnavailable", "Rendered"]

T = TypeVar("T")

DRAWN_FOR: Final = 1.0  # seconds that a picture of the panels serves everybody
HELD_FOR: Final = 4.0  # seconds that whoever has the latest picture waits for the next, unless something happens
SOON: Final = 3.0  # seconds after an order in which what has come of it is looked for
LOOK_EVERY: Final = 0.25  # seconds between two looks whether something has
LAST_WORDS: Final = 2.0  # seconds that questions under way have when the desk closes


class DashboardService:
    """Answers what the page and the API ask. Its methods belong in any event loop but that of its own thread.

    ``aside`` has the drawing done in a process of its own. ``now`` is the wall clock.
    """

    def __init__(
        self,
        source: DashboardSource,
        config: WallieConfig,
        *,
        render: Render,
        aside: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self.config = config
        self._render = render
        self._aside = aside
        self._now = now
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._closed = False
        self._hurrying = False

    async def status(self) -> Mapping[str, Any]:
        """The guard's status at this moment."""
        return await self._there(self.source.status)

    async def snapshot(self, range_name: str) -> Snapshot:
        """Everything about one of ``RANGES``."""
        return await self._there(lambda: self._drawing.snapshot(range_name))

    async def panels(self, range_name: str, language: str, *, after: str = "") -> Rendered:
        """The panels, the same for everybody who looks within a second.

        Whoever has the version ``after`` is given the next one when a provider's state or a limit's colour changes,
        and after four seconds at the latest.
        """
        return await self._there(lambda: self._next(range_name, language, after))

    async def ask(self, question: Callable[[LedgerQueries], Awaitable[T]]) -> T:
        """Ask the ledger.

        Raises:
            LedgerUnavailable: it cannot answer.
        """
        return await self._there(lambda: self._drawing.ask(question))

    async def export(
        self, form: Format, kinds: Sequence[str], since: float | None, until: float | None
    ) -> AsyncIterator[str]:
        """The records of ``kinds`` in a range, piece by piece; begins only when the ledger is known to be readable.

        Raises:
            LedgerUnavailable: it cannot answer.
        """
        chunks = await self._there(lambda: self._drawing.open_export(form, kinds, since, until))
        return self._pieces(chunks)

    async def order(self, action: Action, provider: str, actor: str, detail: str | None = None) -> None:
        """See :meth:`DashboardSource.order`. Whoever looks next sees what has come of it."""

        async def do() -> None:
            try:
                self.source.order(action, provider, actor, detail)
            finally:
                self._ordered_at = time.monotonic()
                for kept in self._drawn.values():
                    kept.forget()

        await self._there(do)

    def release_waiting(self) -> None:
        """Answer at once whoever waits for something to happen, from now on: the server is about to end."""
        self._hurrying = True
        with self._lock:
            loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._happened.set)

    def close(self) -> None:
        """End the thread and the process. Idempotent."""
        with self._lock:
            self._closed, loop = True, self._loop
            self._loop = None
        if loop is not None and self._process == os.getpid():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)

    # Between the two event loops

    async def _there(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have ``work`` done in the thread."""
        loop = self._running_loop()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise LedgerUnavailable("the dashboard is closing")
            if self._loop is None or self._process != os.getpid():  # a forked child has no thread yet
                self._process, self._loop = os.getpid(), asyncio.new_event_loop()
                self._begin()
                threading.Thread(target=self._run, args=(self._loop,), name="wallie-dashboard", daemon=True).start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(self._come_to_an_end())
        finally:
            loop.close()

    # What follows runs in the thread.

    def _begin(self) -> None:
        self._drawing = Panels(self.source, self.config, self._render, self._now)
        self._painter = RenderProcess(self.config) if self._aside else None
        self._drawn: dict[tuple[str, str], SingleFlight] = {}
        self._outline = SingleFlight(self._look, time.monotonic, LOOK_EVERY)
        self._ordered_at = float("-inf")
        self._watch: asyncio.Task[None] | None = None
        self._happened = asyncio.Event()

    async def _next(self, range_name: str, language: str, after: str) -> Rendered:
        key = range_name, language
        if after:
            outline = await self._outline.get()
            if not self._hurrying and after.startswith(f"{outline}-"):
                await self._something_happens()
            elif key in self._drawn and not (await self._drawn[key].get()).etag.startswith(f"{outline}-"):
                self._drawn[key].forget()
        if key not in self._drawn:
            self._drawn[key] = SingleFlight(lambda: self._draw(*key), self._now, DRAWN_FOR)
        rendered: Rendered = await self._drawn[key].get()
        return rendered

    async def _draw(self, range_name: str, language: str) -> Rendered:
        status, anew = await self.source.status(), self._just_ordered()
        drawn = None
        if self._painter is not None and self._painter.ready:
            try:
                fleet = await self._drawing.fleet()
                drawn = await self._painter.draw(range_name, language, status, fleet, anew=anew)
            except RenderProcessGone:  # it has said so itself
                drawn = None
        if drawn is None:
            if anew:
                self._drawing.forget()
            drawn = await self._drawing.draw(range_name, language)
        return Rendered(drawn.html, drawn.compressed, f"{self._outline_of(status)}-{drawn.etag}")

    async def _look(self) -> str:
        return self._outline_of(await self.source.status())

    def _outline_of(self, status: Mapping[str, Any]) -> str:
        """What an operator should see at once, in short."""
        quota = self.config.quota
        seen = [
            (
                name,
                own["health"],
                own["breaker"]["state"],
                own["breaker"]["reason"],
                own["paused_for"] > 0,
                [
                    (one["utilization"] >= quota.warning, one["utilization"] >= quota.critical)
                    for one in own["quota"].values()
                ],
            )
            for kind in ("providers", "features")
            for name, own in status[kind].items()
        ]
        return sha256(repr((seen, status["store"]["state"])).encode()).hexdigest()[:12]

    async def _something_happens(self) -> None:
        """Wait until the outline changes, or long enough."""
        if self._watch is None or self._watch.done():
            self._watch = asyncio.ensure_future(self._keep_watch())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._happened.wait(), DRAWN_FOR if self._just_ordered() else HELD_FOR)

    def _just_ordered(self) -> bool:
        """Whether the ledger may be about to hear of an order."""
        return time.monotonic() - self._ordered_at < SOON

    async def _keep_watch(self) -> None:
        """One look for all who wait, as long as somebody may."""
        before, end = await self._outline.get(), time.monotonic() + 2 * HELD_FOR
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_EVERY)
            if await self._outline.get() != before:
                break
        for kept in self._drawn.values():
            kept.forget()
        self._happened.set()
        self._happened = asyncio.Event()

    async def _come_to_an_end(self) -> None:
        """Let questions that are with the database end: its thread would speak to a loop that is closed."""
        self._happened.set()
        if self._watch is not None:
            self._watch.cancel()
        painter, self._painter = self._painter, None
        if painter is not None:
            await painter.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_WORDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._drawing.close()

    async def _pieces(self, chunks: Any) -> AsyncIterator[str]:
        end, turn = object(), asyncio.Lock()

        async def following() -> Any:
            async with turn:
                return await anext(chunks, end)

        async def leave() -> None:
            async with turn:  # whoever still reads for a reader that has gone away ends first
                with suppress(Exception):
                    await chunks.aclose()

        try:
            # Shielded: a statement that is broken off spoils its connection.
            while (chunk := await asyncio.shield(self._there(following))) is not end:
                yield chunk.text
        finally:
            # A reader that has gone away is no reason to keep the database's transaction open.
            with suppress(Exception):
                await asyncio.shield(self._there(leave))
