"""What a right configuration means."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wallie_litellm.config import (
    DIMENSIONS,
    AdmissionSettings,
    BreakerSettings,
    FeatureRules,
    FeatureSettings,
    LimitSettings,
    ProviderLimits,
    RouterConfig,
    WallieConfig,
    load_config,
    parse_config,
)
from wallie_litellm.config.hedging import HedgeAfter, HedgeSettings
from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.errors import ConfigError

WAITS = st.floats(0, 90)
FIRST_TOKENS = st.floats(0.001, 90)
MODELS = [{"model_name": name, "litellm_params": {"model": f"openai/{name}"}} for name in ("a", "b", "c")]


def parse(wallie: dict[str, Any] | None = None, env: dict[str, str] | None = None, **others: Any) -> RouterConfig:
    data = {"model_list": MODELS, **({} if wallie is None else {"wallie": wallie}), **others}
    return parse_config(data, env=env or {})


def problems_of(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(*args, **kwargs)
    return list(caught.value.problems)


@pytest.mark.parametrize("section", [None, {}])
def test_defaults_are_the_designs(section: dict[str, Any] | None) -> None:
    wallie = parse(section).wallie
    assert {name: limits.by_dimension() for name, limits in wallie.providers.items()} == {
        "openai": {"rpm": 500, "tpm": 150_000, "rpd": 10_000},
        "anthropic": {"rpm": 1_000, "tpm": 100_000, "rpd": 50_000},
        "gemini": {"rpm": 2_000, "tpm": 200_000, "rpd": 100_000},
        "groq": {"rpm": 500, "tpm": 50_000, "rpd": 10_000},
        "deepseek": {"rpm": 300, "tpm": 100_000, "rpd": 5_000},
    }
    assert wallie.admission.model_dump() == {
        "max_wait": 30,
        "patience": None,
        "pause_patience": 3,
        "reservation_ttl": 600,
    }
    assert wallie.breaker.model_dump() == {
        "per": "model",
        "failures": 5,
        "error_rate": None,
        "window": 60,
        "min_calls": 20,
        "open_for": 10,
        "max_open_for": 60,
        "probes": 1,
        "ramp": None,
        "slow_call": None,
        "slow_rate": 0.5,
    }
    assert wallie.breaker.rules == BreakerRules()
    assert wallie.retry.model_dump() == {"max_retries": 3, "initial": 1, "max": 16, "multiplier": 2, "jitter": 0.25}
    assert wallie.quota.model_dump() == {"warning": 0.80, "critical": 0.95, "switch_at": None}
    assert wallie.store.model_dump() == {"url": "memory", "on_store_error": "local", "timeout": 0.25}
    assert wallie.ledger is not None
    assert wallie.ledger.url == "sqlite:///wallie.db"
    assert wallie.ledger.retention == 90 * 86_400
    assert wallie.telemetry.model_dump() == {
        "posthog": None,
        "slack": None,
        "sentry": None,
        "prometheus": None,
        "opentelemetry": None,
        "webhooks": {},
        "sinks": (),
        "spool": "wallie-spool",
    }
    assert wallie.features == {}
    assert wallie.kpis.model_dump() == {
        "uptime": 0.995,
        "p95_latency": 3,
        "error_rate": 0.01,
        "monthly_cost": 500,
        "fallback_rate": 0.05,
        "critical_alerts": 0,
    }
    assert wallie == WallieConfig()


def test_what_receives_events_is_read() -> None:
    wallie = parse(
        {
            "quota": {"switch_at": 0.9},
            "ledger": {"retention": "30d"},
            "telemetry": {
                "prometheus": {"port": 9464, "host": "::1"},
                "opentelemetry": {"user_ids": True},
                "sinks": ["own_sink:FailureLog", "package.module:make"],
                "spool": "/var/lib/wallie spool",
            },
        }
    ).wallie
    assert wallie.quota.switch_at == 0.9
    assert wallie.ledger is not None
    assert (wallie.ledger.url, wallie.ledger.retention) == ("sqlite:///wallie.db", 30 * 86_400)
    assert wallie.telemetry.prometheus is not None
    assert (wallie.telemetry.prometheus.port, wallie.telemetry.prometheus.host) == (9464, "::1")
    assert wallie.telemetry.opentelemetry is not None
    assert wallie.telemetry.opentelemetry.user_ids
    assert wallie.telemetry.sinks == ("own_sink:FailureLog", "package.module:make")
    assert wallie.telemetry.spool == "/var/lib/wallie spool"


def test_what_prometheus_listens_on_is_this_machine_alone() -> None:
    prometheus = parse({"telemetry": {"prometheus": {}}}).wallie.telemetry.prometheus
    assert prometheus is not None
    assert (prometheus.port, prometheus.host) == (None, "127.0.0.1")


def test_the_dimensions_are_the_fields_of_limits_in_order() -> None:
    assert tuple(LimitSettings.model_fields) == DIMENSIONS


def test_a_mentioned_provider_has_exactly_its_limits_and_the_others_keep_the_table() -> None:
    providers = parse({"providers": {"openai": {"rpm": 5}, "openai-eu": {}}}).wallie.providers
    assert providers["openai"].by_dimension() == {"rpm": 5}
    assert providers["openai-eu"].by_dimension() == {}
    assert providers["groq"].by_dimension() == {"rpm": 500, "tpm": 50_000, "rpd": 10_000}


@pytest.mark.parametrize("limits", [{"rpd": 5}, ProviderLimits(rpd=5)])
def test_geminis_day_begins_at_midnight_pacific_and_others_in_utc(limits: Any) -> None:
    providers = WallieConfig(providers={"gemini": limits, "groq": limits}).providers
    assert providers["gemini"].reset_timezone == "America/Los_Angeles"
    assert providers["groq"].reset_timezone == "UTC"


@pytest.mark.parametrize("limits", [{"reset_timezone": "UTC"}, ProviderLimits(reset_timezone="UTC")])
def test_a_named_time_zone_stays(limits: Any) -> None:
    assert WallieConfig(providers={"gemini": limits}).providers["gemini"].reset_timezone == "UTC"


def test_the_table_gives_gemini_its_time_zone_too() -> None:
    assert WallieConfig().providers["gemini"].reset_timezone == "America/Los_Angeles"


def test_every_setting_can_be_set() -> None:
    wallie = parse(
        {
            "providers": {
                "openai": {
                    **dict.fromkeys(DIMENSIONS, 7),
                    "burst": {"rpm": 10, "otpm": 3},
                    "headroom": 0.1,
                    "reset_timezone": "Europe/Berlin",
                    "first_token": "20s",
                }
            },
            "admission": {"max_wait": "1m", "patience": 0, "pause_patience": 0, "reservation_ttl": "1h"},
            "breaker": {"error_rate": 0.5, "window": "2m", "min_calls": 3, "open_for": "250ms", "max_open_for": 1},
            "retry": {"max_retries": 0, "initial": 0, "max": 0, "multiplier": 1, "jitter": 0},
            "store": {"url": "redis+cluster://a:6379", "on_store_error": "closed"},
            "telemetry": {"posthog": {"api_key": "phc_1", "host": "http://localhost"}, "prometheus": {}},
            "features": {
                "chat": {
                    "priority": -1,
                    "max_wait": "5s",
                    "patience": "1s",
                    "first_token": "8s",
                    "stream_recovery": "hold",
                    "limits": {"tpd": 9},
                }
            },
            "kpis": {"critical_alerts": 2, "p95_latency": "1s"},
            "admin_token": "t",
        }
    ).wallie
    assert wallie.providers["openai"].by_dimension() == dict.fromkeys(DIMENSIONS, 7)
    assert wallie.providers["openai"].burst == {"rpm": 10, "otpm": 3}
    assert wallie.breaker.open_for == 0.25
    assert wallie.providers["openai"].first_token == 20
    assert wallie.admission.pause_patience == 0
    assert wallie.features["chat"].limits.by_dimension() == {"tpd": 9}
    assert wallie.for_feature("chat") == FeatureRules(1, 5, 0, 8, "hold")
    assert wallie.telemetry.prometheus is not None
    assert wallie.telemetry.slack is None


def test_the_ledger_is_off_when_it_is_null() -> None:
    assert parse({"ledger": None}).wallie.ledger is None


def test_a_section_left_empty_has_its_defaults() -> None:
    assert parse({"breaker": None, "features": None, "telemetry": None}).wallie == WallieConfig()


def test_patience_is_as_max_wait_unless_set() -> None:
    assert WallieConfig().for_feature() == FeatureRules(30, 30, 3, None, "error")
    rules = WallieConfig(admission=AdmissionSettings(max_wait=10, patience=4)).for_feature("chat")
    assert rules == FeatureRules(4, 10, 3, None, "error")


@pytest.mark.parametrize(
    ("written", "after"),
    [
        ("p95", HedgeAfter(quantile=0.95)),
        ("p99.9", HedgeAfter(quantile=0.999)),
        ("4s", HedgeAfter(seconds=4.0)),
        (2, HedgeAfter(seconds=2.0)),
    ],
)
def test_a_hedge_is_asked_for_after_a_percentile_or_a_duration(written: object, after: HedgeAfter) -> None:
    hedge = parse({"features": {"chat": {"hedge": {"after": written, "max_usd_day": 5}}}}).wallie.features["chat"].hedge
    assert hedge == HedgeSettings(after=after, budget=0.02, max_usd_day=5.0)


def test_a_features_waits_go_before_the_general_ones() -> None:
    general = AdmissionSettings(max_wait=10, patience=4, pause_patience=4)
    features = {"chat": FeatureSettings(patience=1), "batch": FeatureSettings(max_wait=3)}
    config = WallieConfig(admission=general, features=features)
    assert config.for_feature("chat")[:3] == (1, 10, 1)
    assert config.for_feature("batch")[:3] == (3, 3, 3)
    assert config.for_feature("other")[:3] == (4, 10, 4)


@pytest.mark.parametrize("general", [{"max_wait": 1}, {"patience": "1s"}, {"max_wait": 2, "patience": 1}])
def test_a_pause_is_waited_for_no_longer_than_anything_else(general: dict[str, Any]) -> None:
    assert parse({"admission": general}).wallie.for_feature().pause_patience == 1


@pytest.mark.parametrize("recovery", ["error", "hold", "continue"])
def test_a_feature_states_its_first_token_and_what_becomes_of_a_broken_stream(recovery: str) -> None:
    wallie = parse({"features": {"chat": {"first_token": "8s", "stream_recovery": recovery}}}).wallie
    assert wallie.for_feature("chat")[3:5] == (8, recovery)
    assert wallie.for_feature("other")[3:5] == (None, "error")


@given(st.builds(dict, max_wait=WAITS, pause_patience=WAITS), st.none() | WAITS, st.none() | FIRST_TOKENS)
def test_what_was_read_can_be_written_and_read_again(
    admission: dict[str, float], patience: float | None, first_token: float | None
) -> None:
    chat = {"patience": patience, "max_wait": 90, "first_token": first_token, "stream_recovery": "continue"}
    wallie = parse({"admission": admission, "features": {"chat": chat}}).wallie
    again = WallieConfig.model_validate(wallie.model_dump())
    assert again == wallie
    assert again.for_feature("chat") == wallie.for_feature("chat")
    rules = wallie.for_feature("chat")
    assert rules.pause_patience <= rules.patience <= rules.max_wait


def test_models_are_frozen_and_refuse_unknown_keys() -> None:
    with pytest.raises(ValidationError):
        BreakerSettings().failures = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        BreakerSettings(failure=1)  # type: ignore[call-arg]


def test_litellms_parts_are_kept_as_they_are_written() -> None:
    settings = {"general_settings": {"master_key": "x"}, "litellm_settings": {"cache": True}}
    config = parse(router_settings={"timeout": 60}, environment_variables={"A": "b"}, **settings)
    assert config.model_list == MODELS
    assert (config.router_settings, config.litellm_settings) == ({"timeout": 60}, {"cache": True})
    assert config.general_settings == {"master_key": "x"}


def test_the_callers_mapping_stays_untouched() -> None:
    wallie: dict[str, Any] = {"store": {"url": "memory"}, "telemetry": {}}
    parse(wallie, env={"WALLIE_REDIS_URL": "redis://h", "SENTRY_DSN": "https://k@s/1"})
    assert wallie == {"store": {"url": "memory"}, "telemetry": {}}


def test_environment_goes_before_the_file() -> None:
    wallie = parse(
        {
            "store": {"url": "redis://file", "on_store_error": "open"},
            "ledger": {"url": "sqlite:///file.db"},
            "telemetry": {"posthog": {"api_key": "file", "host": "https://file"}},
            "admin_token": "file",
        },
        env={
            "WALLIE_REDIS_URL": "rediss://env",
            "WALLIE_DATABASE_URL": "postgresql://env/db",
            "WALLIE_ADMIN_TOKEN": "env-token",
            "POSTHOG_API_KEY": "env-key",
            "POSTHOG_HOST": "https://env",
            "SLACK_WEBHOOK_URL": "https://hooks.slack.com/env",
            "SENTRY_DSN": "https://k@sentry/1",
        },
    ).wallie
    assert (wallie.store.url, wallie.store.on_store_error) == ("rediss://env", "open")
    assert wallie.ledger is not None
    assert wallie.ledger.url == "postgresql://env/db"
    assert wallie.admin_token is not None
    assert wallie.admin_token.get_secret_value() == "env-token"
    telemetry = wallie.telemetry
    assert telemetry.posthog is not None
    assert telemetry.slack is not None
    assert telemetry.sentry is not None
    assert telemetry.posthog.api_key is not None
    assert (telemetry.posthog.api_key.get_secret_value(), telemetry.posthog.host) == ("env-key", "https://env")
    assert str(telemetry.slack.webhook_url and telemetry.slack.webhook_url.get_secret_value()).endswith("/env")


def test_an_empty_variable_is_no_variable() -> None:
    assert parse({"store": {"url": "redis://file"}}, env={"WALLIE_REDIS_URL": ""}).wallie.store.url == "redis://file"


def test_a_ledger_that_is_off_stays_off_and_a_host_alone_turns_nothing_on() -> None:
    env = {"WALLIE_DATABASE_URL": "postgresql://h/db", "POSTHOG_HOST": "https://h"}
    wallie = parse({"ledger": None}, env=env).wallie
    assert wallie.ledger is None
    assert wallie.telemetry.posthog is None


def test_a_wrong_variable_is_named() -> None:
    [problem] = problems_of(env={"WALLIE_REDIS_URL": "http://user:hunter2@h"})
    assert problem.startswith("router_config.yaml: wallie.store.url (from WALLIE_REDIS_URL): found 'http://***'")


def test_the_file_may_name_variables_as_litellm_does() -> None:
    wallie = parse({"store": {"url": "os.environ/MY_REDIS"}}, env={"MY_REDIS": "redis://h"}).wallie
    assert wallie.store.url == "redis://h"


def test_the_path_is_wallie_config_else_the_working_directory(tmp_path: Path, clean_env: pytest.MonkeyPatch) -> None:
    text = "model_list: [{model_name: %s, litellm_params: {model: openai/gpt-4o}}]"
    (tmp_path / "router_config.yaml").write_text(text % "here")
    (tmp_path / "other.yaml").write_text(text % "other")
    clean_env.chdir(tmp_path)
    assert load_config().groups == ("here",)
    clean_env.setenv("WALLIE_CONFIG", "other.yaml")
    assert load_config().groups == ("other",)
    assert load_config().path == Path("other.yaml")
    assert load_config("router_config.yaml").groups == ("here",)


def test_anchors_and_overrides_of_merged_keys_are_not_repeated_keys(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        """
model_list:
  - {model_name: a, litellm_params: &p {model: openai/gpt-4o, api_key: x}}
  - {model_name: b, litellm_params: {<<: *p, model: openai/gpt-4o-mini}}
"""
    )
    config = load_config(file, env={})
    assert config.model_list[1]["litellm_params"] == {"model": "openai/gpt-4o-mini", "api_key": "x"}


def test_reading_a_configuration_does_not_import_litellm() -> None:
    folder = Path(load_config.__code__.co_filename).parent
    imports = [node for file in folder.glob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert "pydantic" in names
    assert not {name for name in names if name.split(".")[0] == "litellm"}


@pytest.mark.parametrize("where", ["file", "environment"])
@pytest.mark.parametrize("models", [{}, {"model_list": None}, {"model_list": []}])
def test_models_may_come_from_the_proxys_database_alone(models: dict[str, Any], where: str) -> None:
    data = {"general_settings": {"store_model_in_db": where == "file"}, **models}
    config = parse_config(data, env={} if where == "file" else {"STORE_MODEL_IN_DB": "True"})
    assert (config.model_list, config.groups) == ([], ())


def test_a_chain_may_name_a_group_of_the_proxys_database() -> None:
    fallbacks = {"fallbacks": [{"a": ["of-the-database"]}]}
    stored = parse(router_settings=fallbacks, general_settings={"store_model_in_db": True})
    assert stored.chain("a") == ("of-the-database",)
    assert "is not a group" in problems_of(router_settings=fallbacks)[0]


@pytest.mark.parametrize("name", ["rpm", "tpm"])
@pytest.mark.parametrize(
    ("value", "right"),
    [(5, True), (1e3, True), ("os.environ/N", True), ("5", True), (-1, False), ("5k", False), (True, False)],
)
def test_litellms_own_limits_of_a_deployment_are_taken(name: str, value: Any, right: bool) -> None:
    models = [{"model_name": "a", "litellm_params": {"model": "openai/a", name: value}}]
    if right:
        assert parse(model_list=models).model_list == models
    else:
        [problem] = problems_of(model_list=models)
        assert f"model_list[0].litellm_params.{name}: found " in problem


@pytest.mark.parametrize(
    "loop", ["wallie: &w {features: *w}", "wallie: {features: &f {chat: *f}}", "router_settings: &r {fallbacks: [*r]}"]
)
def test_a_mapping_within_itself_is_refused(tmp_path: Path, loop: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]\n" + loop)
    with pytest.raises(ConfigError):
        load_config(file, env={})
