"""Sums from roll-ups equal those from records, for any ledger, any question and any aligned range."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_query_fixtures import write_events
from ledger_support import ended, settled

from wallie_litellm.core.attempt_result import ended_by_caller
from wallie_litellm.events import Event, Settled
from wallie_litellm.ledger.aggregates import (
    ATTEMPTS,
    REQUESTS,
    Facts,
    Question,
    by_key,
    from_records,
    from_rollups,
)
from wallie_litellm.ledger.distributions import ranks
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.figures import Latency, Where
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.percentiles import BIN_RATIO
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.ranges import segments
from wallie_litellm.ledger.schema import BY_CALLER, DAY, FIRST_TOKEN, LATENCY, QUARTER, attempts

START = 20_000 * DAY

errors = st.sampled_from(
    [("HTTP 500", 500), ("HTTP 400", 400), ("HTTP 429", 429), ("cancelled", None), ("HTTP 400, quota exhausted", 400)]
)
questions = st.builds(
    Question,
    by=st.lists(st.sampled_from(["provider", "model", "feature"]), unique=True).map(tuple),
    step=st.sampled_from([None, QUARTER, 3600, DAY]),
    where=st.sampled_from([Where(), Where(provider="groq"), Where(feature="")]),
    percentiles=st.booleans(),
    top=st.none(),
    only=st.none(),
    coarse=st.booleans(),
)


@st.composite
def settlements(draw: st.DrawFn) -> Settled:
    outcome = draw(st.sampled_from(["success", "success", "cache_hit", "rejected"]))
    failed = outcome == "rejected"
    error, status = draw(errors) if failed else (None, 200)
    priced = draw(st.booleans())
    return settled(
        at=START + draw(st.floats(0, 3 * DAY, exclude_max=True)),
        provider=draw(st.sampled_from(["openai", "groq"])),
        model=draw(st.sampled_from(["a", "b"])),
        feature=draw(st.sampled_from(["chat", None])),
        user_id=draw(st.sampled_from(["u1", "u2", None])),
        outcome=outcome,
        success=not failed,
        error=error,
        status_code=status,
        latency_ms=draw(st.floats(5, 100_000)),
        waited_ms=draw(st.floats(0, 1000)),
        first_token_ms=draw(st.none() | st.floats(5, 100_000)),
        cache_write_tokens=draw(st.none() | st.integers(0, 100)),
        total_tokens=draw(st.integers(0, 10_000)),
        cost_usd=draw(st.floats(0.001, 1)) if priced else None,
        unpriced=not priced,
    )


@st.composite
def ledgers(draw: st.DrawFn) -> list[Event]:
    made = draw(st.lists(settlements(), min_size=1, max_size=25))
    flags = st.tuples(st.booleans(), st.booleans(), st.booleans(), st.none() | st.floats(0.001, 1))
    requests = [
        ended(
            one,
            used_fallback=fell_back,
            by_caller=by_caller and not one.success,
            hedged=hedged,
            cache_hit=one.success and money is not None,
            wasted_usd=money or 0.0,
            saved_usd=money,
            auto_saved_usd=money,
        )
        for one, (fell_back, by_caller, hedged, money) in ((one, draw(flags)) for one in made)
    ]
    return [*made, *requests]


async def _answers(url: str, facts: Facts, question: Question, since: int, until: int) -> tuple[Any, Any]:
    engine = open_engine(url)
    try:
        async with engine.connect() as connection:
            raw = from_records(facts, question, since, until, sqlite=engine.dialect.name == "sqlite")
            exact = by_key(facts, question, await connection.execute(raw))
            rows = await connection.execute(from_rollups(facts, question, segments(since, until, question.step)))
            return exact, by_key(facts, question, rows)
    finally:
        await engine.dispose()


async def _fresh(url: str, events: list[Event]) -> None:
    engine = open_engine(url)
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
    await write_events(engine, events)
    await engine.dispose()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ledgers(), questions, st.integers(0, 200), st.integers(1, 200), st.sampled_from([ATTEMPTS, REQUESTS]))
def test_sums_of_an_aligned_range_are_those_of_its_records(
    events: list[Event], question: Question, first: int, length: int, facts: Facts
) -> None:
    since = START + first * QUARTER
    until = since + length * QUARTER
    with tempfile.TemporaryDirectory() as place:
        url = f"sqlite:///{place}/wallie.db"
        asyncio.run(_fresh(url, events))
        exact, summed = asyncio.run(_answers(url, facts, question, since, until))
    assert exact.keys() == summed.keys()
    for key, sums in exact.items():
        assert {name: float(value) for name, value in summed[key].values.items()} == pytest.approx(sums.values), key


@pytest.mark.parametrize("by", [(), ("provider",), ("model", "feature"), ("user_id",)])
async def test_both_databases_agree_with_their_records(database_url: str, by: tuple[Any, ...]) -> None:
    await _fresh(database_url, _mixture())
    question = Question(by, DAY if not by else None, percentiles=False, coarse=True)
    exact, summed = await _answers(database_url, ATTEMPTS, question, START, START + 3 * DAY)
    assert exact.keys() == summed.keys()
    assert exact
    for key, sums in exact.items():
        expected = {name: float(value) for name, value in sums.values.items()}
        assert {name: float(value) for name, value in summed[key].values.items()} == pytest.approx(expected)


async def test_a_long_ranges_percentiles_are_within_a_bin_of_the_exact_ones(database_url: str) -> None:
    await _fresh(database_url, _mixture())
    engine = open_engine(database_url)
    found = await LedgerQueries(engine, lambda: START + 4.0 * DAY).totals(START, by=["provider"])
    for measure in (LATENCY, FIRST_TOKEN):
        statement = ranks(
            ATTEMPTS, measure, Question(("provider",)), START, None, sqlite=engine.dialect.name == "sqlite"
        )
        async with engine.connect() as connection:
            exact = {row[0]: row[1:] for row in await connection.execute(statement)}
        assert len(found) == len(exact) == 2
        for one in found:
            times = one.latency if measure == LATENCY else one.first_token
            for value, true in zip((times.p50_ms, times.p95_ms, times.p99_ms), exact[one.provider], strict=True):
                assert true / BIN_RATIO <= (value or 0.0) <= true * BIN_RATIO
    await engine.dispose()


def _mixture() -> list[Event]:
    kinds = [
        ("success", None, 200),
        ("rejected", "HTTP 400", 400),
        ("rejected", "HTTP 503", 503),
        ("success", None, 200),
    ]
    return [
        settled(
            at=START + number * 1237.5,
            provider=("openai", "groq")[number % 2],
            model="abc"[number % 3],
            feature=("chat", None)[number % 5 == 0],
            user_id=f"u{number % 7}",
            outcome=kinds[number % 4][0],
            success=kinds[number % 4][0] == "success",
            error=kinds[number % 4][1],
            status_code=kinds[number % 4][2],
            latency_ms=20.0 + number**1.5,
            first_token_ms=None if number % 6 == 1 else 7.0 + number**1.2,
            cost_usd=0.01 * number,
        )
        for number in range(200)
    ]


@pytest.mark.parametrize(
    ("error", "status", "callers"),
    [
        ("HTTP 400", 400, True),
        ("HTTP 404", 404, True),
        ("cancelled", None, True),
        ("abandoned", None, True),
        ("hedged", None, True),
        ("HTTP 400, quota exhausted", 400, False),
        ("HTTP 400, account refused", 400, False),
        ("HTTP 429, request too large", 429, True),
        ("HTTP 401", 401, False),
        ("timeout", 408, False),
        ("HTTP 429", 429, False),
        ("HTTP 500", 500, False),
        ("connection lost", None, False),
        (None, None, False),
    ],
)
async def test_failures_by_the_caller_are_the_same_in_python_and_sql(
    tmp_path: Any, error: str | None, status: int | None, callers: bool
) -> None:
    url = f"sqlite:///{tmp_path}/wallie.db"
    failed = settled(success=False, outcome="rejected", error=error, status_code=status)
    await _fresh(url, [failed, settled()])
    engine = open_engine(url)
    async with engine.connect() as connection:
        found = (await connection.execute(attempts.select().where(BY_CALLER))).all()
    await engine.dispose()
    assert [row.id for row in found] == [failed.id] * callers
    assert ended_by_caller(False, error, status) is callers
    assert not ended_by_caller(True, error, status)


def test_percentiles_without_a_latency_are_none() -> None:
    assert set(asdict(Latency()).values()) == {None}
