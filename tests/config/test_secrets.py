"""No secret is in a message or a repr, wherever it was written."""

from __future__ import annotations

from typing import Any

import pytest

from wallie_litellm.check.report import check_file
from wallie_litellm.config import RouterConfig, parse_config
from wallie_litellm.errors import ConfigError

SECRET = "hunter2-0123456789"
TOKEN = f"sk-{SECRET}"
WITH_PASSWORD = f"redis://user:{SECRET}@host:6379/0"


def config(wallie: dict[str, Any], key: str = TOKEN, env: dict[str, str] | None = None) -> RouterConfig:
    params = {"model": "openai/gpt-4o", "api_key": key}
    models = [{"model_name": "a", "litellm_params": params}]
    general = {"master_key": TOKEN, "database_url": WITH_PASSWORD}
    data = {"model_list": models, "general_settings": general, "router_settings": {"redis_password": TOKEN}}
    return parse_config({**data, "wallie": wallie}, env=env or {})


def test_the_repr_of_a_configuration_holds_no_secret() -> None:
    environment = {
        "WALLIE_REDIS_URL": WITH_PASSWORD,
        "WALLIE_DATABASE_URL": f"postgresql://user:{SECRET}@host/db",
        "WALLIE_ADMIN_TOKEN": TOKEN,
        "POSTHOG_API_KEY": TOKEN,
        "SLACK_WEBHOOK_URL": f"https://hooks.slack.com/{SECRET}",
        "SENTRY_DSN": f"https://{SECRET}@sentry.io/1",
    }
    found = config({}, env=environment)
    for shown in (repr(found), str(found), str(found.wallie), repr(found.wallie.store), repr(found.wallie.telemetry)):
        assert SECRET not in shown
    assert found.wallie.store.url == WITH_PASSWORD


@pytest.mark.parametrize("url", [f"redis://:pa/{SECRET}@h", f"redis://:pa?{SECRET}@h", f"redis://h?password={SECRET}"])
def test_odd_passwords_stay_out_of_the_repr(url: str) -> None:
    assert SECRET not in repr(config({"store": {"url": url}}))


@pytest.mark.parametrize(
    "wallie",
    [
        {"providers": {"openai": {"rpm": TOKEN}}},
        {"providers": {"openai": TOKEN}},
        {"breaker": {"open_for": TOKEN}},
        {"breaker": {"zebra": TOKEN}},
        {"store": {"url": f"http://user:{SECRET}@host"}},
        {"store": {"url": f"user:{SECRET}@host:6379"}},
        {"store": {"url": f"REDIS://:{SECRET}@host"}},
        {"ledger": {"url": f"mysql://user:{SECRET}@host/db"}},
        {"telemetry": {"slack": {"webhook_url": SECRET}}},
        {"telemetry": {"webhooks": {"ops": {"url": SECRET}}}},
        {"telemetry": {"webhooks": {"ops": SECRET}}},
        {"telemetry": {"webhooks": {"ops": {"url": "https://h", "secret": SECRET}}}},
        {"telemetry": {"posthog": {"api_key": [SECRET]}}},
        {"telemetry": {"posthog": {"host": f"ftp://{SECRET}@h"}}},
        {"telemetry": {"sentry": {"dsn": SECRET}}},
        {"telemetry": {"sentry": SECRET}},
        {"admin_token": {"value": SECRET}},
    ],
)
def test_a_message_holds_no_secret(wallie: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        config(wallie)
    error = caught.value
    for shown in (str(error), repr(error), repr(error.problems)):
        assert SECRET not in shown
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_a_syntax_error_does_not_quote_the_line(tmp_path: Any) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"general_settings:\n  master_key: {TOKEN}: x\n")
    report = check_file(file, env={})
    assert "line 2" in report.problems[0]
    assert SECRET not in report.problems[0]


def test_the_report_of_a_check_holds_no_secret(tmp_path: Any) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        f"model_list: [{{model_name: a, litellm_params: {{model: openai/nothing, api_key: {TOKEN}}}}}]\n"
        f"wallie: {{store: {{url: '{WITH_PASSWORD}'}}, telemetry: {{slack: {{}}}}}}\n"
    )
    report = check_file(file, env={})
    assert SECRET not in repr(report)
    assert report.problems
    assert report.notes
