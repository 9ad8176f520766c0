"""Whether callers are hurt: one sentence of the present and the last minutes, and a day's health by half hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from dashboard_samples import NOW, model, provider, requests, totals

from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.dashboard.health_strip import health_cells
from wallie_litellm.dashboard.impact import assess_impact, sentence
from wallie_litellm.dashboard.recent_traffic import CELL, CELLS, RecentTraffic
from wallie_litellm.dashboard.translations import translator
from wallie_litellm.dashboard.view_model import Provider
from wallie_litellm.ledger.figures import FallbackCount, Transition

WELL = provider("anthropic")
DOWN = provider("openai", "down", "open")
STOPPED = provider("groq", "down", "forced_open")
DEGRADED = provider("gemini", "degraded")
PAUSED = replace(provider("mistral", "degraded"), paused_for=42.0)


def change(ago: float, kind: str, name: str, before: str, after: str, model: str = "") -> Transition:
    return Transition(str(NOW - ago), NOW - ago, kind, name, before, after, None, None, model)


def traffic(asked: int = 120, failed: int = 0, moved: Sequence[FallbackCount] = ()) -> RecentTraffic:
    of_all = replace(requests(None), requests=asked, successes=asked - failed, by_caller=0)
    return RecentTraffic(of_all, {}, {}, moved)


WENT_DOWN = change(2_700, "health", "openai", "degraded", "down")
WAS_STOPPED = change(60, "breaker", "groq", "closed", "forced_open")


@pytest.mark.parametrize(
    ("providers", "changes", "recent", "expected"),
    [
        ([], (), traffic(0), "No provider has been met yet."),
        ([WELL], (), None, "All providers answer."),
        ([WELL], (), traffic(0), "All providers answer; no requests in the last five minutes."),
        ([WELL], (), traffic(), "All providers answer; 120 requests in the last five minutes, none failed."),
        ([WELL], (), traffic(1, 1), "All providers answer; 1 request in the last five minutes, 1 failed."),
        (
            [WELL, DOWN],
            [change(9, "breaker", "openai", "half_open", "open"), WENT_DOWN],
            traffic(1_030, 26, [FallbackCount("openai", "claude-sonnet-4", 1_004), FallbackCount("groq", "x", 9)]),
            "openai down since 11:15 UTC; in the last five minutes 1,004 requests went to claude-sonnet-4, 26 failed.",
        ),
        (
            [DOWN],
            (),
            traffic(9, 0, [FallbackCount("openai", name, 3 - at) for at, name in enumerate("abc")]),
            "openai down; in the last five minutes 3 requests went to a, 2 to b, 1 elsewhere, none failed.",
        ),
        # What is since another state, or about one model, says nothing of when this began.
        ([DOWN], [change(9, "health", "openai", "down", "degraded"), WENT_DOWN], None, "openai down."),
        ([DOWN], [change(9, "health", "openai", "healthy", "down", "gpt-4o")], None, "openai down."),
        ([DOWN], [replace(WENT_DOWN, at=NOW - 60_000)], None, "openai down since 25 Nov 19:20 UTC."),
        (
            [DEGRADED, DOWN, PAUSED, STOPPED],
            [WAS_STOPPED, WENT_DOWN],
            None,
            "groq stopped by an operator since 11:59 UTC, openai down since 11:15 UTC.",
        ),
        ([DEGRADED, PAUSED, WELL], (), None, "mistral paused, gemini degraded."),
        (
            [replace(DEGRADED, models=[model(name, "down", "open") for name in "abcd"])],
            [change(60, "health", "gemini", "healthy", "degraded")],
            None,
            "gemini degraded since 11:59 UTC (a, b, c, … down).",
        ),
        (
            [provider(name, "down", "open") for name in "abcde"],
            (),
            traffic(5, 5),
            "a down, b down, c down, and 2 more; 5 requests in the last five minutes, 5 failed.",
        ),
    ],
)
def test_one_sentence_says_what_is_wrong_and_what_became_of_the_requests(
    providers: list[Provider], changes: Sequence[Transition], recent: RecentTraffic | None, expected: str
) -> None:
    found, formats = assess_impact(providers, (), changes, recent), Formats("en")
    assert sentence(found, translator("en"), formats.number, lambda at: formats.minute(at, NOW)) == expected


def test_what_waits_for_providers_and_features_is_added_up_unless_it_cannot_be_known() -> None:
    unknown = replace(WELL, waiting=None)
    for providers, waiting in (([replace(WELL, waiting=3), DOWN], 3), ([unknown], None), ([], 0)):
        assert assess_impact(providers, (), (), None).waiting == waiting


SINCE = int(NOW) // CELL * CELL - CELL * (CELLS - 1)
NOW_CELL = CELLS - 1


def cell(at: int, attempts: int, failures: int, **changed: Any) -> Any:
    return replace(totals("openai", attempts, failures), start=SINCE + at * CELL, **changed)


@pytest.mark.parametrize(
    ("found", "changes", "levels"),
    [
        ([], [], {}),
        ([cell(0, 1_000, 9), cell(1, 1_000, 10), cell(2, 10, 5)], [], {0: "healthy", 1: "degraded", 2: "down"}),
        ([cell(3, 10, 9, by_caller=9, successes=1)], [], {3: "healthy"}),
        # Down before the day began, until something else is on record.
        ([cell(0, 9, 0)], [(1.25, "down", "healthy")], {0: "down", 1: "degraded"}),
        ([], [(45.9, "degraded", "down")], {45: "degraded", 46: "down", 47: "down"}),
        # A process that ended while its provider was down has not recorded the return.
        (
            [cell(10, 9, 0), cell(13, 9, 0)],
            [(11.0, "degraded", "down")],
            {10: "healthy", 11: "down", 12: "down", 13: "healthy"},
        ),
    ],
)
def test_a_days_health_is_made_of_failures_and_of_recorded_outages(
    found: list[Any], changes: list[tuple[float, str, str]], levels: dict[int, str]
) -> None:
    now = SINCE + CELL * (NOW_CELL + 0.5)
    recorded = [
        Transition(str(at), SINCE + at * CELL, "health", "openai", before, after, None, None)
        for at, before, after in reversed(changes)
    ]
    cells = health_cells(found, recorded, SINCE, now).get("openai", ())
    assert {at: one.level for at, one in enumerate(cells) if one.level} == levels
