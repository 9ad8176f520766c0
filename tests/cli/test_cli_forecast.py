"""`wallie-litellm forecast`: of a ledger, of a running proxy, and judged over the weeks that are on record."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_support import STATUS, StandIn, json_answer, run
from ledger_query_fixtures import FileWriter
from ledger_support import settled

from wallie_litellm.core.demand import Demand
from wallie_litellm.events import new_id

HOUR = 3600
MODELS = [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "api_key": "fake"}}]


def config_of(folder: Path, ledger: str | None, rpd: int = 1_000_000) -> str:
    wallie = {
        "providers": {"openai": {"rpd": rpd, "models": {"gpt-4o*": {"tpd": 10_000_000}}}, "gemini": {"rpd": 5}},
        "features": {"chat": {"limits": {"rpd": 500}}},
        "ledger": None if ledger is None else {"url": ledger},
    }
    path = folder / "router_config.yaml"
    path.write_text(yaml.safe_dump({"model_list": MODELS, "wallie": wallie}))
    return str(path)


@pytest.fixture
def steady(ledger_file: FileWriter) -> str:
    """A ledger of the last five weeks, with 100 requests of 1,000 tokens in each hour."""
    last = int(time.time() // HOUR) * HOUR
    events = []
    for number in range(5 * 7 * 24):
        at = last - number * HOUR
        used = Demand(100, 100_000, 0, 0)
        events.append(
            settled(id=new_id(at), at=at, model="gpt", deployment="openai/gpt-4o", charged=used, feature="chat")
        )
    return ledger_file(events)


def test_limits_per_day_are_forecast_from_the_ledger(steady: str, tmp_path: Path) -> None:
    result = run("forecast", "--config", config_of(tmp_path, steady), "--json")

    assert result.exit_code == 0, result.output
    found = {(one["provider"], one["model"], one["dimension"]): one for one in json.loads(result.stdout)["limits"]}
    assert set(found) == {("openai", None, "rpd"), ("openai", "gpt-4o*", "tpd"), ("feature:chat", None, "rpd")}
    account = found["openai", None, "rpd"]
    assert (account["forecast"], account["exhausts_at"]) == ("weekly", None)
    assert account["expected"] == pytest.approx(2_400, abs=150)
    assert found["openai", "gpt-4o*", "tpd"]["expected"] == pytest.approx(2_400_000, abs=150_000)
    assert found["feature:chat", None, "rpd"]["exhausts_at"] is not None
    budget = json.loads(result.stdout)["budget"]
    assert (budget["forecast"], budget["limit_usd"]) == ("weekly", 500)
    assert "month's budget: $" in run("forecast", "--config", config_of(tmp_path, steady)).stdout


def test_a_backtest_says_how_good_forecasts_were_against_a_line(steady: str, tmp_path: Path) -> None:
    config = config_of(tmp_path, steady)
    result = run("forecast", "--backtest", "--config", config, "--json")
    table = run("forecast", "--backtest", "--config", config)

    assert result.exit_code == 0, result.output
    account = json.loads(result.stdout)["limits"][0]
    assert [one["hour"] for one in account["hours"]] == list(range(1, 24))
    assert account["mean"]["error"] < 0.01
    assert account["mean"]["days"] >= 26
    assert [line.split()[:4] for line in table.stdout.splitlines()][1] == ["openai", "all", "rpd", "06:00"]


def test_with_less_than_a_week_the_line_says_so_and_nothing_is_judged(ledger_file: FileWriter, tmp_path: Path) -> None:
    now = time.time()
    url = ledger_file([settled(id=new_id(now), at=now - 1, charged=Demand(100, 0, 0, 0))])
    config = config_of(tmp_path, url)

    shown, judged = run("forecast", "--config", config), run("forecast", "--backtest", "--config", config)

    assert "linear" in shown.stdout
    assert judged.stdout == ""
    assert "less than a week" in judged.stderr


def test_a_running_proxy_says_when_its_limits_per_minute_run_out_too(stand_in: StandIn) -> None:
    openai = STATUS["providers"]["openai"]
    quota: dict[str, Any] = {"rpm": {**openai["quota"]["rpm"], "exhausts_at": "2026-11-26T10:00:20.000Z"}}
    status = {**STATUS, "providers": {"openai": {**openai, "quota": quota}}}
    stand_in.answers["GET", "/wallie/api/status"] = json_answer(status)

    result = run("forecast", "--url", stand_in.url)

    assert result.exit_code == 0, result.output
    row = ["openai", "all", "rpm", "12", "/", "60", "-", "-", "10:00:20", "2026-11-26", "10:00:00", "-"]
    assert row in [line.split() for line in result.stdout.splitlines()]
    assert run("forecast", "--backtest", "--url", stand_in.url).exit_code == 2


def test_without_a_ledger_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert run("forecast", "--config", config_of(tmp_path, None)).exit_code == 2
