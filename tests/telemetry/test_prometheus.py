from __future__ import annotations

import gc
import importlib
import json
import sys
import threading
import urllib.request
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from event_samples import FORESEEN, NOON, PROMPT, ended, failed, settled
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import WallieConfig, parse_config
from wallie_litellm.core.demand import Demand
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import (
    ArmStopped,
    BreakerChanged,
    BudgetCrossed,
    Event,
    FellBack,
    HealthChanged,
    QuotaCrossed,
    UsageReported,
    new_id,
)
from wallie_litellm.guard import Guard
from wallie_litellm.telemetry.sinks.prometheus import MOST_LABEL_VALUES, PrometheusSink


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard(WallieConfig.model_validate({"providers": {"openai": {"rpm": 500, "rpd": 10_000}}}))
    yield guard
    guard.close()


def samples(sink: PrometheusSink) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Everything the sink shows, read as a Prometheus server would."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse_text(sink.render()[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(sink: PrometheusSink, name: str, /, **labels: str) -> float:
    """The one sample of that name and those labels."""
    matching = [value for own, value in samples(sink).get(name, []) if labels.items() <= own.items()]
    assert len(matching) == 1, (name, labels, matching)
    return matching[0]


def total(sink: PrometheusSink, name: str, /, **labels: str) -> float:
    return sum(value for own, value in samples(sink).get(name, []) if labels.items() <= own.items())


def test_an_attempt_is_counted_with_its_duration_tokens_and_cost() -> None:
    sink = PrometheusSink()
    sink.handle([settled(), settled(), failed()])
    whose = {"provider": "openai", "model": "gpt-4o-mini"}
    assert value(sink, "wallie_attempts_total", **whose, outcome="success", feature="wallie-chat") == 2
    assert value(sink, "wallie_attempts_total", **whose, outcome="rejected", feature="wallie-chat") == 1
    assert value(sink, "wallie_attempt_duration_seconds_sum", outcome="success") == pytest.approx(3.0)
    assert value(sink, "wallie_attempt_duration_seconds_bucket", outcome="success", le="1.28") == 0
    assert value(sink, "wallie_attempt_duration_seconds_bucket", outcome="success", le="2.56") == 2
    tokens = {kind: value(sink, "wallie_tokens_total", type=kind) for kind in ("prompt", "completion")}
    assert tokens == {"prompt": 200, "completion": 40}
    assert value(sink, "wallie_tokens_total", type="cached") == 80
    assert value(sink, "wallie_tokens_total", type="reasoning") == 16
    assert value(sink, "wallie_cost_usd_total", feature="wallie-chat") == pytest.approx(0.006)


def test_a_stream_is_counted_with_its_first_token_and_what_it_wrote_into_the_cache() -> None:
    sink = PrometheusSink()
    sink.handle([settled(first_token_ms=300.0, cache_write_tokens=25), settled()])
    assert value(sink, "wallie_first_token_seconds_sum", provider="openai", model="gpt-4o-mini") == 0.3
    assert value(sink, "wallie_first_token_seconds_count") == 1
    assert value(sink, "wallie_tokens_total", type="cache_write") == 25


def test_a_request_is_counted_by_how_it_ended() -> None:
    sink = PrometheusSink()
    sink.handle(
        [
            ended(settled()),
            ended(failed()),
            ended(failed(), by_caller=True),
            ended(success=False, error="wallie_rate_limited", waited_ms=30_000.0, latency_ms=30_001.0),
        ]
    )
    outcomes = {outcome: value(sink, "wallie_requests_total", outcome=outcome) for outcome in ("success", "failed")}
    assert outcomes == {"success": 1, "failed": 2}
    assert value(sink, "wallie_requests_total", outcome="by_caller") == 1
    assert value(sink, "wallie_request_duration_seconds_sum", outcome="failed") == pytest.approx(32.001)
    assert value(sink, "wallie_request_wait_seconds_sum", provider="openai") == pytest.approx(30.75)
    assert value(sink, "wallie_request_wait_seconds_count", provider="openai") == 4


def test_an_answer_from_the_cache_is_counted_with_what_it_saved() -> None:
    sink = PrometheusSink()
    hit = ended(provider="", cache_hit=True, saved_usd=0.25)
    sink.handle([hit, hit, hit._replace(saved_usd=None), ended(settled())])
    assert value(sink, "wallie_cache_hits_total", model="gpt-4o-mini", feature="wallie-chat") == 3
    assert value(sink, "wallie_cache_saved_usd_total", model="gpt-4o-mini") == 0.5
    assert value(sink, "wallie_requests_total", provider="openai") == 1


def test_hedges_are_counted_by_whether_they_won_with_what_was_wasted() -> None:
    sink = PrometheusSink()
    won = ended(settled(success=False, error="hedged"), settled(hedge=True), hedged=True, wasted_usd=0.25)
    lost = ended(settled(hedge=True, success=False, error="hedged"), settled(), hedged=True, wasted_usd=0.5)
    sink.handle([won, lost, lost._replace(success=False, settled=()), ended(settled())])
    assert value(sink, "wallie_hedges_total", model="gpt-4o-mini", feature="wallie-chat", won="true") == 1
    assert value(sink, "wallie_hedges_total", won="false") == 2
    assert value(sink, "wallie_hedge_wasted_usd_total", model="gpt-4o-mini") == 1.25


def test_requests_of_experiments_are_counted_by_arm_and_so_are_stopped_arms() -> None:
    sink = PrometheusSink()
    inside = ended(settled(), experiment="chat-model", arm="gpt-4o-mini")
    sink.handle([inside, inside, ended(failed(), experiment="chat-model", arm="gpt-4o-mini"), ended(settled())])
    sink.handle([ArmStopped("a", NOON, "chat-model", "gpt-4o-mini", 0.3, 0.1, 120)])
    owner = {"experiment": "chat-model", "arm": "gpt-4o-mini"}
    assert value(sink, "wallie_experiment_requests_total", **owner, outcome="success") == 2
    assert value(sink, "wallie_experiment_requests_total", outcome="failed") == 1
    assert value(sink, "wallie_experiment_arms_stopped_total", **owner) == 1


def test_late_calls_that_are_not_hedged_are_counted_by_the_reason() -> None:
    hedge = {"chat": {"suppressed": {"budget": 3, "outage": 0}}}
    sink = PrometheusSink(status=lambda: {"providers": {}, "routing": {"hedge": hedge}})
    assert value(sink, "wallie_not_hedged_calls", feature="chat", reason="budget") == 3


def test_what_alerts_are_about_and_goes_on_is_a_gauge() -> None:
    alerts = [{"type": "error_rate", "provider": "", "model": "gpt-4o"}, {"type": "queue", "provider": "openai"}]
    sink = PrometheusSink(status=lambda: {"providers": {}, "alerts": [{"model": None, **one} for one in alerts]})
    assert value(sink, "wallie_alert_going_on", type="error_rate", model="gpt-4o") == 1
    assert value(sink, "wallie_alert_going_on", type="queue", provider="openai") == 1


def test_the_places_in_a_chain_that_goes_by_latency_are_gauges() -> None:
    order = [{"chain": ["a", "b"], "stream": True, "order": ["b", "a"], "reason": "b is faster"}]
    sink = PrometheusSink(status=lambda: {"providers": {}, "routing": {"order": order}})
    assert value(sink, "wallie_order_position", chain="a > b", stream="true", model="b") == 1
    assert value(sink, "wallie_order_position", chain="a > b", stream="true", model="a") == 2


def test_an_unpriced_attempt_costs_nothing_and_is_counted_as_unpriced() -> None:
    sink = PrometheusSink()
    sink.handle([settled(cost_usd=None, unpriced=True)])
    assert value(sink, "wallie_unpriced_attempts_total", provider="openai", model="gpt-4o-mini") == 1
    assert total(sink, "wallie_cost_usd_total") == 0


def test_fallbacks_alerts_and_changes_are_counted() -> None:
    sink = PrometheusSink()
    facts: list[Event] = [
        FellBack("1", NOON, "r1", "gpt-4o-mini", "claude-sonnet-4", "openai", "HTTP 503", None, None),
        BreakerChanged("2", NOON, "openai", "closed", "open", "5 failures", 30.0),
        BreakerChanged("3", NOON, "openai", "open", "half_open", None, 0.0),
        HealthChanged("4", NOON, "openai", "down", "degraded", None),
        QuotaCrossed("5", NOON, "openai", "rpm", "warning", 0.8, 400.0, 500, 12.0, "gpt-4o*"),
        BudgetCrossed("6", NOON, "critical", 0.96, 480.0, 500.0, "2026-11"),
        FORESEEN,
        UsageReported("7", NOON, "openai", Demand(), "update_usage"),
    ]
    sink.handle(facts)
    assert value(sink, "wallie_fallbacks_total", **{"from": "gpt-4o-mini", "to": "claude-sonnet-4"}) == 1
    assert value(sink, "wallie_breaker_changes_total", provider="openai", model="", state="open") == 1
    quota = {"provider": "openai", "model": "gpt-4o*", "dimension": "rpm", "level": "warning"}
    assert value(sink, "wallie_quota_alerts_total", **quota) == 1
    assert value(sink, "wallie_quota_alerts_total", **{**quota, "dimension": "rpd", "level": "forecast"}) == 1
    assert value(sink, "wallie_budget_alerts_total", level="critical") == 1
    states = {own["state"]: value for own, value in samples(sink)["wallie_breaker_state"]}
    assert states == {"closed": 0, "open": 0, "half_open": 1, "forced_open": 0, "disabled": 0}
    assert value(sink, "wallie_provider_health", status="degraded") == 1
    assert total(sink, "wallie_provider_health") == 1
    assert sink.stats() == {"delivered": 7}


def test_transitions_of_models_are_counted_by_model_as_far_as_labels_are_bounded() -> None:
    sink = PrometheusSink(models=["gpt-4o"], most=1)
    for number, model in enumerate([None, "gpt-4o", "o3", "invented-1", "invented-2", "gpt-4o"]):
        sink.handle([BreakerChanged(str(number), NOON, "openai", "closed", "open", "HTTP 503", 30.0, model)])
    changes = {own["model"]: value for own, value in samples(sink)["wallie_breaker_changes_total"]}
    assert changes == {"": 1, "gpt-4o": 2, "o3": 1, "other": 2}


def test_the_files_models_and_patterns_keep_their_labels_whatever_names_callers_invent() -> None:
    entry = {"model_name": "fast", "litellm_params": {"model": "openai/gpt-4.1-mini", "api_key": "fake"}}
    wallie = {"ledger": None, "telemetry": {"prometheus": {}}, "providers": {"openai": {"models": {"o4*": {"rpm": 5}}}}}
    guard = open_guard(parse_config({"model_list": [entry], "wallie": wallie}, env={}))
    sink = next(sink for sink in guard.bus.sinks() if isinstance(sink, PrometheusSink))
    invented = [f"invented-{number}" for number in range(MOST_LABEL_VALUES + 1)]
    for model in [*invented, "gpt-4.1-mini", "o4*", "fast"]:
        sink.handle([BreakerChanged(new_id(), NOON, "openai", "closed", "open", None, 30.0, model)])
    labels = {own["model"] for own, _ in samples(sink)["wallie_breaker_changes_total"]}
    assert labels == {*invented[:-1], "other", "gpt-4.1-mini", "o4*", "fast"}
    guard.close()


def test_an_account_is_no_provider_of_the_gauges() -> None:
    sink = PrometheusSink()
    sink.handle([BreakerChanged("1", NOON, "openai#1a2b3c4d", "closed", "open", "HTTP 401", 30.0)])
    sink.handle([HealthChanged("2", NOON, "openai#1a2b3c4d", "healthy", "down", "HTTP 401")])
    assert value(sink, "wallie_breaker_changes_total", provider="openai#1a2b3c4d", state="open") == 1
    assert "wallie_breaker_state" not in samples(sink)
    assert "wallie_provider_health" not in samples(sink)


async def test_gauges_show_the_guards_status_at_the_moment_of_the_scrape(guard: Guard) -> None:
    sink = PrometheusSink(status=guard.status)
    openai = {"provider": "openai"}
    assert value(sink, "wallie_quota_used", **openai, dimension="rpm") == 0
    guard.update_usage("openai", requests=7)
    lease = await guard.wait_for_capacity("openai")
    assert value(sink, "wallie_quota_used", **openai, dimension="rpd") == 8
    assert value(sink, "wallie_quota_limit", **openai, dimension="rpm") == 500
    assert value(sink, "wallie_quota_utilization", **openai, dimension="rpm") == 8 / 500
    assert value(sink, "wallie_quota_left", **openai, dimension="rpm") == 492
    assert value(sink, "wallie_requests_in_flight", **openai) == 1
    assert value(sink, "wallie_requests_waiting", **openai) == 0
    assert value(sink, "wallie_provider_paused_seconds", **openai) == 0
    assert value(sink, "wallie_breaker_state", **openai, state="closed") == 1
    lease.release()
    guard.open_circuit("openai")
    assert value(sink, "wallie_breaker_state", **openai, state="forced_open") == 1
    assert value(sink, "wallie_provider_health", **openai, status="down") == 1
    assert value(sink, "wallie_requests_in_flight", **openai) == 0


def test_models_have_gauges_where_they_have_limits_or_trouble(guard: Guard) -> None:
    described = guard.status()["providers"]["openai"]
    models = {
        "gpt-4o*": {"quota": {"rpm": {**described["quota"]["rpm"], "learned": 60}}, "paused_for": 0.0, "waiting": 3},
        "gpt-4o": {"paused_for": 7.5, "waiting": 0},
        "o3": {"paused_for": 0.0, "waiting": 0, "breaker": {"state": "open"}, "health": "down"},
        "o4": {"paused_for": 0.0, "waiting": 0, "breaker": {"state": "closed"}, "health": "degraded"},
    }
    sink = PrometheusSink(status=lambda: {"providers": {"openai": {**described, "models": models}}})
    assert value(sink, "wallie_quota_limit", model="gpt-4o*", dimension="rpm") == 500
    assert value(sink, "wallie_quota_limit", model="", dimension="rpm") == 500
    assert value(sink, "wallie_quota_learned", model="gpt-4o*", dimension="rpm") == 60
    assert total(sink, "wallie_quota_learned") == 60
    assert value(sink, "wallie_model_requests_waiting") == 3
    assert value(sink, "wallie_model_paused_seconds", model="gpt-4o") == 7.5
    assert value(sink, "wallie_model_breaker_state", model="o3", state="open") == 1
    assert not [own for family in samples(sink).values() for own, _ in family if own.get("model") == "o4"]


def test_of_many_models_those_with_limits_have_gauges(guard: Guard) -> None:
    described = guard.status()["providers"]["openai"]
    models = {f"invented-{number}": {"paused_for": 5.0, "waiting": 0} for number in range(500)}
    models["o3*"] = {"quota": described["quota"], "paused_for": 1.0, "waiting": 0}
    sink = PrometheusSink(status=lambda: {"providers": {"openai": {**described, "models": models}}})
    paused = {own["model"] for own, _ in samples(sink)["wallie_model_paused_seconds"]}
    assert len(paused) == 100
    assert "o3*" in paused


def test_the_sinks_own_counters_are_shown() -> None:
    sink = PrometheusSink(sink_stats=lambda: {"posthog": {"delivered": 12, "dropped": 3}, "slack": {"delivered": 1}})
    assert value(sink, "wallie_sink_events", sink="posthog", state="dropped") == 3
    assert total(sink, "wallie_sink_events", state="delivered") == 13


def test_the_errors_of_estimates_are_gauges_by_model(guard: Guard) -> None:
    described = guard.status()["providers"]["openai"]
    errors = {"openai/gpt-4o": {"calls": 3, "ratio": 1.05, "mean_error": 0.07, "p95_error": 0.2}}
    status = {"providers": {"openai": {**described, "estimates": {"models": errors}}}}
    sink = PrometheusSink(status=lambda: status)
    labels = {"provider": "openai", "model": "openai/gpt-4o"}
    assert value(sink, "wallie_estimate_ratio", **labels) == 1.05
    assert value(sink, "wallie_estimate_error", **labels, figure="mean") == 0.07
    assert value(sink, "wallie_estimate_error", **labels, figure="p95") == 0.2


def test_the_forecasts_of_the_month_and_of_budgets_are_gauges() -> None:
    foreseen = {"forecast": "weekly", "expected": 120.5, "exhausts_at": "2026-11-25T12:00:00Z"}
    month = {"spent_usd": 80.0, "limit_usd": 100.0, **foreseen}
    held = {**month, "user": None, "key": None, "reserved_usd": 0.0, "expected": 90.0, "exhausts_at": None}
    rows = [
        {**held, "feature": "chat", "window": "day"},
        {**held, **foreseen, "feature": None, "window": "month"},
        {**held, **foreseen, "feature": "chat", "window": "day", "user": "u"},
        {**held, "feature": None, "window": "month", "key": "batch"},
    ]
    sink = PrometheusSink(status=lambda: {"providers": {}, "budget": month, "budgets": rows})
    noon = 1_795_608_000
    assert value(sink, "wallie_month_exhausts_timestamp_seconds") == noon
    assert value(sink, "wallie_month_expected_usd") == 120.5
    assert value(sink, "wallie_month_spent_usd") == 80
    assert value(sink, "wallie_month_limit_usd") == 100
    assert value(sink, "wallie_budget_expected_usd", feature="chat", window="day") == 90
    assert samples(sink)["wallie_budget_exhausts_timestamp_seconds"] == [({"feature": "", "window": "month"}, noon)]
    unlimited = PrometheusSink(status=lambda: {"providers": {}, "budget": {"spent_usd": 1.0, "limit_usd": 0.0}})
    assert "wallie_month_exhausts_timestamp_seconds" not in samples(unlimited)


def test_a_status_that_raises_affects_only_its_gauges(caplog: pytest.LogCaptureFixture) -> None:
    def status() -> dict[str, Any]:
        raise RuntimeError("closed")

    sink = PrometheusSink(status=status)
    sink.handle([settled()])
    assert value(sink, "wallie_attempts_total") == 1
    assert "wallie_quota_used" not in samples(sink)
    assert "state could not be read" in caplog.text


def test_beyond_the_cap_features_and_models_are_other_except_those_of_the_configuration() -> None:
    sink = PrometheusSink(features=["wallie-chat"], models=["gpt-4o-mini"], most=5)
    for number in range(50):
        sink.handle([ended(feature=f"made-up-{number}", model=f"model-{number}", provider=f"p-{number}")])
    sink.handle([ended(feature="wallie-chat", provider="p-0"), ended(feature=None, provider="p-0")])
    for label, most in (("feature", 5 + 3), ("model", 5 + 2), ("provider", 5 + 1)):
        seen = {own[label] for own, _ in samples(sink)["wallie_requests_total"]}
        assert len(seen) == most, (label, seen)
        assert "other" in seen
    assert total(sink, "wallie_requests_total", feature="wallie-chat", model="gpt-4o-mini") == 1
    assert total(sink, "wallie_requests_total", feature="") == 1
    assert total(sink, "wallie_requests_total") == 52


def test_a_hundred_features_have_series_of_their_own() -> None:
    sink = PrometheusSink()
    sink.handle([settled(feature=f"f{number}") for number in range(1_000)])
    features = {own["feature"]: value for own, value in samples(sink)["wallie_attempts_total"]}
    assert len(features) == 101
    assert features["other"] == 900


def test_the_metrics_have_no_user_and_no_metadata() -> None:
    sink = PrometheusSink()
    sink.handle([settled(), ended(settled())])
    page = sink.render()[0].decode()
    assert "user-7" not in page
    assert PROMPT not in page
    assert "c1" not in page


def test_two_sinks_in_one_process_count_separately() -> None:
    one, two = PrometheusSink(), PrometheusSink()
    one.handle([settled()])
    assert total(one, "wallie_attempts_total") == 1
    assert total(two, "wallie_attempts_total") == 0


def test_sinks_of_one_registry_add_up_beside_the_applications_own_metrics() -> None:
    registry = CollectorRegistry()
    Counter("orders", "The application's own.", registry=registry).inc(3)
    one = PrometheusSink(registry, sink_stats=lambda: {"slack": {"delivered": 1}})
    one.handle([settled()])
    two = PrometheusSink(registry, sink_stats=lambda: {"slack": {"delivered": 2}})
    two.handle([settled()])
    assert value(two, "wallie_attempts_total") == 2
    assert value(one, "orders_total") == 3
    assert value(one, "wallie_sink_events", sink="slack") == 2, "the newer one is right"
    two.close(1.0)
    assert value(one, "wallie_sink_events", sink="slack") == 1
    one.close(1.0)
    assert "wallie_sink_events" not in samples(one)
    assert value(one, "wallie_attempts_total") == 2, "counters outlive the sinks"


def test_a_collected_sink_leaves_no_metrics() -> None:
    sink = PrometheusSink()
    sink.handle([settled()])
    registry = weakref.ref(sink.registry)
    del sink
    gc.collect()
    assert registry() is None


def test_every_metric_is_named_by_prometheus_conventions_and_explained() -> None:
    sink = PrometheusSink(status=lambda: {"providers": {}})
    sink.handle([settled(unpriced=True), ended()])
    for family in parse_text(sink.render()[0].decode()):
        assert family.name.startswith("wallie_")
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if family.type == "counter":
            assert not family.samples or all("_total" in sample.name for sample in family.samples)


def test_openmetrics_is_rendered_if_the_header_accepts_it() -> None:
    sink = PrometheusSink()
    sink.handle([settled(), ended()])
    body, content_type = sink.render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}
    assert {"wallie_attempts", "wallie_cost_usd", "wallie_request_duration_seconds"} <= names
    assert sink.render()[1].startswith("text/plain")


def test_the_exporter_serves_on_the_loopback_and_frees_its_port() -> None:
    sink = PrometheusSink()
    sink.handle([settled()])
    port = sink.serve(0)
    assert sink.serve(0) == port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = {family.name for family in parse_text(answer.read().decode())}
    assert "wallie_attempts" in families
    before = threading.active_count()
    sink.close(5.0)
    assert threading.active_count() < before
    again = PrometheusSink()
    assert again.serve(port) == port, "the port is free again"
    again.close(5.0)
    again.close(5.0)


def test_a_port_in_use_is_a_clear_error() -> None:
    first, second = PrometheusSink(), PrometheusSink()
    port = first.serve(0)
    try:
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*in use"):
            second.serve(port)
    finally:
        first.close(5.0)
    with pytest.raises(ConfigError, match="70000"):
        second.serve(70_000)


def test_no_event_is_lost_during_scrapes() -> None:
    sink = PrometheusSink()
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            sink.render()

    reader = threading.Thread(target=scrape)
    reader.start()
    for number in range(200):
        sink.handle([settled(feature=f"f{number}"), ended()])
    done.set()
    reader.join(10)
    assert total(sink, "wallie_attempts_total") == 200
    assert total(sink, "wallie_requests_total") == 200


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "wallie_litellm.telemetry.sinks.prometheus"
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=r"wallie-litellm\[prometheus\]"):
        importlib.import_module(module)


def test_stats_and_flush_are_plain() -> None:
    sink = PrometheusSink()
    assert sink.flush(0.0)
    assert json.dumps(sink.stats()) == '{"delivered": 0}'
