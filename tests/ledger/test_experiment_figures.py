"""An experiment's figures, from the requests on record: means, intervals, the leader, the split, the guardrail."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ledger_query_fixtures import Writer
from ledger_support import ended, settled
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.config import ExperimentSettings
from wallie_litellm.events import Ended, ExperimentChanged, FeedbackGiven, new_id
from wallie_litellm.ledger.experiments import ExperimentFigures, arms_to_stop, measure_experiment, read_changes
from wallie_litellm.routing.experiments import standing_of

NOW = 1_790_000_000.0
ARMS = {"mini": 0.5, "sonnet": 0.5}


def settings(metric: str, **stated: Any) -> ExperimentSettings:
    return ExperimentSettings.model_validate({"feature": "chat", "arms": ARMS, "metric": metric, **stated})


def changed(what: str, arm: str = "", at: float = NOW, definition: str | None = None) -> ExperimentChanged:
    hashed = settings("cost").definition if definition is None else definition
    return ExperimentChanged(new_id(at), at, "m", hashed, what, arm, "cli:ops", "cheaper")


def request(arm: str, number: int, *, unit: str | None = None, answered: bool = True, **changes: Any) -> Ended:
    at, cost, took = NOW + number, changes.pop("cost", 0.01), changes.pop("latency_ms", 900.0)
    attempt = settled(at=at, success=answered, cost_usd=cost, unpriced=cost is None, latency_ms=took, waited_ms=0.0)
    settings = {"success": answered, "used_fallback": False, "latency_ms": took, **changes}
    return ended(attempt, experiment="m", arm=arm, unit=unit, **settings)


async def figures(engine: AsyncEngine, metric: str, **stated: Any) -> ExperimentFigures:
    async with engine.connect() as connection:
        return await measure_experiment(connection, "m", settings(metric, **stated))


async def test_an_arm_has_the_figures_of_its_requests_since_the_start(engine: AsyncEngine, write: Writer) -> None:
    rows = [
        request("mini", -10),  # before the start
        request("mini", 1, unit="u1", cost=0.01, latency_ms=100.0),
        request("mini", 2, unit="u1", cost=0.03, latency_ms=300.0),
        request("mini", 3, unit="u2", cost=None, latency_ms=500.0, used_fallback=True),
        request("mini", 4, unit="u3", answered=False, cost=0.02),
        request("mini", 5, unit="u4", answered=False, by_caller=True, cost=0.02),
        request("sonnet", 6),
        request("sonnet", 7),
        request("sonnet", 8)._replace(experiment="another"),
    ]
    given = [FeedbackGiven(new_id(NOW + at), NOW + at, rows[row].request_id, value) for at, row, value in
             [(9, 1, 0.2), (10, 1, 0.8), (11, 2, 0.4), (12, 8, 0.1)]]  # fmt: skip
    await write([changed("started"), *rows, *given])
    found = await figures(engine, "success")
    mini, sonnet = found.arms
    assert (mini.units, mini.requests, mini.successes, mini.by_caller, mini.fallbacks) == (4, 5, 3, 1, 1)
    assert (mini.unpriced, mini.cost_usd, mini.mean, mini.measured) == (1, pytest.approx(0.02), 0.75, 4)
    assert (mini.error_rate, mini.fallback_rate) == (0.25, pytest.approx(1 / 3))
    assert (mini.p50_ms, mini.p95_ms) == (300.0, 500.0)
    assert (mini.feedbacks, mini.feedback) == (2, pytest.approx(0.6))  # the last one of each request
    assert (sonnet.units, sonnet.requests, sonnet.mean, sonnet.feedback) == (2, 2, 1.0, None)
    assert (mini.effect, sonnet.effect, found.leader, found.split) == (None, None, None, None)
    assert found.standing.since == NOW
    assert (await figures(engine, "cost")).arms[0].mean == pytest.approx(0.02)
    assert (await figures(engine, "feedback")).arms[0].mean == pytest.approx(0.6)
    by_latency = (await figures(engine, "latency")).arms[0]
    assert by_latency.mean == pytest.approx((100 * 300 * 500 * 60_000) ** 0.25)  # an error counts as a minute


async def test_an_answer_from_the_cache_costs_nothing_and_is_in_no_latency(engine: AsyncEngine, write: Writer) -> None:
    hit = request("mini", 2, latency_ms=2.0)._replace(settled=(), cache_hit=True)
    await write([changed("started"), request("mini", 1, cost=0.04), hit, request("mini", 3, cost=None)])
    (mini, _) = (await figures(engine, "cost")).arms
    assert (mini.mean, mini.cost_usd, mini.measured, mini.unpriced) == (0.02, 0.02, 2, 1)
    (mini, _) = (await figures(engine, "latency")).arms
    assert (mini.mean, mini.p50_ms, mini.measured) == (pytest.approx(900.0), 900.0, 2)


def traffic(metric: str, requests: int, seed: int = 1) -> list[Any]:
    """Users of two arms of which ``sonnet`` is the better in every metric."""
    rng, events = random.Random(seed), [changed("started")]
    for number in range(requests):
        user = number % (requests // 4)
        arm = "sonnet" if user % 2 else "mini"
        better = arm == "sonnet"
        one = request(
            arm,
            number + 1,
            unit=f"{user:016x}",
            answered=rng.random() < (0.95 if better else 0.7),
            cost=rng.lognormvariate(0, 0.5) * (0.01 if better else 0.02),
            latency_ms=rng.lognormvariate(6.5 if better else 7.0, 0.5),
        )
        events += [one, FeedbackGiven(new_id(one.at), one.at, one.request_id, rng.betavariate(5 if better else 3, 3))]
    return events


@pytest.mark.parametrize("metric", ["success", "cost", "latency", "feedback"])
async def test_the_better_arm_leads_and_the_interval_says_by_how_much(
    engine: AsyncEngine, write: Writer, metric: str
) -> None:
    await write(traffic(metric, 1200))
    found = await figures(engine, metric)
    assert found.leader == "sonnet"
    effect = found.arms[1].effect
    assert effect is not None
    truth = {"success": 0.25, "cost": -0.0113, "feedback": 0.125}.get(metric)
    assert truth is None or effect.low < truth < effect.high
    assert (effect.low > 0) if metric in ("success", "feedback") else (effect.high < 0)
    assert (found.split or 0) > 0.9
    too_much = {"success": 0.5, "cost": 0.05, "latency": 5.0, "feedback": 0.5}[metric]
    assert (await figures(engine, metric, epsilon=too_much)).leader is None


async def test_an_uneven_split_is_seen_unless_an_arm_was_stopped(engine: AsyncEngine, write: Writer) -> None:
    await write([changed("started"), *(request("sonnet" if n % 3 else "mini", n + 1, unit=f"{n}") for n in range(300))])
    assert (await figures(engine, "cost")).split_is_wrong
    await write([changed("stopped", "mini", NOW + 500)])
    found = await figures(engine, "cost")
    assert (found.split, found.arms[0].stopped, found.arms[1].stopped) == (None, True, False)


async def test_nothing_before_the_start_of_this_definition_counts(engine: AsyncEngine, write: Writer) -> None:
    await write([changed("started"), *(request("mini", number + 1) for number in range(5))])
    other = {"arms": {"mini": 0.4, "sonnet": 0.6}}
    found = await figures(engine, "cost", **other)
    assert ([arm.requests for arm in found.arms], found.standing.state) == ([0, 0], "not_started")
    definition = settings("cost", **other).definition
    await write([changed("started", at=NOW + 3, definition=definition)])
    found = await figures(engine, "cost", **other)
    assert ([arm.requests for arm in found.arms], found.standing.state) == ([3, 0], "running")


async def stopped(engine: AsyncEngine, share: float | None = 0.1) -> dict[str, tuple[float, int]]:
    guard = {} if share is None else {"stop_arm_above": {"error_rate": share}}
    one = settings("cost", **guard)
    async with engine.connect() as connection:
        changes = await read_changes(connection, ["m"])
        return await arms_to_stop(connection, "m", one, standing_of(changes["m"], one.definition))


def outcomes(arm: str, requests: int, failed: int, first: int = 1, **changes: Any) -> list[Ended]:
    return [
        request(arm, first + number, answered=number >= failed or "used_fallback" in changes, **changes)
        if number < failed
        else request(arm, first + number)
        for number in range(requests)
    ]


async def test_an_arm_surely_beyond_its_limit_is_stopped(engine: AsyncEngine, write: Writer) -> None:
    await write([changed("started"), *outcomes("mini", 100, 2), *outcomes("sonnet", 100, 30)])
    assert await stopped(engine) == {"sonnet": (0.3, 100)}
    assert await stopped(engine, 0.2) == {}  # 30 % may be chance
    assert await stopped(engine, None) == {}


async def test_requests_that_a_fallback_answered_are_errors_of_the_arm(engine: AsyncEngine, write: Writer) -> None:
    await write([changed("started"), *outcomes("mini", 50, 0), *outcomes("sonnet", 50, 50, used_fallback=True)])
    assert await stopped(engine) == {"sonnet": (1.0, 50)}


async def test_a_request_whose_hedge_was_faster_says_nothing_against_the_arm(
    engine: AsyncEngine, write: Writer
) -> None:
    hedged = outcomes("sonnet", 50, 50, used_fallback=True, hedged=True)
    await write([changed("started"), *outcomes("mini", 50, 0), *hedged])
    assert await stopped(engine) == {}


async def test_few_requests_old_ones_and_callers_errors_stop_no_arm(engine: AsyncEngine, write: Writer) -> None:
    healthy = outcomes("mini", 250, 0)
    await write([changed("started"), *healthy, *outcomes("sonnet", 29, 29)])
    assert await stopped(engine) == {}
    await write(outcomes("sonnet", 200, 0, 100))
    assert await stopped(engine) == {}
    await write(outcomes("sonnet", 100, 100, 400, by_caller=True))
    assert await stopped(engine) == {}


async def test_where_every_arm_fails_none_is_stopped(engine: AsyncEngine, write: Writer) -> None:
    await write([changed("started"), *outcomes("mini", 60, 60), *outcomes("sonnet", 60, 60)])
    assert await stopped(engine) == {}
