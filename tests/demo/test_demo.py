"""The demonstration: its runner, its displays, and two of its scenarios, shortened."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from demo_support import children_of, finds_a_difference, finds_two, runs, scenario
from simulator_support import SHIPPED

from wallie_litellm.cli import main
from wallie_litellm.cli.exits import exit_code
from wallie_litellm.config import DEFAULT_PROVIDERS, parse_config
from wallie_litellm.core.thresholds import ThresholdWatch
from wallie_litellm.demo import display
from wallie_litellm.demo.findings import Findings, Row, Scenario, ScenarioResult
from wallie_litellm.demo.live import describe, run_live
from wallie_litellm.demo.scenarios import SCENARIOS, named
from wallie_litellm.demo.scenarios.failures import chains
from wallie_litellm.demo.scenarios.leaks import nothing_leaks
from wallie_litellm.demo.scenarios.limits import wait_after
from wallie_litellm.demo.scenarios.quota import quota_alerts
from wallie_litellm.demo.stage import SMALL_ACCOUNT, Stage, ask, read_data
from wallie_litellm.errors import ConfigError
from wallie_litellm.simulator import SimulatedProviders

GOOD = ScenarioResult(Scenario("Good", "all well", lambda *_: asyncio.sleep(0)), (Row("two", "2", "2", True),), 0.1)
BAD = ScenarioResult(Scenario("Bad", "not well", lambda *_: asyncio.sleep(0)), (Row("one", "1", "3", False),), 0.2)


async def breaks(stage: Stage, found: Findings) -> None:
    raise LookupError("nothing there")


async def is_interrupted(stage: Stage, found: Findings) -> None:
    raise KeyboardInterrupt


def test_exit_code_is_0_when_all_is_as_expected(run: Callable[..., tuple[int, str]]) -> None:
    code, text = run(scenario(finds_two))
    assert code == 0
    assert "[1/1] finds_two: a story" in text
    assert "All 2 as expected." in text
    assert "\x1b" not in text


def test_a_difference_is_in_the_table_and_in_the_exit_code(run: Callable[..., tuple[int, str]]) -> None:
    code, text = run(scenario(finds_two), scenario(finds_a_difference))
    assert code == 1
    assert "1 of 4 differ." in text
    [line] = [line for line in text.splitlines() if "this is wrong" in line]
    assert line.split() == ["DIFFERS", "this", "is", "wrong", "expected-value", "seen-value"]


def test_a_scenario_that_breaks_is_a_difference_and_the_next_one_is_played(run: Callable[..., tuple[int, str]]) -> None:
    code, text = run(scenario(breaks), scenario(finds_two))
    assert code == 1
    assert "LookupError: nothing there" in text
    assert "all 2 as expected" in text
    assert "Traceback" not in text


def test_a_scenario_that_does_not_end_is_given_up(run: Callable[..., tuple[int, str]]) -> None:
    async def endless(stage: Stage, found: Findings) -> None:
        await asyncio.sleep(3600)

    code, text = run(scenario(endless, time_limit=0.05))
    assert code == 1
    assert "TimeoutError" in text


def test_a_scenario_that_finds_nothing_is_not_a_success(run: Callable[..., tuple[int, str]]) -> None:
    async def idle(stage: Stage, found: Findings) -> None: ...

    assert run(scenario(idle))[0] == 1


def test_an_interrupt_ends_with_130(run: Callable[..., tuple[int, str]]) -> None:
    code, text = run(scenario(is_interrupted))
    assert code == 130
    assert text.endswith("interrupted")


def test_each_scenario_finds_healed_providers_that_count_from_zero(run: Callable[..., tuple[int, str]]) -> None:
    async def spoils(stage: Stage, found: Findings) -> None:
        stage.providers["openai"].fail(400)
        stage.providers["gemini"].refuse()
        found.same("done", 1, 1)

    async def looks(stage: Stage, found: Findings) -> None:
        async with stage.router() as router:
            providers = [(await ask(router, group)).provider for group in ("gpt-4o", "gemini-2.0-flash")]
        found.same("served by", ["openai", "gemini"], providers)
        found.same("received", 1, stage.providers["openai"].counts().received)

    assert run(scenario(spoils), scenario(looks))[0] == 0


async def test_scenario_chains(stage: Stage) -> None:
    found = Findings()
    await chains(stage, found)
    assert [row for row in found.rows if not row.ok] == []
    served = [row.seen for row in found.rows if row.what.startswith(("gpt-4o:", "gpt-4o-mini:", "claude-opus-4:"))]
    assert served == ["claude-sonnet-4", "claude-sonnet-4", "claude-opus-4"]


def test_each_provider_is_warm_before_the_first_scenario(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []
    clear = Stage.clear

    def look(stage: Stage) -> None:
        asked.append({name for name in stage.providers if stage.providers[name].counts().arrivals})
        clear(stage)

    monkeypatch.setattr(Stage, "clear", look)
    run(scenario(finds_a_difference))
    assert asked[0] == {"openai", "anthropic", "gemini", "groq", SMALL_ACCOUNT}


def test_the_time_that_an_answer_took_is_none_to_wait_for_tokens() -> None:
    assert wait_after(570, 0.0) == pytest.approx(2.1)
    assert wait_after(570, 0.6) == pytest.approx(1.5)
    assert wait_after(570, 3.0) == 0


def test_scenarios_are_played_by_their_names() -> None:
    assert [one.title for one in named(["tokens-and-days", "chains"])] == ["Tokens and days", "Chains"]
    assert named([]) == SCENARIOS
    result = CliRunner().invoke(main, ["demo", "rate-limits"])
    assert result.exit_code == 2
    assert "no scenario 'rate-limits'; there are rate-limit, tokens-and-days, circuit-breaker" in result.stderr


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # LiteLLM's, when cancelled
async def test_scenario_nothing_leaks(stage: Stage) -> None:
    found = Findings()
    await nothing_leaks(stage, found, count=90)
    assert [row for row in found.rows if not row.ok] == []


async def test_scenario_quota_alerts(demo_providers: SimulatedProviders, tmp_path: Path) -> None:
    path, data = read_data(SHIPPED)
    data["wallie"]["providers"]["openai"] = {"rpm": 100}
    said: list[str] = []
    stage = Stage(demo_providers, data, path, tmp_path, said.append)
    stage.clear()
    found = Findings()
    await quota_alerts(stage, found, crossings=20)
    assert [row for row in found.rows if not row.ok] == []
    assert [row.seen for row in found.rows[:3]] == ["1 warning", "1 critical", "20, none"]
    assert [line.split(", ")[1:] for line in said] == [
        ["warning", "openai rpm at 80.0%"],
        ["critical", "openai rpm at 95.0%"],
    ]


def test_an_alert_too_many_is_a_difference_and_in_the_exit_code(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = ThresholdWatch.rose
    # A window that is over at once: every crossing is reported.
    monkeypatch.setattr(ThresholdWatch, "rose", lambda self, share, now, _: reported(self, share, now, now))

    async def few(stage: Stage, found: Findings) -> None:
        await quota_alerts(stage, found, crossings=3)

    code, text = run(scenario(few))
    assert code == 1
    [line] = [line for line in text.splitlines() if "crossed again" in line]
    assert line.split()[0] == "DIFFERS"
    assert line.endswith("3, 3 critical")


def test_alerts_are_shown_as_they_arrive_and_no_file_is_left(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, working = tmp_path / "temporary", tmp_path / "working"
    for folder in (temporary, working):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(working)
    files: list[str] = []

    async def looks(stage: Stage, found: Findings) -> None:
        await quota_alerts(stage, found, crossings=1)
        files.extend(file.name for file in stage.folder.iterdir())

    code, text = run(scenario(looks))
    assert code == 0, text
    lines = [line.strip() for line in text.splitlines()]
    begins, ends = lines.index("[1/1] looks: a story"), lines.index(next(x for x in lines if x.startswith("all ")))
    assert [line.split(",")[1] for line in lines[begins + 1 : ends]] == [" warning", " critical"]
    assert "wallie.db" in files
    assert [*temporary.iterdir(), *working.iterdir()] == []


def test_a_missing_posthog_sdk_is_one_clear_line(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "posthog", None)
    code, text = run(scenario(finds_two))
    assert code == 1
    assert text == "the demo needs PostHog's SDK, which is not installed: pip install 'wallie-litellm[demo]'"


def test_the_stage_writes_to_nothing_outside(tmp_path: Path) -> None:
    data = yaml.safe_load(SHIPPED.read_text())
    data["wallie"] |= {
        "telemetry": {"slack": {"webhook_url": "https://hooks.example.com/1"}},
        "ledger": {"url": "sqlite:///real.db"},
        "store": {"url": "redis://example.com"},
    }
    file = tmp_path / "router_config.yaml"
    file.write_text(yaml.safe_dump(data))
    wallie = parse_config(read_data(file)[1], file, env={}).wallie
    assert (wallie.telemetry.slack, wallie.ledger, wallie.store.url) == (None, None, "memory")


def test_limits_that_the_file_does_not_state_hold_for_the_simulated_providers(tmp_path: Path) -> None:
    data = yaml.safe_load(SHIPPED.read_text())
    data["wallie"]["providers"] = {"groq": {"rpm": 7}}
    file = tmp_path / "router_config.yaml"
    file.write_text(yaml.safe_dump(data))
    wallie = parse_config(read_data(file)[1], file, env={}).wallie
    assert all(map(wallie.states_limits_of, wallie.providers))
    assert (wallie.providers["openai"], wallie.providers["gemini"]) == (
        DEFAULT_PROVIDERS["openai"],
        DEFAULT_PROVIDERS["gemini"],
    )
    assert wallie.providers["groq"].by_dimension() == {"rpm": 7}


def test_a_file_without_the_groups_of_the_scenarios_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("model_list: [{model_name: gpt-4o, litellm_params: {model: openai/gpt-4o}}]")
    with pytest.raises(ConfigError) as caught:
        read_data(file)
    assert f"{file}: model_list: the demo asks for gpt-4o-mini" in caught.value.problems


def test_a_vendor_that_is_not_simulated_is_refused(demo_providers: SimulatedProviders, tmp_path: Path) -> None:
    path, data = read_data(SHIPPED)
    data["model_list"].append({"model_name": "m", "litellm_params": {"model": "mistral/large"}})
    with pytest.raises(ConfigError, match="no simulated provider for 'mistral/large'"):
        Stage(demo_providers, data, path, tmp_path)


@pytest.mark.parametrize("options", [[], ["--live"], ["--no-serve"]])
def test_a_missing_file_is_one_clear_line(options: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "--config", str(tmp_path / "none.yaml"), *options])
    assert result.exit_code == 1
    assert "none.yaml" in result.output
    assert len(result.output.splitlines()) == 1


# Displays


def test_no_terminal_gets_plain_lines() -> None:
    lines: list[str] = []
    assert isinstance(display.choose_display(lines.append), display.PlainDisplay)
    assert lines == []


def test_a_terminal_without_rich_gets_a_hint_and_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    lines: list[str] = []
    assert isinstance(display.choose_display(lines.append), display.PlainDisplay)
    assert lines == [display.INSTALL_HINT]


def test_the_plain_table_has_every_row_and_nothing_but_ascii() -> None:
    lines = list(display.plain_table([GOOD, BAD]))
    assert [line.split() for line in lines if "1" in line or "2" in line] == [
        ["1.", "Good"],
        ["ok", "two", "2", "2"],
        ["2.", "Bad"],
        ["DIFFERS", "one", "1", "3"],
    ]
    assert all(line.isascii() for line in lines)


def test_the_live_display_shows_providers_and_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "120", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    openai = {
        "health": "down",
        "breaker": {"state": "open"},
        "in_flight": 7,
        "waiting": 93,
        "quota": {"rpm": {"used": 250, "limit": 500}},
    }
    with display.RichDisplay() as shown:
        shown.begin(1, 2, BAD.scenario)
        shown.tick({"openai": openai})
        shown.end(1, 2, BAD)
    shown.table([GOOD, BAD])
    text = capsys.readouterr().out
    for part in ("[1/2] Bad: not well", "openai", "down", "250/500", "93", "1 of 1 differ", "DIFFERS", "2. Bad"):
        assert part in text


# Ctrl-C


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks /proc for the child processes")
def test_ctrl_c_ends_with_130_and_leaves_no_process() -> None:
    # A shell that runs the tests in the background has SIGINT ignored, and its children inherit that.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{heed}; from wallie_litellm.cli import main; main()"
    command = [sys.executable, "-c", program, "demo", "--config", str(SHIPPED)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children: list[int] = []
    deadline = time.monotonic() + 60
    while len(children) < 6 and time.monotonic() < deadline:
        children = children_of(running.pid)
        time.sleep(0.02)
    assert len(children) == 6
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (130, "interrupted\n")
    assert [child for child in children if runs(child)] == []


# --live

KEYS = {"OPENAI_API_KEY": "sk-openai-secret", "ANTHROPIC_API_KEY": "sk-anthropic-secret"}


@pytest.fixture
def live_file(fleet: SimulatedProviders, tmp_path: Path) -> Path:
    """The shipped file with an address for each model, and the keys still in the environment."""
    data = yaml.safe_load(SHIPPED.read_text())
    for entry, pointed in zip(data["model_list"], fleet.point(data["model_list"]), strict=True):
        entry["litellm_params"]["api_base"] = pointed["litellm_params"]["api_base"]
    file = tmp_path / "live.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def live(file: Path, env: dict[str, str]) -> tuple[int, list[str]]:
    lines: list[str] = []
    return exit_code(lambda: run_live(str(file), lines.append, env), lines.append), lines


def test_live_asks_each_provider_with_a_key_once(live_file: Path, fleet: SimulatedProviders) -> None:
    code, lines = live(live_file, KEYS)
    assert code == 0
    rows = {line.split()[0]: line for line in lines[1:]}
    assert "openai/gpt-4o" in rows["openai"]
    assert " ms " in rows["openai"]
    assert "$0." in rows["anthropic"]
    assert "skipped: GROQ_API_KEY is not set" in rows["groq"]
    received = {name: fleet[name].counts().received for name in fleet}
    assert received == {"openai": 1, "anthropic": 1, "gemini": 0, "groq": 0, "deepseek": 0}


def test_live_leaves_no_file(
    live_file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("working")
    monkeypatch.chdir(folder)
    assert live(live_file, KEYS)[0] == 0
    assert list(folder.iterdir()) == []


def test_live_reports_a_failure_without_the_key_and_asks_no_other_provider(
    live_file: Path, fleet: SimulatedProviders
) -> None:
    fleet["openai"].fail(401, body={"error": {"message": f"Incorrect API key: {KEYS['OPENAI_API_KEY']}"}})
    code, lines = live(live_file, KEYS)
    assert code == 1
    [line] = [line for line in lines if line.startswith("openai")]
    assert "failed: " in line
    assert "Incorrect API key: ***" in line
    assert KEYS["OPENAI_API_KEY"] not in "".join(lines)
    assert fleet["anthropic"].counts().received == 1


def test_live_without_any_key_says_which_ones_it_looks_for(live_file: Path, fleet: SimulatedProviders) -> None:
    code, lines = live(live_file, {})
    assert code == 1
    [line] = lines
    assert line.startswith("No provider's API key is set; set at least one of ANTHROPIC_API_KEY, DEEPSEEK_API_KEY")


def test_a_long_error_is_shortened() -> None:
    text = describe(ValueError("first\nline " + "x" * 500), "sk-secret")
    assert text.startswith("first line x")
    assert len(text) == 160
