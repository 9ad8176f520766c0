"""Rehearsals in real time and in simulated time: the same plans, and how long an hour takes.

Figures are medians over seeds. In real time all plans are played side by side, at rates that leave the machine idle for
most of the time: what it computes takes time there, and none in simulated time.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.harness import Report
from wallie_litellm.rehearse.plan import DEAD, PlannedFault, Rate, RehearsalPlan
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
    "outage": PlannedFault("outage", "openai", 40.0, 80.0),
    "5 times slower": PlannedFault("slow", "openai", 40.0, 80.0, 5.0),
    "a fifth of the limits": PlannedFault("tier", "openai", 0.0, 180.0, 0.2),
}
_LENGTH: Final = 180.0  # seconds of a scenario
_PER_SECOND: Final = 2.0  # requests
_SEEDS: Final = (1, 2, 3)
_LATE: Final = 0.1  # seconds; a pause of 1.25 s, of which a storm of 429s has many, is then a twelfth longer
_DAY: Final = 24  # hours
_AGREE: Final = 0.05  # the goal: by what share two figures may differ
_SHARES: Final = ("answered", "fell_back", "failed")
_SECONDS: Final = ("waited_p50", "waited_p95", "latency_p50", "latency_p95")
# Below these a difference is none: two of 360 requests, and seconds, since a call takes 5 ms and several come at once.
_LEAST: Final = {**dict.fromkeys(_SHARES, 0.006), **dict.fromkeys((*_SECONDS, "noticed_after", "back_after"), 0.05)}


def run(quick: bool) -> Report:
    seeds = _SEEDS[:1] if quick else _SEEDS
    report = Report(
        f"Rehearsals in real time and in simulated time: {_PER_SECOND:g} requests/s for {_LENGTH:g} s, half of them "
        f"streamed, medians of {len(seeds)} seeds",
        ("scenario", "figure", "real time", "simulated", "difference"),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "router_config.yaml"
        file.write_text(_FILE)
        plans = {name: [_plan(str(file), fault, seed) for seed in seeds] for name, fault in _SCENARIOS.items()}
        report.notes.append(f"Load of the machine before the runs: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores.")
        for name, (real, simulated) in _both(plans).items():
            report.data[name] = {"real": real, "simulated": simulated}
            report.rows += [(name, *row) for row in _rows(_medians(real), _medians(simulated))]
            late = max(one["late"] for one in real)
            busy = ": the machine was busy, so that these figures say little" if late > _LATE else ""
            report.notes.append(f"{name}, in real time: requests began up to {late:.3f} s late{busy}.")
        apart = [row for row in report.rows if float(row[-1].rstrip("%")) / 100 > _AGREE]
        report.notes.append(f"Figures that differ by more than {_AGREE:.0%}: {len(apart)} of {len(report.rows)}.")
        for rate in (1.0,) if quick else (1.0, 5.0):
            report.notes.append(_speed(replace(plans["outage"][0], rates=(Rate(rate, "chat"),), streams=0.0)))
    return report


def _speed(plan: RehearsalPlan) -> str:
    """How long an hour takes, and a day by that: in each request costs as much."""
    rate, hour = plan.rates[0].per_second, replace(plan, length=3_600.0)
    took = _took(hour)
    return (
        f"1 h at {rate:g}/s: {took:.0f} s for the run and, beside it, the one without the fault, "
        f"{1000 * took / (3_600 * rate):.1f} ms a request; a day by that: {took * _DAY / 60:.0f} min."
    )


def _plan(file: str, fault: PlannedFault, seed: int) -> RehearsalPlan:
    rates = (Rate(_PER_SECOND, "chat"),)
    return RehearsalPlan(file, _LENGTH, seed, _START, (fault,), rates, tokens=(200, 80), streams=0.5)


_Runs = list[dict[str, float]]  # the figures of each seed


def _both(plans: Mapping[str, list[RehearsalPlan]]) -> dict[str, tuple[_Runs, _Runs]]:
    """The figures of each plan in real and in simulated time."""
    flat = [(name, plan) for name, own in plans.items() for plan in own]
    found: dict[str, tuple[_Runs, _Runs]] = {name: ([], []) for name in plans}
    for kind, real_time in enumerate((True, False)):
        with Player(real_time=real_time, start=_START) as player:
            played = player.play([replace(plan, real_time=real_time) for _, plan in flat])
        for (name, plan), one in zip(flat, played, strict=True):
            found[name][kind].append(_figures(one, plan.faults[0]))
    return found


def _medians(runs: _Runs) -> dict[str, float]:
    return {name: median(one[name] for one in runs) for name in runs[0] if name != "late"}


def _figures(played: Mapping[str, Any], fault: PlannedFault) -> dict[str, float]:
    total = played["total"]
    shares = {name: total[name] / max(1, total["requests"]) for name in _SHARES}
    seconds = {name: total[name] for name in _SECONDS}
    (seen,) = played["faults"]
    names = ("noticed_after", "back_after") if fault.kind in DEAD else ("noticed_after",)
    times = {name: math.inf if seen[name] is None else seen[name] for name in names}
    calls = {f"calls at {name}": one["calls"] for name, one in played["providers"].items()}
    return {**shares, **seconds, **times, **calls, "cost_usd": total["cost_usd"], "late": played["late"]}


def _rows(real: Mapping[str, float], simulated: Mapping[str, float]) -> Iterator[tuple[str, str, str, str]]:
    for name, value in real.items():
        yield (
            name,
            f"{value:.3f}",
            f"{simulated[name]:.3f}",
            f"{difference(value, simulated[name], _LEAST.get(name, 0.0)):.1%}",
        )


def difference(real: float, simulated: float, least: float) -> float:
    """By how much the two differ, as a share of the real one; 0 up to ``least``."""
    if real == simulated or abs(real - simulated) <= least:
        return 0.0
    return abs(real - simulated) / max(abs(real), 1e-9)


def _took(plan: RehearsalPlan) -> float:
    began = time.monotonic()
    with Player(real_time=False, start=plan.start) as player:
        player.play([plan, plan.without_faults()])
    return time.monotonic() - began
