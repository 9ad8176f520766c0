"""What the page shows, found out and drawn: from a source, which tells of the present, and the ledger, of the rest.

What is found is kept for a moment: fifty viewers cost what one costs.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.guard_source import DashboardSource
from wallie_litellm.dashboard.queries import gather, gather_news
from wallie_litellm.dashboard.single_flight import SingleFlight
from wallie_litellm.dashboard.view_model import RANGES, Figures, Snapshot, picture
from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.engine import file_of, inode_of
from wallie_litellm.ledger.export import Format, export
from wallie_litellm.ledger.kpis import PERIOD, Kpi, measure_kpis
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.reader import open_reader, reason

T = TypeVar("T")

FLEET_FOR: Final = 5.0  # seconds that the list of workers holds
NEWS_FOR: Final = 1.5  # seconds that the lists of alerts and of what happened hold
KPIS_FOR: Final = 30.0  # seconds that the key figures hold: they are of a month
FIGURES_FOR: Final[Mapping[str, float]] = {"1h": 2.0, "24h": 3.0, "7d": 10.0, "30d": 20.0}
LATE: Final = 3  # times as old as that, figures are waited for rather than shown
RETRY_IN: Final = 3.0  # seconds until a ledger that could not be read is tried again

#: Draws a snapshot in a language.
Render = Callable[[Snapshot, str], str]


class LedgerUnavailable(Exception):  # noqa: N818 - it says what happened
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


class Panels:
    """Belongs to one event loop. ``now`` is the wall clock."""

    def __init__(
        self, source: DashboardSource, config: WallieConfig, render: Render, now: Callable[[], float] = time.time
    ) -> None:
        self.source = source
        self.config = config
        self._render = render
        self._now = now
        self._figures = {name: self._keep_figures(name) for name in RANGES}
        self._kpis = SingleFlight(self._measure, now, KPIS_FOR)
        self._news = SingleFlight(lambda: self.ask(gather_news), now, NEWS_FOR)
        self._fleet = SingleFlight(source.fleet, now, FLEET_FOR)
        self._opened: AsyncExitStack | None = None
        self._engine: AsyncEngine | None = None
        self._problem: tuple[str, float] | None = None
        self._opening = asyncio.Lock()
        self._inode: tuple[int, int] | None = None

    async def draw(self, range_name: str, language: str) -> Rendered:
        """The panels for one of ``RANGES``."""
        html = self._render(await self.snapshot(range_name), language).encode()
        return Rendered(html, gzip.compress(html, 5, mtime=0), sha256(html).hexdigest()[:24])

    async def snapshot(self, range_name: str) -> Snapshot:
        """Everything about one of ``RANGES``."""
        figures: Figures | None = None
        problem = None
        try:
            sums: Figures = await self._figures[range_name].get(late=LATE * FIGURES_FOR[range_name])
            alerts, happenings = await self._news.get(late=NEWS_FOR)
            kpis = await self._kpis.get(late=10 * KPIS_FOR)
            figures = replace(sums, alerts=alerts, happenings=happenings, kpis=kpis)
        except LedgerUnavailable as error:
            problem = error.problem
        quota = self.config.quota
        return picture(
            await self.source.status(),
            await self.fleet(),
            RANGES[range_name],
            self._now(),
            (quota.warning, quota.critical),
            figures,
            problem,
        )

    async def fleet(self) -> Any:
        """Who keeps the limits."""
        return await self._fleet.get(late=FLEET_FOR)

    def forget(self) -> None:
        """Something was ordered: whoever looks next sees what has come of it."""
        for kept in (*self._figures.values(), self._news):
            kept.forget()

    def _keep_figures(self, name: str) -> SingleFlight:
        async def find() -> Figures:
            return await self.ask(lambda queries: gather(queries, RANGES[name], self._now()))

        return SingleFlight(find, self._now, FIGURES_FOR[name])

    async def _measure(self) -> list[Kpi]:
        return await self.ask(lambda queries: measure_kpis(queries, self.config.kpis, self._now() - PERIOD))

    # The ledger

    async def ask(self, question: Callable[[LedgerQueries], Awaitable[T]]) -> T:
        """Ask the ledger.

        Raises:
            LedgerUnavailable: it cannot answer.
        """
        engine = await self._reader()
        try:
            return await question(LedgerQueries(engine, self._now))
        except (ValueError, LedgerUnavailable):
            raise
        except Exception as error:
            await self.close()
            raise self._unreadable(f"the ledger cannot be read: {reason(error)}") from error

    async def _reader(self) -> AsyncEngine:
        if self.config.ledger is None:
            raise LedgerUnavailable("there is no ledger: the configuration says 'ledger: null'")
        async with self._opening:
            file = file_of(self.config.ledger.url)
            if self._engine is not None and self._inode != inode_of(file):  # it was removed, or replaced
                await self.close()
            if self._engine is not None:
                return self._engine
            if self._problem is not None and self._now() - self._problem[1] < RETRY_IN:
                raise LedgerUnavailable(self._problem[0])
            stack = AsyncExitStack()
            try:
                engine = await stack.enter_async_context(open_reader(self.config.ledger.url))
            except ConfigError as error:
                raise self._unreadable("; ".join(error.problems)) from error
            self._engine, self._opened, self._problem = engine, stack, None
            self._inode = inode_of(file)
            return engine

    def _unreadable(self, problem: str) -> LedgerUnavailable:
        self._problem = problem, self._now()
        return LedgerUnavailable(problem)

    async def open_export(
        self, form: Format, kinds: Sequence[str], since: float | None, until: float | None
    ) -> AsyncIterator[Any]:
        """The records of ``kinds`` in a range, in chunks.

        Raises:
            LedgerUnavailable: it cannot answer.
        """
        return export(await self._reader(), form, kinds, since, until)

    async def close(self) -> None:
        """Let go of the database."""
        opened, self._opened, self._engine = self._opened, None, None
        if opened is not None:
            with suppress(Exception):
                await opened.aclose()
