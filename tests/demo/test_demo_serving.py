"""The end of the demo: the dashboard over what the scenarios have left, until Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_support import children_of, finds_a_difference, finds_two, runs, scenario
from simulator_support import SHIPPED
from support import until

from wallie_litellm.cli import main
from wallie_litellm.demo import demo, serving
from wallie_litellm.demo.stage import Stage, ask
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.reader import open_reader

Run = Callable[..., tuple[int, str]]


async def test_the_scenarios_ledgers_are_gathered_into_one(stage: Stage) -> None:
    for _ in range(2):
        async with stage.router() as router:
            await ask(router, "gpt-4o-mini", feature="wallie-chat")
            assert await router.guard.flush()
    ledger = stage.folder / "all.db"
    assert len(stage.ledgers()) == 2
    await serving.gather_records(stage.ledgers(), ledger)
    async with open_reader(f"sqlite:///{ledger}") as engine:
        (total,) = await LedgerQueries(engine).totals(0, by=["feature"])
    assert (total.feature, total.attempts, total.successes) == ("wallie-chat", 2, 2)


async def test_meanwhile_there_is_traffic_and_an_outage_that_ends_with_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"EVERY": 0.02, "HEALTHY_FOR": 0.2, "DOWN_FOR": 60.0}.items():
        monkeypatch.setattr(serving, name, seconds)
    async with stage.router() as router:
        async with serving.traffic_in(stage, router):
            await until(lambda: router.guard.status()["providers"]["openai"]["breaker"]["consecutive_failures"] > 0)
        assert (await ask(router, "gpt-4o-mini")).provider == "openai"


async def test_the_traffic_is_in_the_ledger_with_its_features_and_users(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "EVERY", 0.02)
    url = f"sqlite:///{stage.folder / 'demo.db'}"
    async with stage.router(ledger={"url": url}) as router:
        async with serving.traffic_in(stage, router):
            await until(lambda: sum(stage.providers[name].counts().received for name in stage.providers) >= 12)
        assert await router.guard.flush()
    async with open_reader(url) as engine:
        totals = await LedgerQueries(engine).totals(0, by=["feature", "user_id"])
    assert {total.feature for total in totals} == set(serving.FEATURES)
    assert {total.user_id for total in totals} <= set(serving.USERS)


@pytest.mark.parametrize(
    ("finds", "expected", "outcome"),
    [
        (finds_two, 0, "All 2 as expected."),
        (finds_a_difference, 1, "1 of 2 differ."),
    ],
)
def test_the_dashboard_is_served_after_the_table_until_ctrl_c(
    run: Run, monkeypatch: pytest.MonkeyPatch, finds: Any, expected: int, outcome: str
) -> None:
    async def interrupted(_stage: Stage, write: Callable[[str], None], port: int | None) -> None:
        write(f"Dashboard: on {port}")
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve_demo", interrupted)
    code, text = run(scenario(finds), serve=True, port=4567)
    assert code == expected
    assert text.index(outcome) < text.index("Dashboard: on 4567")


@pytest.mark.parametrize(
    ("is_terminal", "options", "served"), [(True, [], True), (True, ["--no-serve"], False), (False, [], False)]
)
def test_the_dashboard_is_served_at_a_terminal_unless_no_serve_is_given(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, options: list[str], served: bool
) -> None:
    asked: list[Any] = []

    def run_demo(*_: Any, serve: bool, port: int | None) -> bool:
        asked.append((serve, port))
        return True

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    with pytest.raises(SystemExit):
        main(["demo", "--port", "4567", *options])
    assert asked == [(served, 4567)]


def test_without_serving_the_demo_ends_after_the_table(run: Run) -> None:
    code, text = run(scenario(finds_two))
    assert code == 0
    assert text.splitlines()[-1].startswith("All 2 as expected.")


def test_without_the_packages_a_line_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wallie_litellm.dashboard.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, text = run(scenario(finds_two), serve=True)
    assert code == 0
    assert text.splitlines()[-1] == "no dashboard: uvicorn is not installed; pip install 'wallie-litellm[demo]'"


def test_a_port_that_is_taken_is_a_line_and_no_failure(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, text = run(scenario(finds_two), serve=True, port=port)
    assert code == 0
    assert text.splitlines()[-1].startswith(f"no dashboard: cannot listen on 127.0.0.1:{port}")


def test_a_free_port_replaces_the_usual_one_when_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serving.free_port(port) == 0
    assert serving.free_port(port) == port


# At a terminal

PROGRAM = """
import fcntl, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C on it is for this process and its group
signal.signal(signal.SIGINT, signal.default_int_handler)
from wallie_litellm.cli import main
from wallie_litellm.demo import demo, serving
from wallie_litellm.demo.findings import Scenario
async def finds(stage, found):
    found.same("one", 1, 1)
serving.EVERY = 0.1
run = demo.run_demo
demo.run_demo = lambda config, echo, played, **more: run(config, echo, [Scenario("One", "a story", finds)], **more)
main(["demo", "--config", sys.argv[1], "--port", "0"])
"""


class Terminal:
    """The demo with one small scenario, at a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self._keyboard, end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(SHIPPED)],
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb", "TMPDIR": str(folder)},
        )
        os.close(end)
        self.text = ""

    def read_until(self, pattern: str, seconds: float = 60.0) -> str:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            assert self._read(deadline), self.text
        return found[1]

    def press_ctrl_c(self) -> None:
        os.write(self._keyboard, b"\x03")

    def end(self, seconds: float = 30.0) -> int:
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        os.close(self._keyboard)
        return self.process.wait(5.0)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._keyboard], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            more = os.read(self._keyboard, 65536)
        except OSError:  # the other end is closed
            return False
        self.text += more.decode(errors="replace")
        return bool(more)


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def features_of(page: str) -> set[str]:
    return {total["name"] for total in json.loads(get(f"{page}api/usage?range=1h&by=feature"))["totals"]}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    if terminal.process.poll() is None:
        terminal.process.kill()
        terminal.process.wait()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks /proc for the child processes")
def test_at_a_terminal_the_page_is_served_until_ctrl_c_which_leaves_nothing(terminal: Terminal, tmp_path: Path) -> None:
    page = terminal.read_until(r"Dashboard: (http://127\.0\.0\.1:\d+/wallie/)")
    assert b"openai" in get(page)  # the first viewer has a process started that draws
    deadline = time.monotonic() + 20
    while not features_of(page) & set(serving.FEATURES):
        assert time.monotonic() < deadline, "nothing is recorded"
        time.sleep(0.1)
    children = children_of(terminal.process.pid)
    assert len(children) >= 6
    terminal.press_ctrl_c()
    assert terminal.end() == 0, terminal.text
    assert terminal.text.index("All 1 as expected.") < terminal.text.index("Dashboard: ")
    assert terminal.text.replace("^C", "").rstrip().splitlines()[-1].startswith("Requests go on")
    assert [child for child in children if runs(child)] == []
    assert list(tmp_path.iterdir()) == []
