"""What all viewers share: one thread that asks the ledger and draws the page, however many look at it.

The thread has an event loop of its own, so that neither SQL nor templates take time from the loop that serves requests.
What it finds is kept for a moment: fifty viewers cost what one costs.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.figures import gather, gather_news
from wallie_litellm.dashboard.snapshot import RANGES, Figures, Snapshot, picture
from wallie_litellm.dashboard.source import Source
from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.database import reason
from wallie_litellm.ledger.export import Format, export
from wallie_litellm.ledger.kpis import PERIOD, Kpi, measure_kpis
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.reader import open_reader

logger = logging.getLogger(__name__)

T = TypeVar("T")

DRAWN_FOR: Final = 1.0  # seconds that a picture of the panels serves everybody
FLEET_FOR: Final = 5.0  # seconds that the list of workers holds
NEWS_FOR: Final = 1.5  # seconds that the lists of alerts and of what happened hold
KPIS_FOR: Final = 30.0  # seconds that the key figures hold: they are of a month
FIGURES_FOR: Final[Mapping[str, float]] = {"1h": 2.0, "24h": 3.0, "7d": 10.0, "30d": 20.0}
LATE: Final = 3  # times as old as that, figures are waited for rather than shown
LAST_WORDS: Final = 2.0  # seconds that questions under way have when the desk closes
RETRY_IN: Final = 3.0  # seconds until a ledger that could not be read is tried again


class NoLedger(Exception):  # noqa: N818 - it says what happened
    """There is no ledger, or it cannot be read; ``problem`` is one line that says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Rendered:
    """The panels as HTML, also compressed, and what names this version of them."""

    html: bytes
    compressed: bytes
    etag: str


class _Kept:
    """Something that is found out once for all who ask, and again when it has grown old."""

    def __init__(self, find: Callable[[], Awaitable[Any]], now: Callable[[], float], fresh_for: float) -> None:
        self._find, self._now, self._fresh_for = find, now, fresh_for
        self._value: Any = None
        self._found_at = float("-inf")
        self._finding: asyncio.Task[Any] | None = None

    async def get(self, late: float = 0.0) -> Any:
        """The value; one that is older, but by less than ``late`` seconds, serves while a new one is being found."""
        age = self._now() - self._found_at
        if age < self._fresh_for:
            return self._value
        if self._finding is None:
            self._finding = asyncio.ensure_future(self._renew())
            self._finding.add_done_callback(_look_at)  # perhaps nobody waits for it
        return self._value if age < self._fresh_for + late else await asyncio.shield(self._finding)

    def forget(self) -> None:
        """Find it anew for whoever asks next, though perhaps somebody is just finding it."""
        self._found_at, self._finding = float("-inf"), None

    async def _renew(self) -> Any:
        task = asyncio.current_task()
        try:
            value = await self._find()
            if self._finding is task:
                self._value, self._found_at = value, self._now()
            return value
        finally:
            if self._finding is task:
                self._finding = None


def _look_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


class Desk:
    """Answers what the page and the API ask. Its methods belong in any event loop but that of its own thread.

    ``render`` draws a snapshot in a language. ``now`` is the wall clock.
    """

    def __init__(
        self,
        source: Source,
        config: WallieConfig,
        *,
        render: Callable[[Snapshot, str], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self.config = config
        self._render = render
        self._now = now
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._closed = False
        self._forget_all()

    async def status(self) -> Mapping[str, Any]:
        """The guard's status at this moment."""
        return await self._there(self.source.status)

    async def snapshot(self, range_name: str) -> Snapshot:
        """Everything about one of ``RANGES``."""
        return await self._there(lambda: self._snapshot(range_name))

    async def panels(self, range_name: str, language: str) -> Rendered:
        """The panels, the same for everybody who looks within a second."""
        return await self._there(lambda: self._drawn(range_name, language))

    async def ask(self, question: Callable[[LedgerQueries], Awaitable[T]]) -> T:
        """Ask the ledger.

        Raises:
            NoLedger: it cannot answer.
        """
        return await self._there(lambda: self._ask(question))

    async def export(
        self, form: Format, kinds: Sequence[str], since: float | None, until: float | None
    ) -> AsyncIterator[str]:
        """The records of ``kinds`` in a range, piece by piece; begins only when the ledger is known to be readable.

        Raises:
            NoLedger: it cannot answer.
        """
        chunks = await self._there(lambda: self._open_export(form, kinds, since, until))
        return self._pieces(chunks)

    async def order(self, action: Any, provider: str, actor: str, detail: str | None = None) -> None:
        """See :meth:`Source.order`. Whoever looks next sees what has come of it."""

        async def do() -> None:
            try:
                self.source.order(action, provider, actor, detail)
            finally:
                for kept in (*self._drawings.values(), *self._figures.values(), self._news):
                    kept.forget()

        await self._there(do)

    def close(self) -> None:
        """End the thread. Idempotent."""
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
                raise NoLedger("the dashboard is closing")
            if self._loop is None or self._process != os.getpid():  # a forked child has no thread yet
                self._process, self._loop = os.getpid(), asyncio.new_event_loop()
                self._forget_all()
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

    def _forget_all(self) -> None:
        self._drawings: dict[tuple[str, str], _Kept] = {}
        self._figures = {name: self._keep_figures(name) for name in RANGES}
        self._kpis = _Kept(self._measure, self._now, KPIS_FOR)
        self._news = _Kept(lambda: self._ask(gather_news), self._now, NEWS_FOR)
        self._fleet = _Kept(self.source.fleet, self._now, FLEET_FOR)
        self._opened: AsyncExitStack | None = None
        self._engine: AsyncEngine | None = None
        self._problem: tuple[str, float] | None = None
        self._opening: asyncio.Lock | None = None

    def _keep_figures(self, name: str) -> _Kept:
        async def find() -> Figures:
            return await self._ask(lambda queries: gather(queries, RANGES[name], self._now()))

        return _Kept(find, self._now, FIGURES_FOR[name])

    async def _measure(self) -> list[Kpi]:
        return await self._ask(lambda queries: measure_kpis(queries, self.config.kpis, self._now() - PERIOD))

    async def _snapshot(self, range_name: str) -> Snapshot:
        figures: Figures | None = None
        problem = None
        try:
            sums: Figures = await self._figures[range_name].get(late=LATE * FIGURES_FOR[range_name])
            alerts, happenings = await self._news.get(late=NEWS_FOR)
            kpis = await self._kpis.get(late=10 * KPIS_FOR)
            figures = replace(sums, alerts=alerts, happenings=happenings, kpis=kpis)
        except NoLedger as error:
            problem = error.problem
        quota = self.config.quota
        return picture(
            await self.source.status(),
            await self._fleet.get(late=FLEET_FOR),
            RANGES[range_name],
            self._now(),
            (quota.warning, quota.critical),
            figures,
            problem,
        )

    async def _drawn(self, range_name: str, language: str) -> Rendered:
        key = range_name, language
        drawing = self._drawings.get(key)
        if drawing is None:
            drawing = self._drawings[key] = _Kept(lambda: self._draw(*key), self._now, DRAWN_FOR)
        rendered: Rendered = await drawing.get()
        return rendered

    async def _draw(self, range_name: str, language: str) -> Rendered:
        html = self._render(await self._snapshot(range_name), language).encode()
        return Rendered(html, gzip.compress(html, 5, mtime=0), f'"{sha256(html).hexdigest()[:24]}"')

    # The ledger

    async def _ask(self, question: Callable[[LedgerQueries], Awaitable[T]]) -> T:
        engine = await self._reader()
        try:
            return await question(LedgerQueries(engine, self._now))
        except (ValueError, NoLedger):
            raise
        except Exception as error:
            await self._dispose()
            raise self._unreadable(f"the ledger cannot be read: {reason(error)}") from error

    async def _reader(self) -> AsyncEngine:
        if self.config.ledger is None:
            raise NoLedger("there is no ledger: the configuration says 'ledger: null'")
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._engine is not None:
                return self._engine
            if self._problem is not None and self._now() - self._problem[1] < RETRY_IN:
                raise NoLedger(self._problem[0])
            stack = AsyncExitStack()
            try:
                engine = await stack.enter_async_context(open_reader(self.config.ledger.url))
            except ConfigError as error:
                raise self._unreadable("; ".join(error.problems)) from error
            self._engine, self._opened, self._problem = engine, stack, None
            return engine

    def _unreadable(self, problem: str) -> NoLedger:
        self._problem = problem, self._now()
        return NoLedger(problem)

    async def _come_to_an_end(self) -> None:
        """Let questions that are with the database end: its thread would speak to a loop that is closed."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_WORDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._dispose()

    async def _dispose(self) -> None:
        opened, self._opened, self._engine = self._opened, None, None
        if opened is not None:
            with suppress(Exception):
                await opened.aclose()

    async def _open_export(
        self, form: Format, kinds: Sequence[str], since: float | None, until: float | None
    ) -> AsyncIterator[Any]:
        return export(await self._reader(), form, kinds, since, until)

    async def _pieces(self, chunks: Any) -> AsyncIterator[str]:
        end = object()

        async def following() -> Any:
            return await anext(chunks, end)

        async def leave() -> None:
            await chunks.aclose()

        try:
            while (chunk := await self._there(following)) is not end:
                yield chunk.text
        finally:
            # A reader that has gone away is no reason to keep the database's transaction open.
            with suppress(Exception):
                await asyncio.shield(self._there(leave))
