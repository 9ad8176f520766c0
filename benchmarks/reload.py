"""The configuration is reloaded under load: no request fails or is lost, and the limits hold across every change.

Requests, every other one a stream, are offered at an even rate to a router and to a proxy, whose file changes every
second: the limit per minute goes down and up again, a deployment is added and taken away, and so is a chain. What the
provider has received is held against the limits that were in force.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from os import kill
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import httpx
import yaml

from benchmarks.harness import Report, percentile
from benchmarks.proxies import KEY, MODEL, one_model, started
from wallie_litellm.limiter.store import Reservation
from wallie_litellm.simulator.provider import SimulatedProvider

CHANGES_EVERY: Final = 1.0  # seconds
LOWERED: Final = 0.8  # times the offered rate; the other limit is RAISED
RAISED: Final = 1.5  # times the offered rate
BURST: Final = 0.1  # seconds of the offered rate
LATE: Final = 0.25  # seconds by which requests of the proxy may reach the provider late, and its reload be seen late
ROUNDING: Final = 0.01  # requests
_MESSAGES: Final = [{"role": "user", "content": "Hello there"}]

Ask = Callable[[bool], Awaitable[bool]]  # one request, as a stream or not; whether the answer was whole


class Reload(NamedTuple):
    """One reload: when it began and was done (Unix time), and the requests a second that are allowed from then on."""

    began: float
    done: float
    allowed: float


@dataclass
class Load:
    """What has become of the requests."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    reloads: list[Reload] = field(default_factory=list)  # the first is the start
    admitted: list[float] = field(default_factory=list)  # when; empty where only the provider can tell
    limits: list[Reload] = field(default_factory=list)  # the limits in force, by the same clock


class EditedFile:
    """A file that allows one rate, then another."""

    def __init__(self, folder: Path, api_base: str, rate: float) -> None:
        self.path = folder / "router_config.yaml"
        self.rate = rate
        self._models = one_model(api_base)["model_list"]
        self._spool = str(folder / "spool")
        self._edits = 0

    def content(self) -> dict[str, Any]:
        """The file's next content."""
        self._edits += 1
        is_odd = self._edits % 2 == 1
        added = [{**self._models[0], "model_name": "added"}] if is_odd else []
        limits = {"rpm": round(60 * self.allowed()), "burst": {"rpm": max(1, round(self.rate * BURST))}}
        return {
            "model_list": [*self._models, *added],
            "router_settings": {"fallbacks": [{MODEL: ["added"]}] if is_odd else []},
            "litellm_settings": {"callbacks": "callbacks.wallie.handler"},
            "wallie": {
                "providers": {"openai": limits},
                "admission": {"max_wait": "60s"},
                "retry": {"max_retries": 0},
                "ledger": None,
                "telemetry": {"spool": self._spool},
            },
        }

    def allowed(self) -> float:
        """Requests a second that the present content allows."""
        return self.rate * (LOWERED if self._edits % 2 else RAISED)

    def write(self) -> None:
        """Replace the file by its next content."""
        new = self.path.with_suffix(".new")
        new.write_text(yaml.safe_dump(self.content()))
        new.replace(self.path)


def run(quick: bool) -> Report:
    seconds, of_router, of_proxy = (6.0, 40.0, 15.0) if quick else (30.0, 200.0, 40.0)
    report = Report(
        f"The configuration is reloaded every second for {seconds:.0f} s",
        ("what", "offered", "answered", "failed", "lost", "over the limit", "reloads", "one takes", "p50", "p95"),
    )
    for name, rate, side in (("router", of_router, _router), ("proxy", of_proxy, _proxy)):
        figures = asyncio.run(_measure(side, rate, seconds))
        report.rows.append((name, *_cells(rate, figures)))
        report.data[name] = figures
    report.notes.append(
        f"Each reload changes the limit from {LOWERED:g} to {RAISED:g} times the offered rate or back (with a burst of "
        f"{BURST:g} s of it), adds or removes a deployment, and a chain. Lost: requests answered that the provider has "
        "not received, or received and not answered. Over the limit: the most requests by which more were admitted by "
        "the router, or received from the proxy, between two of them than limits and burst allow for the time between; "
        f"for the proxy with those that {LATE:g} s of delay may bring together. Goal: 0 failed, 0 lost, 0 over it."
    )
    return report


def _cells(rate: float, figures: dict[str, Any]) -> Sequence[str]:
    return (
        f"{rate:.0f}/s",
        f"{figures['answered']}",
        f"{sum(figures['failed'].values())}",
        f"{figures['lost']}",
        f"{figures['over']}",
        f"{figures['reloads']}",
        f"{figures['reload'] * 1000:.0f} ms",
        f"{figures['p50'] * 1000:.0f} ms",
        f"{figures['p95'] * 1000:.0f} ms",
    )


async def _measure(side: Any, rate: float, seconds: float) -> dict[str, Any]:
    load = Load()
    with (
        TemporaryDirectory() as folder,
        SimulatedProvider("openai", text="a short answer", in_process=False) as provider,
    ):
        await side(Path(folder), provider.api_base, rate, seconds, load)
        visits, counts = provider.visits(), provider.counts()
    return {
        "answered": load.answered,
        "failed": dict(load.failed),
        "lost": abs(load.answered - counts.succeeded) + counts.failed + counts.rejected_429 + counts.disconnected,
        "over": _over(load.admitted, load.limits, max(1, round(rate * BURST)))
        if load.admitted
        else _over([visit.at for visit in visits], load.reloads, max(1, round(rate * BURST)) + rate * RAISED * LATE),
        "reloads": len(load.reloads) - 1,
        "reload": percentile([one.done - one.began for one in load.reloads[1:]], 0.5),
        "p50": percentile(load.latencies, 0.5),
        "p95": percentile(load.latencies, 0.95),
    }


def _over(times: Sequence[float], reloads: Sequence[Reload], slack: float) -> int:
    """The most requests by which there were more between two ``times`` than the limits in force and ``slack`` allow."""
    spans = list(_spans(reloads))
    worst, lowest, allowed, before = 0.0, 0.0, 0.0, times[0]
    for number, at in enumerate(times):
        allowed += sum(max(0.0, min(at, end) - max(before, begin)) * most for begin, end, most in spans)
        before = at
        worst = max(worst, number + 1 - allowed - lowest)
        lowest = min(lowest, number - allowed)
    return max(0, round(worst - slack - ROUNDING))


def _spans(reloads: Sequence[Reload]) -> Iterator[tuple[float, float, float]]:
    """From when to when how much is allowed a second; while one is reloaded, the larger of two."""
    since, allowed = 0.0, reloads[0].allowed
    for one in reloads[1:]:
        yield since, one.began, allowed
        yield one.began, one.done, max(allowed, one.allowed)
        since, allowed = one.done, one.allowed
    yield since, inf, allowed


async def _offer(ask: Ask, change: Callable[[], Awaitable[float]], load: Load, rate: float, seconds: float) -> None:
    """Offer requests at an even rate for so long, and call ``change`` every second; return when all are answered."""
    began, tasks = time.monotonic(), []

    async def one(stream: bool) -> None:
        asked_at = time.monotonic()
        try:
            if not await ask(stream):
                raise ValueError("the answer is not whole")
        except Exception as error:  # noqa: BLE001 - whatever it is, the request has failed
            load.failed[f"{type(error).__name__}: {error}"[:200]] += 1
        else:
            load.answered += 1
            load.latencies.append(time.monotonic() - asked_at)

    async def changes() -> None:
        while time.monotonic() - began < seconds:
            await asyncio.sleep(CHANGES_EVERY)
            before = time.time()
            allowed = await change()
            load.reloads.append(Reload(before, time.time(), allowed))

    changing = asyncio.ensure_future(changes())
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        tasks.append(asyncio.ensure_future(one(number % 2 == 0)))
    await asyncio.gather(*tasks, changing)


async def _router(folder: Path, api_base: str, rate: float, seconds: float, load: Load) -> None:
    from wallie_litellm import build_router

    file = EditedFile(folder, api_base, rate)
    file.write()
    router = build_router(file.path)
    load.reloads.append(Reload(time.time(), time.time(), file.allowed()))
    _record_admissions(router.guard.limiter("openai"), load)

    async def ask(stream: bool) -> bool:
        answer = await router.acompletion(MODEL, _MESSAGES, stream=stream)
        if not stream:
            return bool(answer.choices[0].message.content)
        chunks = [chunk async for chunk in answer]
        return bool(chunks[-1].choices[0].finish_reason)

    async def change() -> float:
        file.write()
        await asyncio.to_thread(router.reload)
        return file.allowed()

    await _offer(ask, change, load, rate, seconds)
    quota = router.guard.status()["providers"]["openai"]["quota"]["rpm"]
    if quota["reserved"] != quota["settled"] + quota["refunded"]:
        load.failed["the accounting does not balance"] += 1
    await router.guard.aclose()


def _record_admissions(limiter: Any, load: Load) -> None:
    """Note when requests are admitted and limits changed, by the guard's clock, where neither can be late."""
    store = limiter._store
    reserve, configure = store.reserve, store.configure
    load.limits.append(Reload(-inf, -inf, store.limits.per_dimension["rpm"] / 60))

    def recorded_reserve(now: float, demand: Any, scope: str = "") -> Any:
        result = reserve(now, demand, scope)
        if isinstance(result, Reservation):
            load.admitted.append(now)
        return result

    def recorded_configure(now: float, limits: Any, *more: Any) -> None:
        configure(now, limits, *more)
        load.limits.append(Reload(now, now, limits.per_dimension["rpm"] / 60))

    store.reserve, store.configure = recorded_reserve, recorded_configure


async def _proxy(folder: Path, api_base: str, rate: float, seconds: float, load: Load) -> None:
    file = EditedFile(folder, api_base, rate)
    with started(folder, file.content(), "litellm") as proxy:
        load.reloads.append(Reload(time.time(), time.time(), file.allowed()))
        headers = {"authorization": f"Bearer {KEY}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=proxy.url, headers=headers, timeout=90.0, limits=limits) as client:

            async def ask(stream: bool) -> bool:
                body = {"model": MODEL, "messages": _MESSAGES, "stream": stream}
                answer = await client.post("/v1/chat/completions", json=body)
                answer.raise_for_status()
                return answer.text.rstrip().endswith("data: [DONE]") if stream else bool(answer.json()["choices"])

            async def change() -> float:
                before = await asyncio.to_thread(_loaded_at, proxy.url)
                file.write()
                kill(proxy.pid, signal.SIGHUP)
                while await asyncio.to_thread(_loaded_at, proxy.url) == before:  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.01)
                return file.allowed()

            await _offer(ask, change, load, rate, seconds)


def _loaded_at(url: str) -> str:
    request = urllib.request.Request(f"{url}/wallie/api/status", headers={"authorization": f"Bearer {KEY}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http
        found: str = json.load(answer)["config"]["loaded_at"]
    return found
