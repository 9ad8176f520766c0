"""A rehearsal from the command line to its report: every run of it takes a process of its own."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from wallie_litellm.cli import main
from wallie_litellm.config import load_config
from wallie_litellm.rehearse.plan import REDIS, PlannedFault, RehearsalPlan
from wallie_litellm.rehearse.record import percentile
from wallie_litellm.rehearse.report import Report
from wallie_litellm.rehearse.run import Player
from wallie_litellm.rehearse.terminal import lines_of
from wallie_litellm.rehearse.traffic import arrivals_of

# An account of Anthropic's that carries its own load, and not that of OpenAI on top of it.
FILE = """
model_list:
  - model_name: gpt
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-6, api_base: https://llm.example.com, api_key: sk-live}
  - model_name: text-embedding-3-small
    litellm_params: {model: openai/text-embedding-3-small}
router_settings:
  fallbacks: [{gpt: [claude]}]
  redis_host: redis.example.com
wallie:
  providers:
    openai: {rpm: 600}
    anthropic: {rpm: 60}
  store: {url: "redis://redis.example.com:6379/0"}
  ledger: {url: "sqlite:///LEDGER"}
  breaker: {open_for: 5s, max_open_for: 5s}
  telemetry: {slack: {webhook_url: "https://hooks.slack.example.com/x"}}
  features:
    chat: {patience: 2s}
    reports: {}
"""
STREAMED = {"length": 10.0, "streams": 1.0}  # seconds, and the share of requests
OPTIONS = ("--for", "70s", "--traffic", "3/s", "--outage", "openai:40s@10s", "--tokens", "100+20", "--seed", "5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rehearsal")
    (folder / "router_config.yaml").write_text(FILE.replace("LEDGER", str(folder / "ledger.db")))
    return folder


@pytest.fixture(scope="module")
def ended(folder):
    options = [*OPTIONS, "--expect", "answered>=10%", "--expect", "upstream_429==1", "--html", str(folder / "r.html")]
    file = str(folder / "router_config.yaml")
    return CliRunner().invoke(main, ["rehearse", "--config", file, *options, "--json"])


@pytest.fixture(scope="module")
def report(ended):
    return json.loads(ended.stdout)


def test_an_expectation_that_is_not_met_is_the_exit_code(ended, report):
    assert ended.exit_code == 1
    assert [one["met"] for one in report["expectations"]] == [True, False]


def test_requests_of_a_provider_that_is_out_are_answered_by_the_next_and_come_back(report):
    (fault,) = report["played"]["faults"]
    assert report["played"]["total"]["fell_back"] > 20
    assert 0 < fault["noticed_after"] < 10
    assert 0 <= fault["back_after"] < 10
    assert 5 <= fault["failed_calls"] <= 40
    assert report["normal"]["total"]["fell_back"] == 0
    assert report["normal"]["total"]["answered"] == report["normal"]["requests"]


def test_a_fallback_that_cannot_carry_the_load_is_named_with_the_limit_that_would(report):
    (short,) = report["shortfalls"]
    assert (short["provider"], short["limit"], short["has"]) == ("anthropic", "rpm", 60)
    # Three requests a second for 40 s: 120, of which a full bucket and its refill carry a part.
    assert 60 < short["needs"] <= 120
    assert short["sentence"] == f"claude at anthropic would need rpm {short['needs']}, has 60"


def form(line: str) -> str:
    """A line without its figures, and without the width of its columns."""
    return " ".join(re.sub(r"\b[\d.,]+(?: (?:h|min|s)\b)?", "#", line).split())


def test_the_sample_in_the_docs_has_the_form_of_the_report(report):
    shown = Report(
        RehearsalPlan.from_json(report["plan"]),
        report["played"],
        report["normal"],
        (),
    )
    kinds = re.compile("FEATURE|PROVIDER|openai: |Cost: |  openai ")
    printed = {form(line) for line in lines_of(shown, ()) if kinds.match(line)}
    page = (Path(__file__).parents[2] / "docs" / "rehearse.md").read_text()
    sample = {form(line) for line in page.partition("\n```\nRehearsal of ")[2].partition("\n```\n")[0].splitlines()}
    assert len(printed) == 5
    assert printed <= sample


@pytest.fixture(scope="module")
def replayed(report, folder):
    """The same plan again, and with the limit that was stated as the need."""
    (short,) = report["shortfalls"]
    file = folder / "enough.yaml"
    file.write_text((folder / "router_config.yaml").read_text().replace("rpm: 60}", f"rpm: {short['needs']}}}"))
    plan = RehearsalPlan.from_json(report["plan"])
    with Player(real_time=False, start=plan.start) as player:
        streamed = replace(plan.without_faults(), **STREAMED)
        away = PlannedFault("redis_away", REDIS, 10.0, 30.0)
        fleet = replace(plan, faults=(away,), workers=3, length=60.0)
        (open_file := folder / "open.yaml").write_text(
            FILE.replace('6379/0"', '6379/0", on_store_error: open').replace("rpm: 600", "rpm: 30")
        )
        uncounted = replace(fleet, config=str(open_file), length=40.0)
        return player.play([plan, replace(plan, config=str(file)), streamed, fleet, uncounted])


def test_the_same_seed_makes_the_same_figures(report, replayed):
    assert replayed[0] == report["played"]


def test_a_stream_takes_as_long_as_was_planned_for_it_whatever_else_happens(report, replayed, folder):
    plan = replace(RehearsalPlan.from_json(report["plan"]), **STREAMED)
    config = load_config(folder / "router_config.yaml", env={})
    planned = sorted(one.answer.seconds for one in arrivals_of(plan, config, ["gpt", "claude"]))
    total = replayed[2]["total"]
    assert (total["answered"], total["waited_p95"]) == (len(planned), 0)
    assert (total["latency_p50"], total["latency_p95"]) == (percentile(planned, 0.5), percentile(planned, 0.95))


def test_the_stated_need_carries_the_load(replayed):
    anthropic = replayed[1]["providers"]["anthropic"]
    assert (anthropic["waited"], anthropic["turned_down"], anthropic["upstream_429"]) == (0, 0, 0)


def test_a_fleet_without_its_redis_keeps_to_the_limits_and_is_back_soon(replayed):
    (fault,) = replayed[3]["faults"]
    assert fault["noticed_after"] < 0.5
    assert 0 <= fault["back_after"] < 1.0
    assert replayed[3]["total"]["answered"] == replayed[3]["requests"]
    assert [one["over"] for one in replayed[3]["providers"].values()] == [{}, {}]
    # The use is that of all workers: a minute's requests, of which each worker had a third.
    assert replayed[3]["providers"]["openai"]["limits"]["rpm"]["peak"] > 0.9 * replayed[3]["requests"]


def test_what_workers_admit_beyond_the_limits_without_counting_is_in_the_report(replayed):
    openai = replayed[4]["providers"]["openai"]
    assert openai["over"]["rpm"] > 10
    assert openai["upstream_429"] > 10


def test_a_redis_is_away_only_where_workers_share_one(folder):
    (folder / "alone.yaml").write_text(FILE.replace('store: {url: "redis://redis.example.com:6379/0"}', ""))
    for file, options, message in (
        ("alone.yaml", ["--redis-away", "1m"], "set wallie.store.url or WALLIE_REDIS_URL"),
        ("alone.yaml", ["--workers", "2"], "--workers: the file has no Redis"),
        ("router_config.yaml", ["--redis-away", "1m", "--workers", "1"], "give --workers 2 or more"),
        ("router_config.yaml", ["--redis-away", "openai:1m"], "expected 5m or 5m@10m"),
    ):
        ended = CliRunner().invoke(main, ["rehearse", "--config", str(folder / file), *options])
        assert (ended.exit_code, message in ended.stderr) == (2, True), ended.stderr


def test_features_share_the_traffic_and_only_models_that_chat_are_asked(report):
    features = report["played"]["features"]
    assert set(features) == {"chat", "reports"}
    assert abs(features["chat"]["requests"] - features["reports"]["requests"]) <= 1
    assert report["played"]["providers"]["openai"]["models"] == ["gpt"]


def test_the_outage_raises_its_alert_and_the_outage_costs_what_the_fallback_does(report):
    assert any(one["level"] == "critical" and "openai is down" in one["text"] for one in report["played"]["alerts"])
    assert report["played"]["total"]["cost_usd"] > 2 * report["normal"]["total"]["cost_usd"]


def test_nothing_is_written_to_the_files_own_ledger(report, folder):
    assert report["played"]["requests"] > 150
    assert not (folder / "ledger.db").exists()


def test_the_html_file_has_the_charts_and_loads_nothing(report, folder):
    page = (folder / "r.html").read_text()
    assert page.count("<svg") == 3
    assert "would need rpm" in page
    assert not [word for word in ("<script", "<link", "src=", "url(", "https://") if word in page]


def test_a_provider_that_the_file_has_not_is_an_error_that_lists_those_it_has(folder):
    file = str(folder / "router_config.yaml")
    ended = CliRunner().invoke(main, ["rehearse", "--config", file, "--outage", "gemini:1m"])
    assert ended.exit_code == 2
    assert "gemini is no provider of the file: anthropic, openai" in ended.stderr


def test_a_page_that_could_not_be_written_is_an_error_before_anything_is_played(folder):
    file = str(folder / "router_config.yaml")
    ended = CliRunner().invoke(main, ["rehearse", "--config", file, "--html", str(folder / "nowhere" / "r.html")])
    assert ended.exit_code == 2
    assert "cannot be written (No such file or directory)" in ended.stderr
