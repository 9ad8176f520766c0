"""Two models of one account, each with limits of its own beside the account's, at twice what they allow.

In one process, in four that share a Redis, and on LiteLLM's Router without limits. The provider enforces all limits by
itself, in slices of a second, and grants one second of each rate more than it says.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.harness import Report
from benchmarks.limits_side import Plan, SideReport, begin_together, running, sleep_until
from wallie_litellm.simulator import SimulatedProvider

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from redis_support import RedisServer

_MODELS = {"gpt-4o": 6, "gpt-4o-mini": 8}  # requests a second that each allows
_ACCOUNTS = {"the account binds": 12, "the models bind": 18}  # requests a second of both together
_SLACK = 1.0  # seconds of each rate that the provider allows on top, for the delays of the network
_FILLED = 3.0  # seconds until the limits that the warm-up used are whole again


def run(quick: bool) -> Report:
    seconds = 15.0 if quick else 60.0
    report = Report(
        f"Two models with limits of their own beside the account's, at twice the load for {seconds:.0f} s",
        ("router", "limits", "used", "upstream 429s", "over, at worst", "smallest share", "exchanges an admit"),
    )
    for case, account in _ACCOUNTS.items():
        _measure(report, f"ours, in memory; {case}", account, seconds, ["memory"])
        with RedisServer() as server:
            _measure(report, f"ours, four processes; {case}", account, seconds, [server.url] * 4)
        _measure(report, f"LiteLLM, num_retries=3; {case}", account, seconds, [None])
    report.notes.append(
        "Used: successes while the load lasted, over what account and models together allowed; over: by how many "
        "requests an exact bucket of that limit was exceeded as they arrived upstream. Goal: no 429, nothing over, and "
        "at least 98 % used."
    )
    return report


def _section(account: int, store: str) -> Mapping[str, Any]:
    """Limits per minute, with bursts of one second."""
    models = {name: {"rpm": rate * 60, "burst": {"rpm": rate}} for name, rate in _MODELS.items()}
    limits = {"rpm": account * 60, "burst": {"rpm": account}, "models": models}
    return {"providers": {"openai": limits}, "admission": {"max_wait": "5s"}, "store": {"url": store}}


def _measure(report: Report, name: str, account: int, seconds: float, stores: Sequence[str | None]) -> None:
    models = {model: {"rpm": rate * 60} for model, rate in _MODELS.items()}
    groups = {model: f"openai/{model}" for model in _MODELS}
    rates = {model: 2.0 * rate / len(stores) for model, rate in _MODELS.items()}
    limits = {"rpm": account * 60, "models": models, "slack": _SLACK, "slice_seconds": 1.0}
    with ExitStack() as stack:
        provider = stack.enter_context(SimulatedProvider("openai", in_process=False, **limits))
        sides = [
            stack.enter_context(
                running(
                    Plan(
                        provider.api_base, groups, rates, seconds, 10.0, None if url is None else _section(account, url)
                    )
                )
            )
            for url in stores
        ]
        start = begin_together(sides, _FILLED)
        sleep_until(start - 0.05)
        provider.reset()
        reports = [side.report() for side in sides]
        figures = _figures(reports, account, seconds)
        figures["429"] = provider.counts().by_limit
        figures["over"] = {
            model or "account": provider.limits(model)["rpm"].over if model else provider.limits()["rpm"].over
            for model in ("", *_MODELS)
        }
    report.data[name] = figures
    router, _, case = name.partition("; ")
    report.rows.append((router, case, *_cells(figures)))


def _figures(reports: Sequence[SideReport], account: int, seconds: float) -> dict[str, Any]:
    served = dict.fromkeys(_MODELS, 0)
    for side in reports:
        for call in side.calls:
            if not call.error and call.ended <= seconds:
                served[call.group] += 1
    total = sum(served.values())
    allowed = min(account, sum(_MODELS.values())) * (seconds + 1)
    admits = sum(not call.error for side in reports for call in side.calls)
    exchanges = sum(side.status.get("store", {}).get("exchanges", {}).get("openai", 0) for side in reports)
    errors = {call.error for side in reports for call in side.calls if call.error} - {"RateLimited"}
    shares = [sum(not call.error for call in side.calls) for side in reports]
    return {
        "used": total / allowed,
        "used_by_model": {model: served[model] / (rate * (seconds + 1)) for model, rate in _MODELS.items()},
        "smallest_share": min(shares) * len(shares) / max(1, sum(shares)),
        "exchanges_an_admit": exchanges / max(1, admits),
        "errors": sorted(errors),
        "lag": max(side.lag for side in reports),
    }


def _cells(figures: dict[str, Any]) -> tuple[str, ...]:
    by_model = ", ".join(f"{name} {share:.0%}" for name, share in figures["used_by_model"].items())
    refused = {pattern or "account": sum(names.values()) for pattern, names in figures["429"].items()}
    return (
        f"{figures['used']:.1%} ({by_model})",
        ", ".join(f"{count} {name}" for name, count in refused.items()) or "0",
        ", ".join(f"{name} {over:.1f}" for name, over in figures["over"].items()),
        f"{figures['smallest_share']:.2f}",
        f"{figures['exchanges_an_admit']:.3f}",
    )
