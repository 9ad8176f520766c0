"""Hand-computed ledgers on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ledger_query_fixtures import Writer
from ledger_support import ended, settled
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.events import (
    BreakerChanged,
    BudgetCrossed,
    FellBack,
    OperatorActed,
    QuotaCrossed,
    Settled,
    Unpriced,
    new_id,
)
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.figures import Action, Latency, Where
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.request_log import RequestFilter, latest_requests
from wallie_litellm.ledger.retention import prune
from wallie_litellm.ledger.schema import DAY

NOW = datetime(2026, 11, 23, 12, 7, tzinfo=UTC).timestamp()
HOUR = 3600.0


def attempt(ago: float, **changes: Any) -> Settled:
    """An attempt that ended ``ago`` seconds before ``NOW``."""
    return settled(at=NOW - ago, **changes)


def failure(ago: float, **changes: Any) -> Settled:
    usual = {"outcome": "rejected", "success": False, "error": "HTTP 500", "status_code": 500, "cost_usd": 0.0}
    tokens = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"), 0)
    return attempt(ago, **{**usual, **tokens, "reasoning_tokens": 0, **changes})


def asking(engine: AsyncEngine, now: float = NOW) -> LedgerQueries:
    return LedgerQueries(engine, lambda: now)


LEDGER = [
    attempt(600, latency_ms=100.0, waited_ms=10.0, cost_usd=1.0, total_tokens=200),
    attempt(500, latency_ms=300.0, waited_ms=20.0, cost_usd=2.0, provider="groq", model="llama-3.1-8b", user_id="u2"),
    attempt(400, latency_ms=900.0, cost_usd=None, unpriced=True, provider="groq", model="llama-3.1-8b", feature=None),
    attempt(300, latency_ms=1.0, outcome="cache_hit", cost_usd=0.0, estimated=True),
    failure(200, latency_ms=30_000.0),
    failure(100, error="cancelled", status_code=None, outcome="cut", user_id=None),
]


async def test_failures_fallbacks_and_changes_since_a_time(engine: AsyncEngine, write: Writer) -> None:
    def fell_back(ago: float, to: str) -> FellBack:
        return FellBack(new_id(NOW - ago), NOW - ago, "r", "gpt-4o", to, "openai", "HTTP 500", None, None)

    timeout = failure(50, provider="groq", error="timeout", status_code=None)
    opened = BreakerChanged(new_id(NOW - 40), NOW - 40, "openai", "closed", "open", "HTTP 500", 30.0)
    closed = BreakerChanged(new_id(NOW - 20), NOW - 20, "groq", "open", "closed", None, None)
    last = failure(30, model="gpt-4o")
    ways = [*(fell_back(age, "claude") for age in (35, 34)), fell_back(33, "gemini"), fell_back(7_300, "gemini")]
    await write([*LEDGER, failure(7_300), timeout, last, opened, closed, *ways])
    queries, since = asking(engine), NOW - HOUR
    latest = {one.provider: one for one in await queries.last_failures(since)}
    assert {name: (one.at, one.error) for name, one in latest.items()} == {
        "openai": (NOW - 30, "HTTP 500"),
        "groq": (NOW - 50, "timeout"),
    }
    assert [(one.at, one.model) for one in await queries.failures("openai", since, 1)] == [(NOW - 30, "gpt-4o")]
    assert latest["openai"].request_id == last.request_id
    (kind,) = await queries.failure_kinds("openai", since)  # the caller's cancellation is none
    assert (kind.error, kind.status_code, kind.count, kind.last_at) == ("HTTP 500", 500, 2, NOW - 30)
    assert [(one.to_model, one.count) for one in await queries.fallbacks(since)] == [("claude", 2), ("gemini", 1)]
    assert [one.provider for one in await queries.changes(since)] == ["groq", "openai"]
    assert [one.after for one in await queries.changes(since, "openai")] == ["open"]


async def test_totals_of_an_hour_are_exact(engine: AsyncEngine, write: Writer) -> None:
    await write(LEDGER)
    (total,) = await asking(engine).totals(NOW - HOUR)
    assert (total.attempts, total.successes, total.by_caller, total.cache_hits) == (6, 4, 1, 1)
    assert total.success_rate == pytest.approx(4 / 6)
    assert total.error_rate == pytest.approx(1 / 6)
    assert total.latency == Latency(pytest.approx(1300 / 3), 300.0, 900.0, 900.0)
    assert total.waited_ms == pytest.approx(30 + 4 * 0.25)
    assert (total.prompt_tokens, total.completion_tokens, total.total_tokens) == (480, 320, 800)
    assert (total.cached_tokens, total.reasoning_tokens) == (80, 20)
    assert (total.cost_usd, total.unpriced, total.estimated) == (pytest.approx(3.0), 1, 1)


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR])
async def test_the_time_to_the_first_token_is_that_of_streams_with_content(
    engine: AsyncEngine, write: Writer, span: float
) -> None:
    streams = [attempt(60, first_token_ms=float(ms), cache_write_tokens=5) for ms in (200, 300, 400)]
    cut = attempt(50, provider="groq", first_token_ms=250.0, outcome="cut", success=False, error="stream cut")
    await write([*streams, cut, attempt(40), failure(30)])
    groq, openai = sorted(await asking(engine).totals(NOW - span, by=["provider"]), key=lambda one: one.provider or "")
    assert (openai.first_token.mean_ms, openai.cache_write_tokens) == (pytest.approx(300.0), 15)
    assert openai.first_token.p50_ms == pytest.approx(300.0, rel=0.045)
    assert openai.first_token.p95_ms == pytest.approx(400.0, rel=0.045)
    assert (groq.first_token.p50_ms, groq.latency) == (pytest.approx(250.0, rel=0.045), Latency())
    (minute,) = [one for one in await asking(engine).totals(NOW - span, step=900) if one.first_token.p50_ms]
    assert minute.first_token.p99_ms == pytest.approx(400.0, rel=0.045)


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR])
async def test_a_ranking_has_the_dearest_groups_and_the_sums_of_all_others(
    engine: AsyncEngine, write: Writer, span: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    dear = [attempt(60 + number, user_id=f"u{number}", cost_usd=5.0 - number, latency_ms=300.0) for number in range(4)]
    unpriced = attempt(40, user_id=None, cost_usd=None, unpriced=True, latency_ms=300.0)
    await write([*dear, failure(50, user_id="u3"), unpriced])
    found = await asking(engine).ranking("user_id", NOW - span, top=2)
    assert [(one.user_id, one.cost_usd, one.latency.p95_ms) for one in found.top] == [
        ("u0", 5.0, 300.0),
        ("u1", 4.0, 300.0),
    ]
    assert found.rest is not None
    assert (found.others, found.rest.attempts, found.rest.errors, found.rest.unpriced) == (3, 4, 1, 1)
    assert (found.rest.cost_usd, found.rest.user_id, found.rest.latency.p95_ms) == (5.0, None, None)
    whole = await asking(engine).ranking("model", NOW - span, top=9)
    assert (len(whole.top), whole.others, whole.rest) == (1, 0, None)
    assert whole.top[0].latency.p95_ms == pytest.approx(300.0, rel=0.045)
    monkeypatch.setattr("wallie_litellm.ledger.queries.FEW", 5)
    (many, _) = (await asking(engine).ranking("user_id", NOW - span, top=2)).top
    assert many.latency.p95_ms == (300.0 if span == HOUR else None)


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR])
async def test_totals_by_provider_are_in_order_of_cost(engine: AsyncEngine, write: Writer, span: float) -> None:
    await write(LEDGER)
    groq, openai = await asking(engine).totals(NOW - span, by=["provider"])
    assert (groq.provider, groq.attempts, groq.cost_usd, groq.unpriced) == ("groq", 2, 2.0, 1)
    assert (openai.provider, openai.attempts, openai.cost_usd, openai.unpriced) == ("openai", 4, 1.0, 0)
    assert (groq.model, groq.start, groq.user_id) == (None, None, None)


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR])
async def test_attempts_without_a_feature_or_user_are_a_group_of_their_own(
    engine: AsyncEngine, write: Writer, span: float
) -> None:
    await write(LEDGER)
    features = {one.feature: one.attempts for one in await asking(engine).totals(NOW - span, by=["feature"])}
    assert features == {"wallie-chat": 5, "": 1}
    users = {one.user_id: one.attempts for one in await asking(engine).totals(NOW - span, by=["user_id"])}
    assert users == {"u1": 4, "u2": 1, "": 1}


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR])
@pytest.mark.parametrize(
    ("where", "attempts"),
    [
        (Where(provider="groq"), 2),
        (Where(model="gpt-4o-mini"), 4),
        (Where(feature=""), 1),
        (Where(user_id="u1"), 4),
        (Where(provider="groq", user_id="u2"), 1),
        (Where(provider="unknown"), 0),
    ],
    ids=str,
)
async def test_filters(engine: AsyncEngine, write: Writer, span: float, where: Where, attempts: int) -> None:
    await write(LEDGER)
    (total,) = await asking(engine).totals(NOW - span, where=where)
    assert total.attempts == attempts


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR])
async def test_the_cost_of_unpriced_attempts_alone_is_none_and_not_0(
    engine: AsyncEngine, write: Writer, span: float
) -> None:
    await write(LEDGER)
    (total,) = await asking(engine).totals(NOW - span, where=Where(feature=""))
    assert (total.cost_usd, total.unpriced) == (None, 1)
    assert (await asking(engine).cost(NOW - span)).unpriced == 1


async def test_queries_of_an_empty_ledger_return_empty_results(engine: AsyncEngine) -> None:
    queries = asking(engine)
    for span in (HOUR, 48 * HOUR):
        (total,) = await queries.totals(NOW - span)
        assert (total.attempts, total.cost_usd, total.success_rate, total.latency) == (0, 0.0, None, Latency())
        (requests,) = await queries.requests(NOW - span)
        assert (requests.requests, requests.success_rate, requests.fallback_rate) == (0, None, None)
        assert await queries.totals(NOW - span, by=["provider"]) == []
        assert await queries.totals(NOW - span, step=900) == []
    assert (await queries.cost_today()).cost_usd == 0.0
    assert (await queries.cost_of_month()).projected_usd is None
    assert await queries.alerts() == await queries.transitions() == await queries.actions() == []
    assert await queries.first_record_at() is None


async def test_a_chart_has_a_bucket_for_each_step_with_an_attempt(engine: AsyncEngine, write: Writer) -> None:
    await write(LEDGER)
    minutes = await asking(engine).totals(NOW - HOUR, step=120, by=["provider"])
    assert [(one.start, one.provider) for one in minutes[:3]] == [
        ((NOW - 600) // 120 * 120, "openai"),
        ((NOW - 500) // 120 * 120, "groq"),
        ((NOW - 400) // 120 * 120, "groq"),
    ]
    assert sum(one.attempts for one in minutes) == 6
    quarters = await asking(engine).totals(NOW - 48 * HOUR, step=60)
    assert [(one.start, one.attempts) for one in quarters] == [(NOW - 420 - 900, 2), (NOW - 420, 4)]
    (day,) = await asking(engine).totals(NOW - 48 * HOUR, step=DAY)
    assert (day.start, day.attempts) == (NOW // DAY * DAY, 6)


async def test_top_keeps_the_groups_of_the_highest_cost(engine: AsyncEngine, write: Writer) -> None:
    await write([attempt(60 + number, user_id=f"u{number}", cost_usd=float(number)) for number in range(20)])
    for span in (HOUR, 48 * HOUR):
        found = await asking(engine).totals(NOW - span, by=["user_id"], percentiles=False, top=3)
        assert [(one.user_id, one.cost_usd) for one in found] == [("u19", 19.0), ("u18", 18.0), ("u17", 17.0)]
        assert found[0].latency == Latency(812.5)


async def test_users_over_more_than_a_week_are_counted_by_whole_days(engine: AsyncEngine, write: Writer) -> None:
    midnight = NOW // DAY * DAY
    early, late = settled(at=midnight - 8 * DAY + 60), settled(at=midnight - 8 * DAY - 60)
    await write([late, early, attempt(60)])
    (of_users,) = await asking(engine).totals(NOW - 8 * DAY, by=["user_id"])
    (of_all,) = await asking(engine).totals(NOW - 8 * DAY)
    assert (of_users.attempts, of_all.attempts) == (2, 1)


async def test_invalid_arguments_are_refused(engine: AsyncEngine) -> None:
    with pytest.raises(ValueError, match="by: found 'colour', expected some of provider, model"):
        await asking(engine).totals(0, by=["colour"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="step: found 0"):
        await asking(engine).totals(0, step=0)
    with pytest.raises(ValueError, match="top: found 3, expected a whole number above 0, without step"):
        await asking(engine).totals(0, step=60, top=3)


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR, 9 * DAY])
async def test_sums_by_key_are_of_what_came_with_one_and_can_be_told_apart_by_model(
    engine: AsyncEngine, write: Writer, span: float
) -> None:
    other = {"provider": "groq", "model": "llama-3.1-8b"}
    calls = [
        attempt(500, proxy_key="batch", cost_usd=2.0, latency_ms=300.0),
        attempt(400, proxy_key="batch", cost_usd=1.0, latency_ms=300.0, **other),
        attempt(300, proxy_key="chat-app", cost_usd=0.5),
        attempt(200, proxy_key=None, cost_usd=9.0),
    ]
    await write([event for call in calls for event in (call, ended(call))])
    ledger = asking(engine)
    found = await ledger.ranking("proxy_key", NOW - span)
    assert [(one.proxy_key, one.cost_usd, one.attempts) for one in found.top] == [
        ("batch", 3.0, 2),
        ("chat-app", 0.5, 1),
    ]
    assert (found.top[0].latency.p95_ms, found.top[0].user_id, found.others) == (300.0, None, 0)
    by_model = await ledger.totals(NOW - span, by=["proxy_key", "model"], where=Where(proxy_key="batch"))
    assert [(one.proxy_key, one.model, one.cost_usd) for one in by_model] == [
        ("batch", "gpt-4o-mini", 2.0),
        ("batch", "llama-3.1-8b", 1.0),
    ]
    requests = await ledger.requests(NOW - span, by=["proxy_key"])
    assert [(one.proxy_key, one.requests) for one in requests] == [("batch", 2), ("chat-app", 1)]


@pytest.mark.parametrize("span", [HOUR, 48 * HOUR])
async def test_requests_are_counted_separately_from_their_attempts(
    engine: AsyncEngine, write: Writer, span: float
) -> None:
    fell_back = ended(failure(100), attempt(99, provider="groq", model="llama-3.1-8b"), model="gpt-4o-mini")
    refused = ended(at=NOW - 50, success=False, error="wallie_rate_limited", provider="openai", used_fallback=True)
    cancelled = ended(failure(40), by_caller=True)
    await write([ended(attempt(200, latency_ms=100.0)), fell_back, refused, cancelled])
    (total,) = await asking(engine).requests(NOW - span)
    assert (total.requests, total.successes, total.by_caller, total.failures) == (4, 2, 1, 1)
    assert total.success_rate == pytest.approx(2 / 3)
    assert total.latency.p95_ms == pytest.approx(812.75, rel=0.045)
    groq, _ = sorted(await asking(engine).requests(NOW - span, by=["provider"]), key=lambda one: one.provider or "")
    assert (groq.provider, groq.requests, groq.fallbacks, groq.fallback_rate) == ("groq", 1, 1, 1.0)
    (of_user,) = await asking(engine).requests(NOW - span, by=["user_id"])
    assert (of_user.user_id, of_user.requests) == ("u1", 4)


async def test_only_answered_requests_count_as_fallbacks(engine: AsyncEngine, write: Writer) -> None:
    failed = ended(failure(50), success=False, used_fallback=True)
    await write([ended(attempt(60)), failed])
    for span in (HOUR, 48 * HOUR):
        (total,) = await asking(engine).requests(NOW - span)
        assert total.fallbacks == 0


@pytest.mark.parametrize(
    ("zone", "cost"), [("UTC", 6.0), ("America/Los_Angeles", 4.0), ("Asia/Kathmandu", 14.0), ("Pacific/Auckland", 6.0)]
)
async def test_today_begins_at_the_zones_midnight(engine: AsyncEngine, write: Writer, zone: str, cost: float) -> None:
    # Midnight was 12:07 ago in UTC, 4:07 in Los Angeles, 17:52 in Kathmandu and 1:07 in Auckland, a day ahead.
    spent = {1: 2.0, 4: 2.0, 12: 2.0, 17: 8.0, 30: 100.0}
    if zone == "Pacific/Auckland":
        spent = {1: 6.0, 2: 100.0}
    await write([attempt(hours * HOUR, cost_usd=dollars) for hours, dollars in spent.items()])
    today = await asking(engine).cost_today(zone)
    assert today.cost_usd == pytest.approx(cost)
    midnight = datetime.fromtimestamp(today.since, ZoneInfo(zone))
    assert (midnight.hour, midnight.minute) == (0, 0)


async def test_the_month_is_projected_from_its_first_attempt_on(engine: AsyncEngine, write: Writer) -> None:
    # The first attempt was 11 days ago, and 6.5 days are left: 22 dollars so far are 2 a day.
    now = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
    last_month = settled(at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC).timestamp(), cost_usd=1000.0)
    first = settled(at=datetime(2026, 11, 13, 12, tzinfo=UTC).timestamp(), cost_usd=21.0)
    await write([last_month, first, settled(at=now - 60, cost_usd=1.0), settled(at=now, cost_usd=None, unpriced=True)])
    month = await asking(engine, now).cost_of_month()
    assert (month.month, month.to_date.cost_usd, month.to_date.unpriced) == ("2026-11", pytest.approx(22.0), 1)
    assert month.projected_usd == pytest.approx(22.0 + 6.5 * 2.0)


async def test_less_than_a_day_is_projected_as_a_day(engine: AsyncEngine, write: Writer) -> None:
    await write([attempt(60, cost_usd=1.0)])
    month = await asking(engine).cost_of_month()
    rest = datetime(2026, 12, 1, tzinfo=UTC).timestamp() - NOW
    assert month.projected_usd == pytest.approx(1 + rest / DAY)


async def test_decembers_projection_ends_with_the_year(engine: AsyncEngine, write: Writer) -> None:
    now = datetime(2026, 12, 31, tzinfo=UTC).timestamp()
    await write([settled(at=now - 10 * DAY, cost_usd=20.0)])
    month = await asking(engine, now).cost_of_month()
    assert (month.month, month.projected_usd) == ("2026-12", pytest.approx(22.0))
    tokyo = await asking(engine, now).cost_of_month("Asia/Tokyo")
    assert tokyo.month == "2026-12"


async def test_alerts_and_transitions_come_latest_first(engine: AsyncEngine, write: Writer) -> None:
    quota = QuotaCrossed(new_id(NOW - 30), NOW - 30, "openai", "rpm", "critical", 0.96, 480.0, 500, 12.0)
    unpriced = Unpriced(new_id(NOW - 20), NOW - 20, "groq", "mystery", "groq/mystery")
    budget = BudgetCrossed(new_id(NOW - 10), NOW - 10, "warning", 0.81, 405.0, 500.0, "2026-11")
    opened = BreakerChanged(new_id(NOW - 9), NOW - 9, "openai", "closed", "open", "5 failures", 30.0)
    fell_back = FellBack(new_id(NOW - 8), NOW - 8, "r1", "gpt-4o", "claude-sonnet-4", "openai", "HTTP 500", None, None)
    await write([quota, unpriced, budget, opened, fell_back])
    queries = asking(engine)
    assert [alert.type for alert in await queries.alerts()] == ["budget", "unpriced", "quota"]
    (latest,) = await queries.alerts(1)
    assert (latest.id, latest.level, latest.used, latest.limit, latest.detail) == (
        *(budget.id, "warning", 405.0, 500.0, "2026-11"),
    )
    assert [(one.type, one.after) for one in await queries.transitions()] == [
        ("fallback", "claude-sonnet-4"),
        ("breaker", "open"),
    ]
    assert await queries.count_alerts("critical", NOW - 60) == 1
    assert await queries.count_alerts("critical", NOW - 60, NOW - 30) == 0


async def test_operators_actions_come_latest_first_with_actor_and_reason(engine: AsyncEngine, write: Writer) -> None:
    opened = OperatorActed(new_id(NOW - 20), NOW - 20, "maria", "open_circuit", "openai", "bad answers")
    released = OperatorActed(new_id(NOW - 10), NOW - 10, "app", "release_circuit", "openai", None)
    await write([released, opened])
    queries = asking(engine)
    assert await queries.actions() == [
        Action(released.id, NOW - 10, "app", "release_circuit", "openai", None),
        Action(opened.id, NOW - 20, "maria", "open_circuit", "openai", "bad answers"),
    ]
    assert [action.actor for action in await queries.actions(1)] == ["app"]


async def test_a_range_whose_records_were_pruned_is_answered_from_the_sums(engine: AsyncEngine, write: Writer) -> None:
    old, fresh = attempt(10 * DAY), attempt(60)
    await write([old, attempt(5 * DAY), attempt(2 * HOUR), fresh])
    while await prune(engine, NOW, 4 * DAY):
        pass
    queries = asking(engine)
    assert await queries.first_record_at() == old.at // DAY * DAY
    (pruned,) = await queries.totals(old.at - 60, old.at + 60)
    assert pruned.attempts == 1
    (all_of_it,) = await queries.totals(old.at - 60)
    assert all_of_it.attempts == 4
    (lately,) = await queries.totals(NOW - HOUR)
    assert (lately.attempts, lately.latency.p50_ms) == (1, 812.5)


async def test_queries_write_nothing(engine: AsyncEngine, write: Writer) -> None:
    await write(LEDGER)
    queries = asking(engine)
    await queries.totals(0, by=["provider"], step=DAY)
    async with writing(engine):  # would wait for another connection's lock
        assert (await queries.first_record_at()) == NOW - 600


async def test_pages_of_the_log_are_in_order_of_time_and_have_each_request_once(
    engine: AsyncEngine, write: Writer
) -> None:
    times = {"d": 40.0, "a": 30.0, "c": 30.0, "b": 30.0, "e": 20.0}  # seconds ago
    await write([ended(attempt(ago), id=name, at=NOW - ago) for name, ago in times.items()])
    queries, seen, wanted = asking(engine), "", RequestFilter(NOW - 35)
    while page := await queries.latest_requests(wanted, 2):
        seen += "".join(row["id"] for row in page)
        wanted = wanted._replace(before=page[-1]["id"])
    assert seen == "ecba"
    assert await queries.latest_requests(wanted._replace(before="pruned"), 2) == []


@pytest.mark.parametrize("wanted", [{"user": "u"}, {"error": "e", "before": "id"}, {"model": "m", "until": NOW}])
async def test_a_search_of_the_log_reads_no_further_back_than_its_range(tmp_path: Path, wanted: dict[str, Any]) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/wallie.db")
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
        statement = latest_requests(RequestFilter(NOW, **wanted), 50)
        text = statement.compile(engine, compile_kwargs={"literal_binds": True})
        plan = [row.detail for row in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    await engine.dispose()
    assert plan[0].startswith("SEARCH wallie_requests USING INDEX wallie_requests_at (at>?")
