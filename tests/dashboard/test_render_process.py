"""The process that draws the page, and what happens when it is not there."""

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

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.models import LedgerSettings
from wallie_litellm.dashboard.guard_source import GuardSource
from wallie_litellm.dashboard.html import render_panels
from wallie_litellm.dashboard.service import HELD_FOR, DashboardService
from wallie_litellm.dashboard.view_model import Snapshot
from wallie_litellm.guard import Guard

MARK = "drawn in the thread"


def render(snapshot: Snapshot, language: str) -> str:
    """Tells the thread's drawings from the process's, which do not come from here."""
    return f"<!--{MARK}-->{render_panels(snapshot, language)}"


@pytest.fixture
async def guard(tmp_path: Path) -> AsyncIterator[Guard]:
    made = Guard(WallieConfig(ledger=LedgerSettings(url=ledger_of(tmp_path))))
    yield made
    made.close()


@pytest.fixture
async def desk(guard: Guard) -> AsyncIterator[DashboardService]:
    made = DashboardService(GuardSource(guard), guard.config, render=render, aside=True)
    yield made
    made.close()


async def from_process(desk: DashboardService) -> str:
    """The panels once the process draws them; the thread does until it is there."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        html = (await desk.panels("1h", "en")).html.decode()
        if MARK not in html:
            return html
        desk._drawn.clear()
        await asyncio.sleep(0.1)
    raise AssertionError("the process never draws")


async def test_the_first_picture_does_not_wait_for_the_process(desk: DashboardService) -> None:
    assert MARK in (await desk.panels("1h", "en")).html.decode()


async def test_the_process_shows_what_the_guard_says_and_the_ledger_holds(
    desk: DashboardService, guard: Guard, tmp_path: Path
) -> None:
    await write(ledger_of(tmp_path), [settled(at=time.time() - 5, total_tokens=4321)])
    guard.open_circuit("groq")
    html = await from_process(desk)
    assert "4,321" in html
    assert 'data-value="forced_open"' in html


async def test_when_the_process_is_killed_the_thread_draws_and_another_is_started(
    desk: DashboardService, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallie_litellm.dashboard.render_process.RETRY_IN", 0.0)
    await from_process(desk)
    assert desk._painter is not None
    assert desk._painter._process is not None
    first = desk._painter._process.pid
    os.kill(first, signal.SIGKILL)
    desk._drawn.clear()
    guard.open_circuit("openai")
    assert "forced_open" in (await desk.panels("1h", "en")).html.decode()
    await from_process(desk)
    assert desk._painter._process.pid != first


async def test_a_process_that_cannot_be_started_is_missed_by_nobody(
    desk: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    for _ in range(3):
        assert MARK in (await desk.panels("1h", "en")).html.decode()
        desk._drawn.clear()


async def test_closing_the_desk_ends_the_process(desk: DashboardService) -> None:
    await from_process(desk)
    assert desk._painter is not None
    process = desk._painter._process
    assert process is not None
    desk.close()
    await until(lambda: not Path(f"/proc/{process.pid}").exists() or process.returncode is not None)


async def test_who_has_the_latest_picture_waits_for_something_to_happen(desk: DashboardService, guard: Guard) -> None:
    version = (await desk.panels("1h", "en")).etag
    waiting = asyncio.ensure_future(desk.panels("1h", "en", after=version))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    guard.open_circuit("groq")
    began = time.monotonic()
    assert (await waiting).etag != version
    assert time.monotonic() - began < HELD_FOR / 2


async def test_who_has_an_old_picture_does_not_wait(desk: DashboardService, guard: Guard) -> None:
    version = (await desk.panels("1h", "en")).etag
    guard.update_usage("openai", 495)  # over the limit's warning, and its critical share
    await asyncio.sleep(0.3)
    began = time.monotonic()
    assert "critical" in (await desk.panels("1h", "en", after=version)).html.decode()
    assert time.monotonic() - began < HELD_FOR / 2


async def test_garbage_for_a_version_is_an_old_picture(desk: DashboardService) -> None:
    assert (await desk.panels("1h", "en", after="x-y-z")).html
