"""The panels of the page: from the source's present and the ledger's figures to HTML.

What is found is kept for a moment, so that fifty viewers cost what one costs.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.dashboard.impact import assess_impact
from wallie_litellm.dashboard.ledger_reader import LedgerReader, LedgerUnavailable
from wallie_litellm.dashboard.page_ranges import range_of
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.provider_html import render_provider_panels
from wallie_litellm.dashboard.provider_queries import ProviderFigures, gather_provider
from wallie_litellm.dashboard.queries import gather_figures, gather_recent
from wallie_litellm.dashboard.recent_queries import gather_health_day, gather_recent_traffic
from wallie_litellm.dashboard.recent_traffic import HealthDay, Impact, RecentTraffic
from wallie_litellm.dashboard.series_queries import ends_of
from wallie_litellm.dashboard.single_flight import SingleFlight
from wallie_litellm.dashboard.source import DashboardSource
from wallie_litellm.dashboard.usage_tables import DEFAULT_BY, By, UsageTable, gather_usage
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE, RANGES, Figures, Fleet, Range, Snapshot, build_snapshot
from wallie_litellm.ledger.experiments import ExperimentFigures
from wallie_litellm.ledger.kpis import PERIOD, Kpi, measure_kpis

FLEET_FOR: Final = 5.0  # seconds, how long the list of workers is reused
RECENT_FOR: Final = 1.5  # seconds, how long the lists of alerts and of the history are reused
TRAFFIC_FOR: Final = 2.0  # seconds, how long the figures of the last minutes are reused
HEALTH_DAY_FOR: Final = 30.0  # seconds, how long the strips of 24 hours are reused
EXPERIMENTS_FOR: Final = 60.0  # seconds, how long the figures of experiments are reused: they are of all its requests
KPIS_FOR: Final = 30.0  # seconds, how long the key figures are reused: they are of a month
FIGURES_FOR: Final[Mapping[str, float]] = {"1h": 2.0, "24h": 3.0, "7d": 10.0, "30d": 20.0}  # seconds, by range
MOST_RANGES: Final = 64  # whose figures are kept: free ranges have no number
STALE: Final = 3  # times FIGURES_FOR, for which old figures are shown while new ones are found
STALE_KPIS: Final = 10  # times KPIS_FOR, for which old key figures are

Render = Callable[[Snapshot, str], str]  # the HTML of a snapshot in a language


def fresh_for(chosen: Range) -> float:
    """How long the figures of a range are reused, in seconds."""
    longer = (FIGURES_FOR[name] for name, one in RANGES.items() if chosen.seconds <= one.seconds)
    return next(longer, FIGURES_FOR["30d"])


@dataclass(frozen=True, slots=True)
class Rendered:
    """The panels as HTML, also compressed, and the HTML's hash."""

    html: bytes
    compressed: bytes
    etag: str


class Panels:
    """Builds and renders snapshots. Belongs to one event loop. ``now`` is the wall clock."""

    def __init__(
        self,
        source: DashboardSource,
        ledger: LedgerReader,
        config: WallieConfig,
        render: Render,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._config = config
        self._render = render
        self._now = now
        self._figures: LastUsed[str, SingleFlight[Figures]] = LastUsed(MOST_RANGES)
        self._usage: LastUsed[tuple[str, By], SingleFlight[UsageTable]] = LastUsed(MOST_RANGES)
        self._providers: LastUsed[tuple[str, str], SingleFlight[ProviderFigures]] = LastUsed(MOST_RANGES)
        self._kpis = SingleFlight(self._measure_kpis, now, KPIS_FOR)
        self._experiments = SingleFlight(self._measure_experiments, now, EXPERIMENTS_FOR)
        self._recent = SingleFlight(lambda: ledger.ask(gather_recent), now, RECENT_FOR)
        self._traffic = SingleFlight(self._gather_traffic, now, TRAFFIC_FOR)
        self._day = SingleFlight(self._gather_day, now, HEALTH_DAY_FOR)
        self._fleet = SingleFlight(source.fleet, now, FLEET_FOR)

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on."""
        self._config = config
        self._kpis.forget()
        self._experiments.forget()

    async def render(self, key: PanelKey) -> Rendered:
        """The panels of ``key``."""
        if key.provider:
            html = (await self._provider_page(key)).encode()
        else:
            found = replace(await self.snapshot(key.range_name, key.by), zone=key.zone)
            html = self._render(found, key.language).encode()
        return Rendered(html, gzip.compress(html, 5, mtime=0), sha256(html).hexdigest()[:24])

    async def _provider_page(self, key: PanelKey) -> str:
        chosen, found, problem = range_of(key.range_name), None, ""
        figures = self._providers.use((key.range_name, key.provider), lambda: self._provider_of(chosen, key.provider))
        try:
            found = await figures.get(stale_for=STALE * fresh_for(chosen))
        except LedgerUnavailable as error:
            problem = error.problem
        return render_provider_panels(replace(await self.present(), zone=key.zone), key, chosen, found, problem)

    async def snapshot(self, range_name: str, by: By = DEFAULT_BY) -> Snapshot:
        """Everything that the panels show for a range, with the use by ``by``."""
        figures: Figures | None = None
        recent: RecentTraffic | None = None
        day: HealthDay | None = None
        problem, chosen = None, range_of(range_name)
        try:
            stale = STALE * fresh_for(chosen)
            sums = await self._figures.use(range_name, lambda: self._figures_of(chosen)).get(stale_for=stale)
            usage = await self._usage.use((range_name, by), lambda: self._usage_of(chosen, by)).get(stale_for=stale)
            alerts, history = await self._recent.get(stale_for=RECENT_FOR)
            kpis = await self._kpis.get(stale_for=STALE_KPIS * KPIS_FOR)
            experiments = await self._experiments.get(stale_for=STALE * EXPERIMENTS_FOR)
            recent = await self._traffic.get(stale_for=STALE * TRAFFIC_FOR)
            day = await self._day.get(stale_for=STALE * HEALTH_DAY_FOR)
            figures = replace(sums, usage=usage, alerts=alerts, history=history, kpis=kpis, experiments=experiments)
        except LedgerUnavailable as error:
            problem, recent, day = error.problem, None, None
        found = await self._present(range_name, figures, problem)
        return replace(found, impact=_impact(found, recent, day), day=day)

    async def present(self) -> Snapshot:
        """The present, the last minutes and the last day, without the figures of a range."""
        recent, day = None, None
        with suppress(LedgerUnavailable):
            day = await self._day.get(stale_for=STALE * HEALTH_DAY_FOR)
            recent = await self._traffic.get(stale_for=STALE * TRAFFIC_FOR)
        found = await self._present(DEFAULT_RANGE, None, None)
        return replace(found, impact=_impact(found, recent, day), day=day)

    async def _present(self, range_name: str, figures: Figures | None, problem: str | None) -> Snapshot:
        quota = self._config.quota
        return build_snapshot(
            await self._source.status(),
            await self.fleet(),
            range_of(range_name),
            self._now(),
            (quota.warning, quota.critical),
            figures,
            problem,
        )

    async def fleet(self) -> Fleet:
        """Which store holds the limits, and which processes share it."""
        return await self._fleet.get(stale_for=FLEET_FOR)

    def forget(self) -> None:
        """Read the ledger's figures and recent records anew: an action has changed them."""
        for _, figures in self._figures.items():
            figures.forget()
        for _, usage in self._usage.items():
            usage.forget()
        for _, provider in self._providers.items():
            provider.forget()
        self._recent.forget()
        self._traffic.forget()
        self._experiments.forget()

    def _figures_of(self, chosen: Range) -> SingleFlight[Figures]:
        async def find() -> Figures:
            return await self._ledger.ask(lambda queries: gather_figures(queries, chosen, self._now()))

        return SingleFlight(find, self._now, fresh_for(chosen))

    def _usage_of(self, chosen: Range, by: By) -> SingleFlight[UsageTable]:
        async def find() -> UsageTable:
            since, until = ends_of(chosen, self._now())
            return await self._ledger.ask(lambda queries: gather_usage(queries, by, since, until))

        return SingleFlight(find, self._now, fresh_for(chosen))

    def _provider_of(self, chosen: Range, provider: str) -> SingleFlight[ProviderFigures]:
        async def find() -> ProviderFigures:
            return await self._ledger.ask(lambda queries: gather_provider(queries, provider, chosen, self._now()))

        return SingleFlight(find, self._now, fresh_for(chosen))

    async def _gather_traffic(self) -> RecentTraffic:
        return await self._ledger.ask(lambda queries: gather_recent_traffic(queries, self._now()))

    async def _gather_day(self) -> HealthDay:
        return await self._ledger.ask(lambda queries: gather_health_day(queries, self._now()))

    async def _measure_experiments(self) -> list[ExperimentFigures]:
        stated = self._config.experiments
        return await self._ledger.ask(lambda queries: queries.experiments(stated)) if stated else []

    async def _measure_kpis(self) -> list[Kpi]:
        return await self._ledger.ask(lambda queries: measure_kpis(queries, self._config.kpis, self._now() - PERIOD))


def _impact(found: Snapshot, recent: RecentTraffic | None, day: HealthDay | None) -> Impact:
    # The day's changes are up to a while old: those of the last minutes come first.
    changes = [*(recent.changes if recent is not None else ()), *(day.changes if day is not None else ())]
    return assess_impact(found.providers, found.features, changes, recent)
