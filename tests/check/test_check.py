"""What ``check`` finds in a file that is right in itself."""

from __future__ import annotations

from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import litellm
import pytest
import yaml
from click.testing import CliRunner

from wallie_litellm.check import packages
from wallie_litellm.check.report import CheckReport, check_file
from wallie_litellm.cli import main
from wallie_litellm.cli.check import summary_lines
from wallie_litellm.config import load_config

TODAY = date(2026, 11, 22)
OPENAI = {"OPENAI_API_KEY": "fake"}


@pytest.fixture
def check(tmp_path: Path) -> Any:
    def run(*entries: dict[str, Any], env: dict[str, str] | None = None, **sections: Any) -> CheckReport:
        ignore_keys = sections.pop("ignore_keys", False)
        file = tmp_path / "router_config.yaml"
        file.write_text(yaml.safe_dump({"model_list": list(entries), **sections}))
        return check_file(file, today=TODAY, env=OPENAI if env is None else env, ignore_keys=ignore_keys)

    return run


def entry(model: str, info: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {"model_name": "a", "litellm_params": {"model": model, **params}, "model_info": info or {}}


def test_the_shipped_file_passes(shipped: Path, fake_keys: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(main, ["check", str(shipped)])
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "note:" not in result.stdout
    for shown in ("gpt-4o", "claude-sonnet-4, gemini-2.0-flash, llama-3.1-8b", "rpm 500, tpm 150,000, rpd 10,000"):
        assert shown in result.stdout


def test_the_shipped_file_passes_without_keys_when_they_are_ignored(
    shipped: Path, clean_env: pytest.MonkeyPatch
) -> None:
    assert CliRunner().invoke(main, ["check", str(shipped)]).exit_code == 1
    assert CliRunner().invoke(main, ["check", "--ignore-keys", str(shipped)]).exit_code == 0


def test_the_shipped_file_has_the_designs_groups_chains_and_limits(shipped: Path) -> None:
    config = load_config(shipped, env={})
    assert set(config.groups) == {
        *("gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "claude-opus-4", "gemini-2.0-flash-thinking"),
        *("gemini-2.0-flash", "llama-3.3-70b", "llama-3.1-8b", "deepseek-chat", "text-embedding-3-small"),
    }
    assert config.chains == {
        "gpt-4o": ("claude-sonnet-4", "gemini-2.0-flash-thinking", "llama-3.3-70b"),
        "gpt-4o-mini": ("claude-sonnet-4", "gemini-2.0-flash", "llama-3.1-8b"),
        "claude-opus-4": ("gpt-4o", "gemini-2.0-flash-thinking"),
    }
    assert config.wallie == load_config(shipped, env={}).wallie.model_validate({})


def test_the_shipped_file_builds_litellms_router(shipped: Path, fake_keys: pytest.MonkeyPatch) -> None:
    config = load_config(shipped)
    router = litellm.Router(model_list=config.model_list, **config.router_settings)
    try:
        assert router.disable_cooldowns is True
        assert set(router.get_model_names()) == set(config.groups)
        assert set(config.router_settings) <= set(litellm.Router.get_valid_args())
    finally:
        router.discard()


def test_a_model_that_litellm_does_not_list_is_reported_with_those_it_does(check: Any) -> None:
    [problem] = check(entry("openai/gpt-4o-mino")).problems
    assert "model_list[0].litellm_params.model: 'openai/gpt-4o-mino' (group a) is not in LiteLLM's price map" in problem
    assert "name a listed model such as gpt-4o-mini" in problem


def test_another_vendors_entry_of_the_same_name_does_not_count(check: Any) -> None:
    assert "gemini-2.5-flash" in litellm.model_cost
    assert not check(entry("openai/gemini-2.5-flash")).ok


def test_a_router_that_was_built_in_this_process_makes_no_model_listed(check: Any) -> None:
    model = entry("groq/llama-3.3-70b-versatile", api_key="fake")
    litellm.Router(model_list=[model]).discard()
    assert "is not in LiteLLM's price map" in check(model).problems[0]


@pytest.mark.parametrize("place", ["model_info", "litellm_params"])
def test_a_deployments_own_price_makes_an_unlisted_model_right(check: Any, place: str) -> None:
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    own = entry("openai/ours", price) if place == "model_info" else entry("openai/ours", **price)
    report = check(own)
    assert report.ok
    assert [(row.input_price, row.output_price) for row in report.deployments] == [(1e-6, 2e-6)]
    assert "1.00 / 2.00" in "\n".join(summary_lines(report.deployments, report.providers))


@pytest.mark.parametrize(("price", "right"), [("1e-6", True), ("free", False), (True, False), (10**400, False)])
def test_a_price_that_yaml_reads_as_text_counts(check: Any, price: Any, right: bool) -> None:
    assert check(entry("openai/ours", {"input_cost_per_token": price})).ok is right


def test_a_base_model_gives_its_price(check: Any) -> None:
    assert check(entry("azure/ours", {"base_model": "gpt-4o"})).ok


def test_a_listed_model_without_a_price_is_reported(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(litellm.model_cost, "openai/unpriced", {"litellm_provider": "openai", "mode": "chat"})
    [problem] = check(entry("openai/unpriced")).problems
    assert "has no price" in problem


@pytest.mark.parametrize(
    ("ends", "problems", "notes"),
    [("2026-11-21", 1, 0), ("2026-11-22", 0, 1), ("2026-12-22", 0, 1), ("2027-06-01", 0, 0), ("soon", 0, 0)],
)
def test_a_models_end_is_a_problem_after_it_and_a_note_shortly_before(
    check: Any, monkeypatch: pytest.MonkeyPatch, ends: str, problems: int, notes: int
) -> None:
    listed = {**litellm.model_cost["gpt-4o"], "deprecation_date": ends}
    monkeypatch.setitem(litellm.model_cost, "openai/ending", listed)
    report = check(entry("openai/ending"))
    assert (len(report.problems), len(report.notes)) == (problems, notes)


def test_a_pattern_is_not_looked_up(check: Any) -> None:
    assert check(entry("openai/*")).ok


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/gpt-4o", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-6", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-3.5-flash", "GEMINI_API_KEY"),
        ("groq/openai/gpt-oss-120b", "GROQ_API_KEY"),
        ("deepseek/deepseek-v4-flash", "DEEPSEEK_API_KEY"),
    ],
)
def test_a_deployment_without_a_key_is_reported(check: Any, model: str, variable: str) -> None:
    [problem] = check(entry(model), env={}).problems
    assert problem.endswith(f"model_list[0].litellm_params.api_key: no API key for '{model}' (group a); set {variable}")
    assert check(entry(model), env={variable: "fake"}).ok
    assert check(entry(model, api_key="fake"), env={}).ok
    assert check(entry(model), env={}, ignore_keys=True).ok


def test_an_unset_variable_is_reported_once_with_its_first_place(check: Any) -> None:
    model = entry("openai/gpt-4o", api_key="os.environ/NOPE")
    [problem] = check(model, entry("openai/gpt-4o-mini", api_key="os.environ/NOPE")).problems
    assert "model_list[0].litellm_params.api_key (and 1 more): the environment variable NOPE is not set" in problem
    assert check(model, ignore_keys=True).ok
    assert check(model, env={"NOPE": "fake"}).ok


def test_variables_are_looked_for_in_every_section(check: Any) -> None:
    report = check(entry("openai/gpt-4o"), general_settings={"alerts": [{"key": "os.environ/NOPE"}]})
    assert "general_settings.alerts[0].key: the environment variable NOPE is not set" in report.problems[0]


STORE_URLS = [
    "redis://h",
    "redis://user:hunter2@h:6380/3",
    "rediss://h",
    "redis+sentinel://:hunter2@h:26379,i:26379/main/2",
    "redis+cluster://h:7000",
]


@pytest.mark.parametrize("url", STORE_URLS)
def test_a_redis_whose_url_can_be_read_gives_neither_problem_nor_note(check: Any, url: str) -> None:
    report = check(entry("openai/gpt-4o"), wallie={"store": {"url": url}})
    assert (report.problems, report.notes) == ((), ())


@pytest.mark.parametrize(
    "url",
    ["redis://h:port", "rediss://h:123456", "redis+sentinel://:hunter2@h:port/main", "redis+cluster://h:port"],
)
def test_a_redis_url_that_cannot_be_read_is_a_problem_that_shows_the_form_and_no_password(check: Any, url: str) -> None:
    [problem] = check(entry("openai/gpt-4o"), wallie={"store": {"url": url}}).problems
    assert "wallie.store.url: " in problem
    assert " is no URL of a Redis; expected redis://[user:password@]host:port/db, rediss://..., " in problem
    assert "hunter2" not in problem


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


def test_an_own_sink_is_looked_for_beside_the_file_and_among_installed_modules(check: Any, tmp_path: Path) -> None:
    wallie = {"telemetry": {"sinks": ["beside:Sink", "json:JSONEncoder", "nowhere.at_all:Sink"]}}
    (tmp_path / "beside.py").write_text("raise SystemExit('a check runs nobody else's code')")
    [problem] = check(entry("openai/gpt-4o"), wallie=wallie).problems
    assert "wallie.telemetry.sinks: nowhere.at_all:Sink: no nowhere.at_all.py beside this file" in problem


@pytest.mark.parametrize("wallie", [{}, {"ledger": None}, {"store": {"url": "memory"}, "telemetry": {}}])
def test_what_is_not_configured_gives_no_note(check: Any, wallie: dict[str, Any]) -> None:
    assert check(entry("openai/gpt-4o"), wallie=wallie).notes == ()


def test_a_litellm_setting_that_wallie_overrides_is_a_note(check: Any) -> None:
    report = check(entry("openai/gpt-4o"), router_settings={"num_retries": 2, "disable_cooldowns": False})
    assert [note.split(": ")[1] for note in report.notes] == [
        "router_settings.num_retries",
        "router_settings.disable_cooldowns",
    ]


def test_limits_that_match_no_deployment_are_a_note(check: Any) -> None:
    named = entry("openai/gpt-4o", {"wallie_provider": "openai-eu"})
    notes = check(named, wallie={"providers": {"openai-ue": {"rpm": 5}}}).notes
    assert "no limits for 'openai-eu'" in notes[0]
    assert "no deployment uses this provider; did you mean 'openai-eu'?" in notes[1]


def test_notes_do_not_change_the_exit_code(tmp_path: Path, fake_keys: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.yaml"
    model = "model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]"
    file.write_text(f"{model}\nwallie: {{telemetry: {{slack: {{}}}}}}\n")
    result = CliRunner().invoke(main, ["check", "--config", str(file)])
    assert result.exit_code == 0
    assert f"note: {file}: wallie.telemetry.slack: " in result.stdout


def test_file_and_config_that_differ_are_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["check", "a.yaml", "--config", "b.yaml"])
    assert result.exit_code == 2
    assert "not both" in result.stderr
