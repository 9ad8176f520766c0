"""What the reliability benchmark makes of what callers and providers saw."""

from __future__ import annotations

import importlib
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from wallie_litellm.simulator import VisitRecord

faults = importlib.import_module("benchmarks.reliability.faults")
figures = importlib.import_module("benchmarks.reliability.figures")
charts = importlib.import_module("benchmarks.reliability.charts")
peers = importlib.import_module("benchmarks.reliability.peers")
page = importlib.import_module("benchmarks.reliability.page")
scenarios = importlib.import_module("benchmarks.reliability.scenarios")

TOKENS = (10, 100)  # of one answer, in and out
OUTAGE = faults.BY_NAME["outage"]


def outcome(at: float, ended: str = "answered", seconds: float = 0.2, **more: Any) -> dict[str, Any]:
    seen = {"at": at, "stream": False, "give_up": None, "outcome": ended, "seconds": seconds, "first": None}
    return {**seen, "model": "m", "usage": True, "error": "" if ended == "answered" else "it failed", **more}


def visit(at: float, ended: str = "succeeded", status: int = 200, billed: tuple[int, int] = TOKENS) -> VisitRecord:
    return VisitRecord(at, "m", ended, status, *(billed if ended == "succeeded" else (0, 0)))  # type: ignore[arg-type]


def test_figures_count_what_callers_got_and_what_the_dead_provider_saw() -> None:
    callers = [outcome(1.0), outcome(4.0), outcome(5.0, "lie"), outcome(6.0, "error"), outcome(20.0, "hang")]
    primary = [visit(1.0), visit(4.0, "failed", 503), visit(4.5, "rejected_429", 429), visit(13.0)]
    run = figures.measure(OUTAGE, callers, primary, [visit(4.6), visit(5.1)], TOKENS)
    assert (run["answered"], run["lies"], run["errors"], run["hangs"]) == (0.4, 0.2, 0.2, 0.2)
    assert run["dead"] == pytest.approx(2 / 3)  # calls a request of the outage
    assert run["refused"] == pytest.approx(1 / 5)
    assert run["back"] == pytest.approx(13.0 - 9.0)
    assert run["wasted"] == pytest.approx(1.0)  # four answers were paid, two were delivered


def test_callers_that_gave_up_are_no_failures_and_what_was_generated_for_them_is_waste() -> None:
    callers = [outcome(0.0), outcome(0.2, "gave_up", give_up=0.5)]
    run = figures.measure(faults.BY_NAME["give_up"], callers, [visit(0.0), visit(0.2)], [], TOKENS)
    assert (run["requests"], run["answered"], run["wasted"]) == (1, 1.0, 1.0)


def test_the_median_stands_with_the_least_and_the_most() -> None:
    runs = [{"p50": 1.0, "back": None}, {"p50": 5.0, "back": None}, {"p50": 2.0, "back": None}]
    assert figures.summarize(runs) == {"p50": [2.0, 1.0, 5.0], "back": None}


@pytest.mark.parametrize(
    ("figure", "interval", "word"),
    [
        ("lies", [0.0, 0.0, 0.1], "fail"),
        ("hangs", [0.0, 0.0, 0.1], "fail"),
        ("answered", [0.9, 0.9, 1.0], "safe"),
        ("refused", [0.2, 0.0, 0.2], "partial"),
        ("dead", [0.9, 0.0, 1.0], "partial"),
        ("p95", [9.0, 1.0, 9.0], "partial"),
        ("back", [20.0, 1.0, 20.0], "partial"),
        ("wasted", [0.5, 0.1, 0.5], "partial"),
        ("p50", [2.0, 2.0, 2.0], "pass"),
    ],
)
def test_a_verdict_is_that_of_its_worst_figure(figure: str, interval: list[float], word: str) -> None:
    calm = {name: [0.0, 0.0, 0.0] for name in ("lies", "hangs", "refused", "dead", "p50", "p95", "back", "wasted")}
    assert figures.verdict({**calm, "answered": [1.0, 1.0, 1.0], figure: interval})[0] == word


def test_every_system_gets_the_same_requests() -> None:
    for scene in faults.SCENES:
        assert scene.requests() == scene.requests()
        assert len({request.stream for request in scene.requests()}) == (1 if scene.streams == 1.0 else 2)
    leavers = [one for one in faults.BY_NAME["give_up"].requests() if one.give_up is not None]
    assert {one.stream for one in leavers} == {True, False}


SEEN = {
    "S01": ([outcome(0, seconds=2.5)], [visit(0, "rejected_429", 429), visit(2.1)], [], "pass"),
    "S02": ([outcome(0)], [visit(0.1 * n, "rejected_429", 429) for n in range(7)], [visit(1)], "fail"),
    "S03": ([outcome(0)], [visit(0, "failed", 500)], [visit(0.1)], "partial"),
    "S06": ([outcome(0, "hang", 130)], [visit(0, "disconnected", 200)], [], "fail"),
    "S08": ([outcome(0, "lie")], [visit(0, "failed", 200)], [], "fail"),
    "S10": ([outcome(0, "error")], [visit(0, "failed", 200)], [], "safe"),
    "S13": ([outcome(0)], [visit(0, "failed", 400)], [visit(0)], "partial"),
    "S14": ([outcome(0, "error")], [visit(0, "failed", 200)], [visit(0, "failed", 400)], "fail"),
}


@pytest.mark.parametrize("scenario", SEEN)
def test_a_scenario_is_judged_by_the_catalogue_s_rules(scenario: str) -> None:
    callers, primary, fallback, word = SEEN[scenario]
    spec = next(one for one in scenarios.SCENARIOS if one.id == scenario)
    seen = scenarios.Metrics(callers, primary, fallback, f"{scenario}-fallback", True)
    assert scenarios.verdict(spec, seen)["verdict"] == word


def test_a_peer_that_cannot_be_installed_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    found = peers.install({"portkey", "litellm-router"})
    assert (found.gateway, found.missing) == (None, {"portkey": "Node.js and npm are not installed"})


def test_the_page_and_its_charts_are_what_their_figures_say() -> None:
    data = page.read_figures()
    text = page.PAGE.read_text()
    assert page.written_into(text, data) == text
    for name, picture in charts.all_charts(data).items() if data else ():
        ET.fromstring(picture)  # noqa: S314 - made here
        assert (page.FOLDER / name).read_text() == picture
        assert f"reliability/{name}" in text
