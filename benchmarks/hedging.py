"""A chain whose providers take far longer for one call in twenty, with and without hedges, and an outage of both.

Seconds are half of what they stand for: a call takes 0.2 s for 0.4 s, one of the tail 5 s for 10 s. The ten seconds
for which a request entitles to its share of a hedge, and the load, are as they are. The same router serves all of it:
without hedges they are switched off at run time.
"""

from __future__ import annotations

import asyncio
import copy
import random
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import litellm
import yaml

from benchmarks.harness import Report, percentile
from wallie_litellm import WallieRouter, build_router, execute_ai_request
from wallie_litellm.config import parse_config
from wallie_litellm.errors import WallieError
from wallie_litellm.simulator import SimulatedProvider, SimulatedProviders

_RATE: Final = 60.0  # requests a second
_USUAL: Final = 0.2  # seconds that a call takes
_TAIL: Final = 4.8  # seconds that a call of the tail takes in addition
_SHARE: Final = 1 / 20  # of calls that are in the tail
_AHEAD: Final = 400  # runs of calls for which a provider's tail is drawn
_DEADLINE: Final = 5.0  # seconds of requests in the outage
_GROUP: Final = "gpt-4o-mini"  # openai's; the next member is anthropic's
_PROVIDERS: Final = ("openai", "anthropic", "gemini", "groq", "deepseek")
_FEATURE: Final = "chat"
_MESSAGES: Final = [{"role": "user", "content": "What are your opening hours on public holidays? " * 8}]


class _Load(NamedTuple):
    """What callers saw: the seconds of each answer, and how many requests failed."""

    seconds: Sequence[float]
    failed: int


def run(quick: bool) -> Report:
    warm, measured, outage = (20.0, 40.0, 4.0) if quick else (60.0, 180.0, 10.0)
    report = Report(
        f"One call in twenty takes {_TAIL + _USUAL:.1f} s instead of {_USUAL:.1f} s, at {_RATE:.0f} requests/s",
        ("", "p50", "p95", "p99", "slowest", "calls beyond one each", "wasted"),
    )
    unlimited = dict.fromkeys(("rpm", "tpm", "rpd"))
    simulated = SimulatedProviders(dict.fromkeys(_PROVIDERS, unlimited), latency=_USUAL, in_process=False)
    with tempfile.TemporaryDirectory() as directory, simulated as providers:
        ledger = Path(directory) / "wallie.db"
        router = _router(providers, ledger)
        asyncio.run(_measure(report, router, providers, ledger, (warm, measured, outage)))
    _tabulate(report)
    return report


def _router(providers: SimulatedProviders, ledger: Path) -> WallieRouter:
    shipped = Path(__file__).resolve().parent.parent / "router_config.yaml"
    data: dict[str, Any] = copy.deepcopy(yaml.safe_load(shipped.read_text()))
    wide = dict.fromkeys(("rpm", "tpm"), 10**8)
    data["wallie"] |= {
        "providers": dict.fromkeys(("openai", "anthropic"), wide),
        "features": {_FEATURE: {"hedge": {"after": "p95", "budget": 0.05, "max_usd_day": 1}}},
        "breaker": {"failures": 10**6},
        "ledger": {"url": f"sqlite:///{ledger}"},
        "telemetry": {},
    }
    config = parse_config(data)
    return build_router(config, model_list=providers.point(config.model_list))


async def _measure(
    report: Report, router: WallieRouter, providers: SimulatedProviders, ledger: Path, lengths: Sequence[float]
) -> None:
    warm, measured, outage = lengths
    guard = router.guard
    asked = [providers["openai"], providers["anthropic"]]
    sides = {}
    for name, seconds in (("warm", warm), ("without hedges", measured), ("with hedges", measured)):
        guard.switch("hedge", on=name == "with hedges", actor="benchmark")
        _set_tails(asked)
        before = _hedges(guard)
        load = await _load(router, seconds)
        calls = sum(provider.counts().received for provider in asked)
        sides[name] = _figures(load, calls, before, _hedges(guard))
    for provider in asked:
        provider.heal()
        provider.hang()
    before = _hedges(guard)
    load = await _load(router, outage, deadline=_DEADLINE)
    after = _hedges(guard)
    await router.aclose()
    report.data |= {name: sides[name] for name in ("without hedges", "with hedges")}
    report.data["outage"] = {
        "requests": load.failed + len(load.seconds),
        "hedges": after["sent"] - before["sent"],
        "not sent": after["suppressed"]["outage"] - before["suppressed"]["outage"],
    }
    report.data["on record"] = _on_record(ledger)
    report.data["by the status"] = after["wasted_usd"]


def _hedges(guard: Any) -> dict[str, Any]:
    found: dict[str, Any] = guard.status()["routing"]["hedge"][_FEATURE]
    return found


def _set_tails(providers: Sequence[SimulatedProvider]) -> None:
    """Have each provider take longer for one call in twenty, by chance."""
    dice = random.Random(len(providers))
    for provider in providers:
        provider.heal()
        provider.reset()
        for _ in range(_AHEAD):
            run_length = 0
            while dice.random() >= _SHARE:
                run_length += 1
            if run_length:
                provider.slow(0.0, times=run_length)
            provider.slow(_TAIL, times=1)


async def _load(router: WallieRouter, seconds: float, deadline: float | None = None) -> _Load:
    """Requests that come by chance, whether or not earlier ones are answered."""
    dice, taken, failed = random.Random(7), list[float](), 0

    async def ask() -> None:
        nonlocal failed
        begun = time.perf_counter()
        try:
            await execute_ai_request(router, _GROUP, _MESSAGES, feature=_FEATURE, deadline=deadline)
        except WallieError:
            failed += 1
        else:
            taken.append(time.perf_counter() - begun)

    asked = []
    at = end = time.perf_counter()
    end += seconds
    while at < end:
        asked.append(asyncio.create_task(ask()))
        at += dice.expovariate(_RATE)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
    await asyncio.gather(*asked)
    return _Load(taken, failed)


def _figures(load: _Load, calls: int, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    requests = len(load.seconds) + load.failed
    return {
        **{f"p{share}": percentile(load.seconds, share / 100) for share in (50, 95, 99)},
        "slowest": max(load.seconds),
        "requests": requests,
        "failed": load.failed,
        "extra": calls / requests - 1,
        **{name: after[name] - before[name] for name in ("sent", "won", "wasted_usd")},
        "not sent": {name: count - before["suppressed"][name] for name, count in after["suppressed"].items()},
    }


def _on_record(ledger: Path) -> dict[str, float]:
    """What the ledger has of the attempts that lost: their cost, and what that is by LiteLLM's prices."""
    with sqlite3.connect(ledger) as connection:
        lost = connection.execute(
            "select deployment, prompt_tokens, completion_tokens, cost_usd from wallie_attempts where error = 'hedged'"
        ).fetchall()
        (wasted,) = connection.execute("select sum(wasted_usd) from wallie_requests").fetchone()
    by_price = 0.0
    for deployment, prompt, completion, _ in lost:
        price = litellm.model_cost.get(deployment) or litellm.model_cost[deployment.partition("/")[2]]
        by_price += prompt * price["input_cost_per_token"] + completion * price["output_cost_per_token"]
    return {"attempts": len(lost), "cost": sum(row[3] for row in lost), "wasted": wasted, "by price": by_price}


def _tabulate(report: Report) -> None:
    for name in ("without hedges", "with hedges"):
        side = report.data[name]
        report.rows.append(
            (
                name,
                *(f"{side[key]:.3f} s" for key in ("p50", "p95", "p99", "slowest")),
                f"{side['extra']:.2%} of {side['requests']}",
                f"${side['wasted_usd']:.6f}",
            )
        )
    bare, hedged, outage = report.data["without hedges"], report.data["with hedges"], report.data["outage"]
    record = report.data["on record"]
    report.notes += [
        f"p99 with hedges / without: {hedged['p99'] / bare['p99']:.3f} (goal: at most 0.30). Of {hedged['sent']} "
        f"hedges {hedged['won']} were answered first; late calls without one: {hedged['not sent']}.",
        f"On record: {record['attempts']} attempts that lost, ${record['cost']:.6f}; by LiteLLM's prices "
        f"${record['by price']:.6f}; the requests' sum ${record['wasted']:.6f}, the status' "
        f"${report.data['by the status']:.6f}.",
        f"An outage of everything: {outage['requests']} requests, {outage['hedges']} hedges (goal: 0), "
        f"{outage['not sent']} not sent for it.",
    ]
