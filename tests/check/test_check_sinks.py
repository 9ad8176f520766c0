"""What the check finds about the ledger and the sinks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from check_support import OPENAI, entry

from wallie_litellm.check import packages


def test_a_complete_configuration_gives_neither_problem_nor_note(check: Any) -> None:
    wallie = {
        "ledger": {"url": "sqlite:///w.db"},
        "features": {"chat": {"limits": {"rpm": 5}}},
        "telemetry": {
            "posthog": {"api_key": "phc_fake"},
            "slack": {"webhook_url": "https://slack.invalid/fake"},
            "sentry": {"dsn": "https://fake@sentry.invalid/1"},
            "prometheus": {},
            "opentelemetry": {},
        },
    }
    report = check(entry("openai/gpt-4o"), wallie=wallie)
    assert (report.problems, report.notes) == ((), ())


SECRETS = [
    ("posthog", "api_key", "POSTHOG_API_KEY", "phc_fake"),
    ("slack", "webhook_url", "SLACK_WEBHOOK_URL", "https://slack.invalid/fake"),
    ("sentry", "dsn", "SENTRY_DSN", "https://fake@sentry.invalid/1"),
]


@pytest.mark.parametrize(("section", "secret", "variable", "value"), SECRETS)
def test_a_sink_without_its_secret_is_off_and_a_note_says_so(
    check: Any, section: str, secret: str, variable: str, value: str
) -> None:
    wallie = {"telemetry": {section: {}}}
    [note] = check(entry("openai/gpt-4o"), wallie=wallie).notes
    assert note.endswith(
        f"router_config.yaml: wallie.telemetry.{section}: no {secret} here and no {variable} in the environment: off"
    )
    assert check(entry("openai/gpt-4o"), wallie=wallie, env={**OPENAI, variable: value}).notes == ()
    assert check(entry("openai/gpt-4o"), wallie=wallie, ignore_keys=True).notes == ()


def test_a_webhook_for_no_alert_and_one_that_others_can_read_are_noted(check: Any) -> None:
    ops = {"url": "http://ops.invalid/x", "events": ["breaker.*", "quota.full"]}
    wallie = {"telemetry": {"webhooks": {"ops": ops, "own": {"url": "http://127.0.0.1:9/x"}}}}
    events, url = check(entry("openai/gpt-4o"), wallie=wallie).notes
    assert "wallie.telemetry.webhooks.ops.events: quota.full is no type of an alert; there are quota.warning" in events
    assert "wallie.telemetry.webhooks.ops.url: http to another machine" in url


PACKAGES = {
    "posthog": ("posthog", {"telemetry": {"posthog": {"api_key": "phc_fake"}}}),
    "sentry": ("sentry_sdk", {"telemetry": {"sentry": {"dsn": "https://fake@sentry.invalid/1"}}}),
    "prometheus": ("prometheus_client", {"telemetry": {"prometheus": {}}}),
    "opentelemetry": ("opentelemetry.trace", {"telemetry": {"opentelemetry": {}}}),
    "postgres": ("asyncpg", {"ledger": {"url": "postgresql://h/d"}}),
    "redis": ("redis", {"store": {"url": "redis://h"}}),
}


@pytest.mark.parametrize("extra", PACKAGES)
def test_a_missing_package_is_a_problem_that_names_what_to_install(
    check: Any, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    package, wallie = PACKAGES[extra]
    assert check(entry("openai/gpt-4o"), wallie=wallie).ok
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == package else find_spec(name))
    [problem] = check(entry("openai/gpt-4o"), wallie=wallie).problems
    assert problem.endswith(f"; install wallie-litellm[{extra}]")


def test_the_package_of_a_sink_that_is_off_is_not_missed(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda _name: None)
    report = check(entry("openai/gpt-4o"), wallie={"telemetry": {"posthog": {}, "sentry": {}}, "ledger": None})
    assert report.ok
    assert len(report.notes) == 2


def test_a_folder_where_the_ledgers_file_should_be_is_a_problem(check: Any, tmp_path: Path) -> None:
    (tmp_path / "wallie.db").mkdir()
    [problem] = check(entry("openai/gpt-4o"), wallie={"ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"}}).problems
    assert problem.endswith(f"wallie.ledger.url: {tmp_path}/wallie.db is a folder, expected a file, or none yet")


@pytest.mark.parametrize(("content", "is_fine"), [(b"notes of a meeting\n", False), (b"", True), (None, True)])
def test_a_file_that_is_no_database_where_the_ledger_should_be_is_a_problem(
    check: Any, tmp_path: Path, content: bytes | None, is_fine: bool
) -> None:
    file = tmp_path / "wallie.db"
    if content is not None:
        file.write_bytes(content)
    problems = check(entry("openai/gpt-4o"), wallie={"ledger": {"url": f"sqlite:///{file}"}}).problems
    found = [f"wallie.ledger.url: {file} is no SQLite database, expected one, or none yet"]
    assert [problem.partition(": ")[2] for problem in problems] == ([] if is_fine else found)


def test_an_own_sink_is_looked_for_beside_the_file_and_among_installed_modules(check: Any, tmp_path: Path) -> None:
    wallie = {"telemetry": {"sinks": ["beside:Sink", "json:JSONEncoder", "nowhere.at_all:Sink"]}}
    (tmp_path / "beside.py").write_text("raise SystemExit('a check runs nobody else's code')")
    [problem] = check(entry("openai/gpt-4o"), wallie=wallie).problems
    assert "wallie.telemetry.sinks: nowhere.at_all:Sink: no nowhere.at_all.py beside this file" in problem


@pytest.mark.parametrize("wallie", [{}, {"ledger": None}, {"store": {"url": "memory"}, "telemetry": {}}])
def test_what_is_not_configured_gives_no_note(check: Any, wallie: dict[str, Any]) -> None:
    assert check(entry("openai/gpt-4o"), wallie=wallie).notes == ()
