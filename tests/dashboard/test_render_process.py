"""The process that renders the panels, the thread in its place, and long polling."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledger_support import settled
from support import until
from test_service import ledger_of, write
from turns import Turns

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.models import KpiSettings, LedgerSettings
from wallie_litellm.dashboard.change_watch import LONG_POLL_SECONDS
from wallie_litellm.dashboard.guard_source import GuardSource
from wallie_litellm.dashboard.html import render_panels
from wallie_litellm.dashboard.panel_feed import PanelFeed
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panel_version import PanelVersion
from wallie_litellm.dashboard.render_process import _settings_of
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.view_model import Snapshot
from wallie_litellm.guard import Guard

MARK = "rendered in the thread"


def render(snapshot: Snapshot, language: str) -> str:
    """Marks the thread's panels, since the process's do not come from here."""
    return f"<!--{MARK}-->{render_panels(snapshot, language)}"


@pytest.fixture
async def guard(tmp_path: Path) -> AsyncIterator[Guard]:
    made = Guard(WallieConfig(ledger=LedgerSettings(url=ledger_of(tmp_path))))
    yield made
    made.close()


@pytest.fixture
async def service(guard: Guard) -> AsyncIterator[DashboardService]:
    made = DashboardService(GuardSource(guard), guard.config, render=render, aside=True)
    yield made
    made.close()


def feed_of(service: DashboardService) -> PanelFeed:
    assert service._thread is not None
    return service._thread.feed


def process_of(service: DashboardService) -> int:
    """The render process's id."""
    render_process = feed_of(service).render_process
    assert render_process is not None
    assert render_process.pid is not None
    return render_process.pid


async def from_process(service: DashboardService) -> str:
    """The panels once the process renders them; the thread does until it has started."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        html = (await service.panels(PanelKey("1h", "en"))).html.decode()
        if MARK not in html:
            return html
        feed_of(service).forget()
        await asyncio.sleep(0.1)
    raise AssertionError("the process never renders")


async def test_the_first_panels_do_not_wait_for_the_process(service: DashboardService) -> None:
    assert MARK in (await service.panels(PanelKey("1h", "en"))).html.decode()


async def test_the_process_renders_the_guards_status_and_the_ledgers_figures(
    service: DashboardService, guard: Guard, tmp_path: Path
) -> None:
    await write(ledger_of(tmp_path), [settled(at=time.time() - 5, total_tokens=4321)])
    guard.open_circuit("groq")
    html = await from_process(service)
    assert "4,321" in html
    assert 'data-value="forced_open"' in html


async def test_the_process_goes_by_a_configuration_that_is_reloaded(
    service: DashboardService, guard: Guard, tmp_path: Path
) -> None:
    await write(ledger_of(tmp_path), [settled(at=time.time() - 5)])
    await from_process(service)
    process = process_of(service)
    service._configure(guard.config.model_copy(update={"kpis": KpiSettings(monthly_cost=1234.0)}))
    end = time.monotonic() + 30
    while "1,234" not in await from_process(service):
        assert time.monotonic() < end, "the target is never shown"
        feed_of(service).forget()
        await asyncio.sleep(0.1)
    assert process_of(service) == process


async def test_when_the_process_is_killed_the_thread_renders_and_another_is_started(
    service: DashboardService, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallie_litellm.dashboard.render_process.RESTART_AFTER", 0.0)
    await from_process(service)
    first = process_of(service)
    os.kill(first, signal.SIGKILL)
    feed_of(service).forget()
    guard.open_circuit("openai")
    assert "forced_open" in (await service.panels(PanelKey("1h", "en"))).html.decode()
    await from_process(service)
    assert process_of(service) != first


async def test_the_thread_renders_when_the_process_cannot_be_started(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    for _ in range(3):
        assert MARK in (await service.panels(PanelKey("1h", "en"))).html.decode()
        feed_of(service).forget()


async def test_closing_the_service_ends_the_process(service: DashboardService) -> None:
    await from_process(service)
    process = process_of(service)
    service.close()
    await until(lambda: not Path(f"/proc/{process}").exists())


async def test_a_client_with_the_present_version_waits_for_a_change(
    service: DashboardService, guard: Guard, turns: Turns
) -> None:
    version = (await service.panels(PanelKey("1h", "en"))).version
    waiting = asyncio.ensure_future(service.panels(PanelKey("1h", "en"), after=version))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    guard.open_circuit("groq")
    began = turns.now()
    assert (await waiting).version != version
    assert turns.now() - began < LONG_POLL_SECONDS / 2


async def test_a_client_with_an_old_version_does_not_wait(
    service: DashboardService, guard: Guard, turns: Turns
) -> None:
    version = (await service.panels(PanelKey("1h", "en"))).version
    guard.update_usage("openai", 495)  # over the limit's warning, and its critical share
    await asyncio.sleep(0.3)
    began = turns.now()
    assert "critical" in (await service.panels(PanelKey("1h", "en"), after=version)).html.decode()
    assert turns.now() - began < LONG_POLL_SECONDS / 2


async def test_a_garbage_version_counts_as_an_old_one(service: DashboardService) -> None:
    assert (await service.panels(PanelKey("1h", "en"), after=PanelVersion.parse("x-y-z"))).html


def test_the_process_goes_by_all_sections_that_panels_are_made_of() -> None:
    arms = {"gpt-4o": 0.5, "gpt-4o-mini": 0.5}
    config = WallieConfig.model_validate(
        {
            "features": {"chat": {"tier": "flash", "limits": {"rpm": 5}}},
            "routing": {"tiers": {"flash": ["gpt-4o"]}},
            "experiments": {"model": {"feature": "chat", "arms": arms, "metric": "cost"}},
            "dashboard": {"timezone": "Europe/Berlin"},
        }
    )
    sent = WallieConfig.model_validate(_settings_of(config))
    assert (sent.experiments, sent.dashboard, sent.kpis) == (config.experiments, config.dashboard, config.kpis)
