"""The dashboard's service over a real guard and a real ledger."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ledger_support import ended, settled

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.models import LedgerSettings
from wallie_litellm.dashboard.guard_source import GuardSource
from wallie_litellm.dashboard.ledger_reader import LEDGER_RETRY, LedgerUnavailable
from wallie_litellm.dashboard.panel_feed import RENDER_TTL
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panels import FIGURES_FOR
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.view_model import Snapshot
from wallie_litellm.events import (
    BreakerChanged,
    Event,
    FellBack,
    HealthChanged,
    OperatorActed,
    QuotaCrossed,
    Settled,
    new_id,
)
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.figures import FallbackCount
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import record_of

NOW = 1_790_000_000.0


class Wall:
    """A wall clock that stands still."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> float:
        return self.at


class LineRenderer:
    """Renders a snapshot as a line of text, and counts how often."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[str] = set()

    def __call__(self, snapshot: Snapshot, language: str) -> str:
        self.count += 1
        self.threads.add(threading.current_thread().name)
        health = {one.name: one.health for one in snapshot.providers}
        return f"{language} {snapshot.range.name} {health['openai']} {snapshot.problem}"


def ledger_of(path: Path) -> str:
    return f"sqlite:///{path}/wallie.db"


def remove_ledger(path: Path) -> None:
    for file in path.glob("wallie.db*"):
        file.unlink()


async def write(url: str, events: Sequence[Event]) -> None:
    engine = open_engine(url)
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
        await connection.run_sync(insert_records, [record_of(event, "w1") for event in events])
    await engine.dispose()


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def renderer() -> LineRenderer:
    return LineRenderer()


@pytest.fixture
async def service(tmp_path: Path, wall: Wall, renderer: LineRenderer) -> AsyncIterator[DashboardService]:
    config = WallieConfig(ledger=LedgerSettings(url=ledger_of(tmp_path)))
    guard = Guard(config)
    made = DashboardService(GuardSource(guard), config, render=renderer, now=wall)
    yield made
    made.close()
    guard.close()


async def test_fifty_viewers_cost_one_rendering_a_second(
    service: DashboardService, renderer: LineRenderer, wall: Wall
) -> None:
    panels = await asyncio.gather(*(service.panels(PanelKey("24h", "en")) for _ in range(50)))
    assert renderer.count == 1
    assert len({one.version for one in panels}) == 1
    wall.at += RENDER_TTL / 2
    await service.panels(PanelKey("24h", "en"))
    assert renderer.count == 1
    wall.at += RENDER_TTL
    await service.panels(PanelKey("24h", "en"))
    assert renderer.count == 2


async def test_each_range_and_language_is_rendered_separately(service: DashboardService) -> None:
    assert (await service.panels(PanelKey("1h", "es"))).html.startswith(b"es 1h ")
    assert (await service.panels(PanelKey("7d", "en"))).html.startswith(b"en 7d ")


async def test_panels_are_rendered_in_the_services_own_thread(
    service: DashboardService, renderer: LineRenderer
) -> None:
    await service.panels(PanelKey("24h", "en"))
    assert renderer.threads == {"wallie-dashboard"}


async def test_the_next_panels_show_the_effect_of_an_action(service: DashboardService) -> None:
    assert b"healthy" in (await service.panels(PanelKey("24h", "en"))).html
    await service.act("open_circuit", "openai", "maria")
    assert b"down" in (await service.panels(PanelKey("24h", "en"))).html
    await service.act("release_circuit", "openai", "maria")
    assert b"degraded" in (await service.panels(PanelKey("24h", "en"))).html
    await service.act("close_circuit", "openai", "maria")
    assert b"healthy" in (await service.panels(PanelKey("24h", "en"))).html


async def test_the_next_panels_show_an_export(tmp_path: Path, wall: Wall) -> None:
    config = WallieConfig(ledger=LedgerSettings(url=ledger_of(tmp_path)))
    guard = Guard(config)
    service = DashboardService(
        GuardSource(guard),
        config,
        render=lambda snapshot, _: ", ".join(row.reason or "" for row in snapshot.figures.history),
        now=wall,
    )
    try:
        await write(ledger_of(tmp_path), [settled(at=NOW - 60)])
        assert (await service.panels(PanelKey("24h", "en"))).html == b""
        await service.record_export("maria", "attempt; 24h")
        await write(ledger_of(tmp_path), [OperatorActed(new_id(NOW), NOW, "maria", "export_csv", "", "attempt; 24h")])
        assert (await service.panels(PanelKey("24h", "en"))).html == b"attempt; 24h"
    finally:
        service.close()
        guard.close()


async def test_an_action_on_an_unknown_provider_is_an_error(service: DashboardService) -> None:
    with pytest.raises(ValueError, match="unknown"):
        await service.act("open_circuit", "unknown", "maria")


async def test_a_change_of_health_is_shown_within_a_second_whatever_the_ledger_does(
    service: DashboardService, wall: Wall, tmp_path: Path
) -> None:
    await write(ledger_of(tmp_path), [settled(at=NOW - 60)])
    assert b"healthy" in (await service.panels(PanelKey("24h", "en"))).html
    service.source.act("open_circuit", "openai", "another operator")
    wall.at += RENDER_TTL
    assert b"down" in (await service.panels(PanelKey("24h", "en"))).html


async def test_a_missing_ledger_file_is_reported_and_read_once_it_exists(
    service: DashboardService, wall: Wall, tmp_path: Path
) -> None:
    snapshot = await service.snapshot("24h")
    assert snapshot.figures is None
    assert "there is no file" in (snapshot.problem or "")
    with pytest.raises(LedgerUnavailable, match="there is no file"):
        await service.ask(lambda queries: queries.alerts())
    await write(ledger_of(tmp_path), [settled(at=NOW - 60)])
    wall.at += LEDGER_RETRY
    found = await service.snapshot("24h")
    assert found.problem is None
    assert found.figures is not None
    assert found.figures.total.attempts == 1


async def test_a_configuration_without_a_ledger_is_reported(wall: Wall, renderer: LineRenderer) -> None:
    config = WallieConfig(ledger=None)
    guard = Guard(config)
    service = DashboardService(GuardSource(guard), config, render=renderer, now=wall)
    try:
        assert "ledger: null" in ((await service.snapshot("1h")).problem or "")
    finally:
        service.close()
        guard.close()


async def test_a_broken_ledger_is_reported_and_read_again_after_its_repair(
    service: DashboardService, wall: Wall, tmp_path: Path
) -> None:
    await write(ledger_of(tmp_path), [settled(at=NOW - 60)])
    assert (await service.snapshot("1h")).problem is None
    with sqlite3.connect(tmp_path / "wallie.db") as connection:
        connection.execute("ALTER TABLE wallie_usage RENAME TO elsewhere")
        connection.execute("ALTER TABLE wallie_attempts RENAME TO elsewhere_too")
    wall.at += 100
    broken = await service.snapshot("1h")
    assert "cannot be read" in (broken.problem or "")
    assert broken.providers
    with sqlite3.connect(tmp_path / "wallie.db") as connection:
        connection.execute("ALTER TABLE elsewhere RENAME TO wallie_usage")
        connection.execute("ALTER TABLE elsewhere_too RENAME TO wallie_attempts")
    wall.at += 100
    assert (await service.snapshot("1h")).problem is None


async def test_a_removed_or_replaced_ledger_file_is_opened_anew(
    service: DashboardService, wall: Wall, tmp_path: Path
) -> None:
    await write(ledger_of(tmp_path), [settled(at=NOW - 60)])
    assert await attempts(service) == 1
    remove_ledger(tmp_path)
    wall.at += 100
    assert "there is no file" in ((await service.snapshot("1h")).problem or "")
    await write(ledger_of(tmp_path), [settled(at=NOW - 60), settled(at=NOW - 61)])
    wall.at += 100
    assert await attempts(service) == 2


async def test_the_snapshot_has_the_ledgers_figures(service: DashboardService, tmp_path: Path) -> None:
    served = settled(at=NOW - 600, provider="anthropic", model="claude-sonnet-4", cost_usd=0.5, total_tokens=300)
    failed = settled(at=NOW - 601, success=False, outcome="server_error", status_code=500, cost_usd=0.0, total_tokens=0)
    alert = QuotaCrossed(new_id(NOW - 5), NOW - 5, "openai", "rpd", "critical", 0.96, 96, 100, 30.0)
    action = OperatorActed(new_id(NOW - 4), NOW - 4, "maria", "open_circuit", "openai", "bad answers")
    await write(ledger_of(tmp_path), [failed, served, ended(failed, served), alert, action])
    snapshot = await service.snapshot("1h")
    figures = snapshot.figures
    assert figures is not None
    assert figures.since == NOW - 3600
    by_name = {one.name: one for one in snapshot.providers}
    assert by_name["anthropic"].attempts is not None
    assert by_name["anthropic"].attempts.total_tokens == 300
    assert by_name["anthropic"].requests is not None
    assert by_name["anthropic"].requests.fallback_rate == 1
    assert by_name["openai"].attempts is not None
    assert by_name["openai"].attempts.error_rate == 1
    assert by_name["groq"].attempts is None
    assert figures.costs.spent == pytest.approx(0.5)
    assert [(one.name, one.totals.cost_usd) for one in figures.usage.lines] == [("anthropic", 0.5), ("openai", 0.0)]
    assert [one.dimension for one in figures.alerts] == ["rpd"]
    assert [(one.kind, one.actor, one.after, one.reason) for one in figures.history] == [
        ("action", "maria", "open_circuit", "bad answers")
    ]
    assert {one.name: one.actual for one in figures.kpis}["critical_alerts"] == 1
    assert sum(sum(bucket.attempts.values()) for bucket in figures.series.buckets) == 2
    assert sum(bucket.failures for bucket in figures.series.buckets) == 1
    assert len(figures.series.buckets) == 61  # the first and the last are cut


async def test_the_last_minutes_and_the_day_are_read_beside_the_range(
    service: DashboardService, tmp_path: Path
) -> None:
    def failed(ago: float, **more: Any) -> Settled:
        return settled(at=NOW - ago, success=False, outcome="server_error", cost_usd=0.0, **more)

    late = failed(20, error="HTTP 503", status_code=503)
    by_caller = failed(10, error="cancelled", status_code=None)
    await write(
        ledger_of(tmp_path),
        [
            *(settled(at=NOW - 7_000), settled(at=NOW - 30), failed(40, error="timeout", status_code=None)),
            *(late, by_caller, ended(late), ended(settled(at=NOW - 5, provider="groq"), used_fallback=True)),
            FellBack(new_id(NOW - 19), NOW - 19, "r", "gpt-4o", "claude", "openai", "HTTP 503", None, None),
            FellBack(new_id(NOW - 900), NOW - 900, "r", "gpt-4o", "claude", "openai", "HTTP 503", None, None),
            BreakerChanged(new_id(NOW - 50), NOW - 50, "openai", "closed", "open", "HTTP 503", 30.0),
            HealthChanged(new_id(NOW - 4_000), NOW - 4_000, "openai", "healthy", "degraded", "HTTP 503"),
        ],
    )
    snapshot = await service.snapshot("1h")
    assert snapshot.impact is not None
    recent, day = snapshot.impact.recent, snapshot.day
    assert recent is not None
    assert day is not None
    assert (recent.requests.requests, recent.requests.failures, recent.requests.fallback_rate) == (2, 1, 1)
    assert (recent.by_provider["openai"].attempts, recent.by_provider["openai"].error_rate) == (4, 0.5)
    assert (recent.last_failures["openai"].error, recent.last_failures["openai"].status_code) == ("HTTP 503", 503)
    assert recent.fallbacks == [FallbackCount("openai", "claude", 1)]
    assert [one.type for one in day.changes] == ["breaker", "health"]
    assert sum(one.attempts for one in day.cells["openai"]) == 5


async def test_equal_fallbacks_are_one_counted_row_of_the_history(service: DashboardService, tmp_path: Path) -> None:
    def fell_back(at: float, to: str) -> FellBack:
        return FellBack(new_id(at), at, "r", "gpt-4o", to, "openai", "server error", None, None)

    opened = BreakerChanged(new_id(NOW - 50), NOW - 50, "openai", "closed", "open", "server error", 30.0)
    await write(ledger_of(tmp_path), [opened, *(fell_back(NOW - age, "claude") for age in range(40, 0, -1))])
    await write(ledger_of(tmp_path), [fell_back(NOW, "gemini")])
    figures = (await service.snapshot("1h")).figures
    assert figures is not None
    assert [(one.kind, one.after, one.times, one.at) for one in figures.history] == [
        ("fallback", "gemini", 1, NOW),
        ("fallback", "claude", 40, NOW - 1),
        ("breaker", "open", 1, NOW - 50),
    ]


async def test_figures_far_too_old_are_replaced_before_an_answer(
    service: DashboardService, wall: Wall, tmp_path: Path
) -> None:
    await write(ledger_of(tmp_path), [settled(at=NOW - 60)])
    assert await attempts(service) == 1
    await write(ledger_of(tmp_path), [settled(at=NOW - 50)])
    wall.at += FIGURES_FOR["1h"] * 10
    assert await attempts(service) == 2


async def attempts(service: DashboardService) -> int:
    figures = (await service.snapshot("1h")).figures
    assert figures is not None
    return figures.total.attempts


async def test_an_interrupted_export_releases_the_database(service: DashboardService, tmp_path: Path) -> None:
    await write(ledger_of(tmp_path), [settled(at=NOW - number) for number in range(3000)])
    pieces = await service.export("csv", ["attempt"], None, None)
    header, first = await anext(pieces), await anext(pieces)
    assert header.startswith("kind,id,at")
    assert len(first.splitlines()) == 1000
    await pieces.aclose()  # type: ignore[attr-defined] # it is a generator
    rest = [piece async for piece in await service.export("csv", ["attempt"], None, None)]
    assert sum(len(piece.splitlines()) for piece in rest) == 3001


async def test_a_closed_service_refuses_questions_and_may_be_closed_twice(service: DashboardService) -> None:
    await service.status()
    service.close()
    service.close()
    with pytest.raises(LedgerUnavailable, match="closing"):
        await service.status()


async def test_a_source_that_has_failed_is_asked_again(wall: Wall, renderer: LineRenderer) -> None:
    config = WallieConfig(ledger=None)
    guard = Guard(config)

    class Failing(GuardSource):
        failing = True

        async def status(self) -> Mapping[str, Any]:
            if self.failing:
                raise RuntimeError("not now")
            return await super().status()

    source = Failing(guard)
    service = DashboardService(source, config, render=renderer, now=wall)
    try:
        with pytest.raises(RuntimeError, match="not now"):
            await service.panels(PanelKey("1h", "en"))
        source.failing = False
        assert b"healthy" in (await service.panels(PanelKey("1h", "en"))).html
    finally:
        service.close()
        guard.close()
