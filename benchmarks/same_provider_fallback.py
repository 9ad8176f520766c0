"""A chain from one model of a provider to another, while the first answers 503 for a while.

Ours with a breaker per model, ours with one per provider, and LiteLLM's Router with the same fallback: each is a
process with a provider process of its own, and all run at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from benchmarks.harness import Report, percentile
from benchmarks.limits_side import Plan, SideReport, begin_together, running, sleep_until
from wallie_litellm.simulator import SimulatedProvider

_PRIMARY, _FALLBACK = "gpt-4o", "gpt-4o-mini"
_RATE = 5.0  # requests a second
_BEFORE = 5.0  # seconds of load until the primary fails
_LIMITS = {"providers": {"openai": {"rpm": 6000}}}
_SIDES: Mapping[str, Mapping[str, Any] | None] = {
    "ours, breaker per model": {**_LIMITS, "breaker": {"per": "model"}},
    "ours, breaker per provider": {**_LIMITS, "breaker": {"per": "provider"}},
    "LiteLLM, num_retries=3": None,
}


def run(quick: bool) -> Report:
    outage, after = (20.0, 40.0) if quick else (60.0, 40.0)
    report = Report(
        f"Primary and fallback at one provider, the primary answers 503 for {outage:.0f} s at {_RATE:.0f} requests/s",
        (
            "router",
            "succeeded meanwhile",
            "by the fallback",
            "calls of the primary",
            "p95 meanwhile",
            "primary is back",
        ),
    )
    with ExitStack() as stack:
        providers, sides = {}, {}
        for name, wallie in _SIDES.items():
            provider = stack.enter_context(SimulatedProvider("openai", in_process=False, latency=0.05))
            plan = Plan(
                provider.api_base,
                {_PRIMARY: f"openai/{_PRIMARY}", _FALLBACK: f"openai/{_FALLBACK}"},
                {_PRIMARY: _RATE},
                _BEFORE + outage + after,
                10.0,
                wallie,
                {_PRIMARY: [_FALLBACK]},
            )
            providers[name], sides[name] = provider, stack.enter_context(running(plan))
        start = begin_together(sides.values())
        sleep_until(start + _BEFORE)
        for provider in providers.values():
            provider.reset()
            provider.fail(503, model=_PRIMARY)
        sleep_until(start + _BEFORE + outage)
        primary_calls = {name: provider.counts().by_model.get(_PRIMARY, 0) for name, provider in providers.items()}
        for provider in providers.values():
            provider.heal()
        for name, side in sides.items():
            figures = _figures(side.report(), _BEFORE, _BEFORE + outage)
            figures["primary_calls"] = primary_calls[name]
            report.data[name] = figures
    _tabulate(report)
    return report


def _figures(side: SideReport, failing: float, healed: float) -> dict[str, Any]:
    """Of the requests that were due while the primary failed, and of its return."""
    meanwhile = side.within(failing, healed)
    succeeded = [call for call in meanwhile if not call.error]
    back = [call.ended - healed for call in side.calls if call.due > healed and call.served_by.endswith(_PRIMARY)]
    return {
        "offered": len(meanwhile),
        "succeeded": len(succeeded) / len(meanwhile),
        "by_fallback": sum(call.served_by.endswith(_FALLBACK) for call in succeeded) / len(meanwhile),
        "p95": percentile([call.ended - call.due for call in succeeded], 0.95),
        "back_after": min(back, default=None),
        "lag": side.lag,
    }


def _tabulate(report: Report) -> None:
    ours, base = report.data["ours, breaker per model"], report.data["LiteLLM, num_retries=3"]
    for name, figures in report.data.items():
        back = figures["back_after"]
        report.rows.append(
            (
                name,
                f"{figures['succeeded']:.1%} of {figures['offered']}",
                f"{figures['by_fallback']:.1%}",
                f"{figures['primary_calls']}",
                f"{figures['p95']:.2f} s" if figures["succeeded"] else "",
                "never" if back is None else f"after {back:.1f} s",
            )
        )
    report.notes.append(
        "Goal: the fallback serves all of it, at most 10 calls of the primary, back within 30 s. Calls of the primary, "
        f"ours per model / LiteLLM's: {ours['primary_calls'] / max(1, base['primary_calls']):.3f}."
    )
