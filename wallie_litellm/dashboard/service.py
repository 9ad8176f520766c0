"""What all viewers share: one thread, and a process, that read the ledger and render, however many there are.

The thread has an event loop of its own, so that questions to the ledger take no time from the loop that serves
requests; the render process does what takes longer than a moment.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.changes import ConfigChange
from wallie_litellm.dashboard.ledger_reader import LedgerReader, LedgerUnavailable
from wallie_litellm.dashboard.panel_feed import PanelFeed, VersionedPanels
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panel_version import PanelVersion
from wallie_litellm.dashboard.panels import Panels, Render
from wallie_litellm.dashboard.render_process import RenderProcess
from wallie_litellm.dashboard.source import Action, DashboardSource
from wallie_litellm.dashboard.usage_tables import DEFAULT_BY, By
from wallie_litellm.dashboard.view_model import Snapshot
from wallie_litellm.guard.live_config import Prepared, Reloaded
from wallie_litellm.ledger.export import Format
from wallie_litellm.ledger.queries import LedgerQueries

T = TypeVar("T")


class DashboardService:
    """Answers the page's and the API's questions. Its methods may be awaited in any event loop but its thread's own.

    ``aside`` has the page rendered in a process of its own. ``now`` is the wall clock.
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
        self._thread: _LoopThread | None = None
        self._closed = False
        self._shutdown = threading.Event()

    @property
    def zone(self) -> str:
        """IANA name of the time zone that times are in where nothing else is known of a viewer."""
        return self.config.dashboard.timezone or "UTC"

    async def status(self) -> Mapping[str, Any]:
        """The source's status at this moment."""
        return await self._in_thread(lambda _: self.source.status())

    async def limits(self) -> Mapping[str, Any]:
        """The source's limits at this moment."""
        return await self._in_thread(lambda _: self.source.limits())

    async def present(self) -> Snapshot:
        """The present, the last minutes and the last day, without the figures of a range."""
        return await self._in_thread(lambda feed: feed.panels.present())

    async def snapshot(self, range_name: str, by: By = DEFAULT_BY) -> Snapshot:
        """Everything about one of ``RANGES``, with the use by ``by``."""
        return await self._in_thread(lambda feed: feed.panels.snapshot(range_name, by))

    async def panels(self, key: PanelKey, *, after: PanelVersion | None = None) -> VersionedPanels:
        """The panels of ``key``, the same for all its viewers within a second.

        A client that has the present version names it as ``after``: it is answered when a provider's state or a
        limit's colour changes, and after four seconds at the latest.
        """
        return await self._in_thread(lambda feed: feed.next(key, after))

    async def ask(self, question: Callable[[LedgerQueries], Awaitable[T]]) -> T:
        """The ledger's answer to ``question``.

        Raises:
            LedgerUnavailable: the ledger cannot be read.
        """
        return await self._in_thread(lambda feed: feed.ledger.ask(question))

    async def export(
        self, form: Format, kinds: Sequence[str], since: float | None, until: float | None
    ) -> AsyncIterator[str]:
        """The records of ``kinds`` between ``since`` and ``until`` (Unix seconds), piece by piece.

        Raises:
            LedgerUnavailable: the ledger cannot be read; that is found out before the first piece.
        """
        chunks = await self._in_thread(lambda feed: feed.ledger.open_export(form, kinds, since, until))
        return self._pieces(chunks)

    async def act(
        self, action: Action, provider: str, actor: str, detail: str | None = None, model: str | None = None
    ) -> None:
        """Carry out ``action``, as the source does; the panels that are rendered next show its effect.

        Raises:
            ValueError: there is no such provider, or no such model at it.
            ActionRefused: the source is read-only.
        """
        await self._in_thread(lambda feed: feed.act(action, provider, actor, detail, model))

    async def switch(self, name: str, actor: str, detail: str | None = None, *, on: bool) -> None:
        """Switch a decision of routing off, or on again; the panels that are rendered next show it.

        Raises:
            ValueError: there is no such switch.
            ActionRefused: the source is read-only.
        """
        await self._in_thread(lambda feed: feed.switch(name, actor, detail, on=on))

    async def reload(self, actor: str, detail: str | None = None) -> Reloaded:
        """Take up the changed configuration; the panels that are rendered next show it.

        Raises:
            ConfigError: it cannot be used; what is in force stays so.
            ActionRefused: the source is read-only.
        """
        return await self._in_thread(lambda feed: feed.reload(actor, detail))

    def prepare_reload(self, change: ConfigChange) -> Prepared:
        """Show what goes by another configuration."""
        return Prepared(partial(self._configure, change.new.wallie))

    def _configure(self, config: WallieConfig) -> None:
        self.config = config
        with self._lock:
            thread = self._thread
        if thread is not None and thread.process == os.getpid():
            with suppress(RuntimeError):  # the thread has ended
                asyncio.run_coroutine_threadsafe(thread.feed.configure(config), thread.loop)

    async def conclude_experiment(self, name: str, winner: str, actor: str, detail: str | None = None) -> None:
        """End an experiment, as the source does; the panels that are rendered next show it.

        Raises:
            AlreadyConcluded: it was concluded before.
            ValueError: there is no such experiment or arm.
            ActionRefused: the source is read-only.
        """
        await self._in_thread(lambda feed: feed.conclude_experiment(name, winner, actor, detail))

    async def resume_arm(self, name: str, arm: str, actor: str, detail: str | None = None) -> None:
        """Have a stopped arm take its units again, as the source does; the panels that are rendered next show it.

        Raises:
            ValueError: there is no such experiment or arm, or it is not stopped.
            ActionRefused: the source is read-only.
        """
        await self._in_thread(lambda feed: feed.resume_arm(name, arm, actor, detail))

    async def feedback(self, request_id: str, value: float) -> None:
        """Record feedback, from 0 to 1, on the answer to a request.

        Raises:
            ValueError: that is no request's id, or no value.
            ActionRefused: the source is read-only.
        """
        await self._in_thread(lambda feed: feed.feedback(request_id, value))

    async def record_export(self, actor: str, detail: str) -> None:
        """Put an export on record; the panels that are rendered next show it. ``detail`` says what was exported."""
        await self._in_thread(lambda feed: feed.record_export(actor, detail))

    def release_waiting(self) -> None:
        """Answer the clients that wait for a change, and let none wait from now on: the server is about to end."""
        self._shutdown.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            with suppress(RuntimeError):
                thread.loop.call_soon_threadsafe(thread.feed.release_waiting)

    def close(self) -> None:
        """End the thread and the process. Idempotent."""
        with self._lock:
            self._closed, thread = True, self._thread
            self._thread = None
        if thread is not None and thread.process == os.getpid():
            with suppress(RuntimeError):
                thread.loop.call_soon_threadsafe(thread.loop.stop)

    async def _in_thread(self, work: Callable[[PanelFeed], Coroutine[Any, Any, T]]) -> T:
        """The result of ``work``, which runs in the thread's event loop."""
        thread = self._running_thread()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(thread.feed), thread.loop))

    def _running_thread(self) -> _LoopThread:
        with self._lock:
            if self._closed:
                raise LedgerUnavailable("the dashboard is closing")
            if self._thread is None or self._thread.process != os.getpid():  # a forked child has no thread yet
                self._thread = _LoopThread(os.getpid(), asyncio.new_event_loop(), self._make_feed())
                threading.Thread(target=self._thread.run, name="wallie-dashboard", daemon=True).start()
            return self._thread

    def _make_feed(self) -> PanelFeed:
        ledger = LedgerReader(self.config.ledger, self._now)
        panels = Panels(self.source, ledger, self.config, self._render, self._now)
        render_process = RenderProcess(self.config) if self._aside else None
        return PanelFeed(self.source, ledger, panels, render_process, self.config.quota, self._shutdown, self._now)

    async def _pieces(self, chunks: Any) -> AsyncIterator[str]:
        end, turn = object(), asyncio.Lock()

        async def read_next() -> Any:
            async with turn:
                return await anext(chunks, end)

        async def close() -> None:
            async with turn:  # a read that was begun for a client which has gone away ends first
                with suppress(Exception):
                    await chunks.aclose()

        try:
            # Shielded: a statement that is broken off spoils its connection.
            while (chunk := await asyncio.shield(self._in_thread(lambda _: read_next()))) is not end:
                yield chunk.text
        finally:
            # A client that has gone away must not keep the database's transaction open.
            with suppress(Exception):
                await asyncio.shield(self._in_thread(lambda _: close()))


class _LoopThread(NamedTuple):
    """The thread's event loop and what runs in it; ``process`` is the id of the process that started it."""

    process: int
    loop: asyncio.AbstractEventLoop
    feed: PanelFeed

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.feed.close())
        finally:
            self.loop.close()
