"""Rehearsals in real time and in simulated time: the same plans, and how long an hour takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Report
from wallie_litellm.rehearse.plan import PlannedFault, Rate, RehearsalPlan
from wallie_litellm.rehearse.run import Player

_FILE: Final = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {model: openai/gpt-4o-mini}
  - model_name: claude-sonnet-4
    litellm_params: {model: anthropic/claude-sonnet-4-6}
router_settings: {fallbacks: [{gpt-4o-mini: [claude-sonnet-4]}], timeout: 30}
wallie:
  providers: {openai: {rpm: 240}, anthropic: {rpm: 60}}
  features: {chat: {patience: 5s, first_token: 4s}}
  ledger: null
"""
_START: Final = 1_767_571_200.0  # Unix time: 2026-01-05, 00:00 UTC
_SCENARIOS: Final[Mapping[str, PlannedFault]] = {
    "outage": PlannedFault("outage", "openai", 20.0, 40.0),
    "5 times slower": PlannedFault("slow", "openai", 20.0, 40.0, 5.0),
    "a fifth of the limits": PlannedFault("tier", "openai", 0.0, 90.0, 0.2),
}
_LENGTH: Final = 90.0  # seconds of a scenario
_SHARES: Final = ("answered", "fell_back", "failed")
_SECONDS: Final = ("waited_p50", "waited_p95", "latency_p50", "latency_p95")
_LEAST: Final = 0.05  # seconds, and shares of the requests, below which a difference is none: a call takes 5 ms


def run(quick: bool) -> Report:
    report = Report(
        "Rehearsals in real time and in simulated time: 3 requests/s for 90 s, half of them streamed",
        ("scenario", "figure", "real time", "simulated", "difference"),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "router_config.yaml"
        file.write_text(_FILE)
        plans = {name: _plan(str(file), fault) for name, fault in _SCENARIOS.items()}
        for name, (real, simulated) in _both(plans):
            report.data[name] = {"real": real, "simulated": simulated}
            report.rows += [(name, *row) for row in _rows(real, simulated)]
        lengths = (("1 h at 5/s", 3_600.0, 5.0), ("a day at 1/s", 86_400.0, 1.0))
        for name, length, rate in lengths[: 1 if quick else 2]:
            plan = replace(
                _plan(str(file), _SCENARIOS["outage"]), length=length, rates=(Rate(rate, "chat"),), streams=0.0
            )
            report.data[name] = took = _took(plan)
            report.notes.append(f"{name}: {took:.0f} s for the run and, beside it, the one without the fault.")
    return report


def _plan(file: str, fault: PlannedFault) -> RehearsalPlan:
    return RehearsalPlan(file, _LENGTH, 1, _START, (fault,), (Rate(3.0, "chat"),), tokens=(200, 80), streams=0.5)


def _both(plans: Mapping[str, RehearsalPlan]) -> Iterator[tuple[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """The figures of each plan in real and in simulated time."""
    found = []
    for real_time in (True, False):
        with Player(real_time=real_time, start=_START) as player:
            played = player.play([replace(plan, real_time=real_time) for plan in plans.values()])
        found.append([_figures(one) for one in played])
    yield from zip(plans, zip(*found, strict=True), strict=True)  # type: ignore[misc] # of two


def _figures(played: Mapping[str, Any]) -> dict[str, float]:
    total = played["total"]
    shares = {name: total[name] / max(1, total["requests"]) for name in _SHARES}
    seconds = {name: total[name] for name in _SECONDS}
    (fault,) = played["faults"]
    times = {name: fault[f"{name}"] for name in ("noticed_after", "back_after") if fault[name] is not None}
    calls = {f"calls at {name}": one["calls"] for name, one in played["providers"].items()}
    return {**shares, **seconds, **times, **calls, "cost_usd": total["cost_usd"], "late": played["late"]}


def _rows(real: Mapping[str, float], simulated: Mapping[str, float]) -> Iterator[tuple[str, str, str, str]]:
    for name, value in real.items():
        yield (
            name,
            f"{value:.3f}",
            f"{simulated.get(name, 0.0):.3f}",
            f"{difference(value, simulated.get(name, 0.0)):.1%}",
        )


def difference(real: float, simulated: float) -> float:
    """By how much the two differ, as a share of the real one; 0 where it is too little to be seen."""
    apart = abs(real - simulated)
    return 0.0 if apart <= _LEAST else apart / max(abs(real), _LEAST)


def _took(plan: RehearsalPlan) -> float:
    began = time.monotonic()
    with Player(real_time=False, start=plan.start) as player:
        player.play([plan, plan.without_faults()])
    return time.monotonic() - began
