"""Fifty viewers of a proxy's dashboard with a million attempts in the ledger: page latency, and slowdown of calls."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import proxies
from benchmarks.dashboard_client import CALLS, OPENED_WITHIN, VIEWERS
from benchmarks.harness import Estimate, Report, estimate, module_process, percentile, read_line, write_line
from benchmarks.ledger_queries import fill
from wallie_litellm.ledger.engine import open_engine
from wallie_litellm.simulator.providers import SimulatedProviders

PAGE_MS = 200.0  # goal: 95 % of the pages within
SLOWER = 0.05  # goal: by less than that
LATENCIES = (0.0, 0.3)  # seconds that the provider takes for an answer


def run(quick: bool) -> Report:
    attempts, rounds, seconds = (50_000, 2, 8.0) if quick else (1_000_000, 8, 20.0)
    report = Report(
        f"The dashboard with {attempts:,} attempts in the ledger and {VIEWERS} viewers",
        ("what", "p50, ms", "p95, ms", "goal", ""),
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        asyncio.run(_fill(f"sqlite:///{folder}/wallie.db", attempts))
        for latency in LATENCIES:
            _measure(report, folder, latency, rounds, seconds)
    report.notes.append(
        "One LiteLLM proxy process with SQLite. In each round the viewers open the page within "
        f"{OPENED_WITHIN:.0f} s and leave it open, as live.js refreshes it; a fifth look at 1 h, two fifths at 24 h, "
        "the rest at 7 d and 30 d. The page's times include those of the first refresh, and leave out later ones, "
        f"which the server holds back. {CALLS:.0f} calls a second go through the proxy to a simulated provider, begun "
        "when due. Rounds with and without viewers alternate; slower is the ratio of a round with viewers to its "
        "neighbour without, of their medians or means: the median of the rounds with its 95 % interval. The proxy, the "
        "provider, the callers and the viewers share this machine's cores."
    )
    return report


async def _fill(url: str, attempts: int) -> None:
    engine = open_engine(url)
    try:
        await fill(engine, attempts, time.time())
    finally:
        await engine.dispose()


def _measure(report: Report, folder: Path, latency: float, rounds: int, seconds: float) -> None:
    with ExitStack() as stack:
        provider = {"rpm": None, "tpm": None, "rpd": None, "latency": latency, "in_process": False}
        fleet = stack.enter_context(SimulatedProviders({"openai": provider}))
        proxy = stack.enter_context(
            proxies.started(folder, _config(folder, fleet["openai"].api_base), "wallie-litellm", "proxy")
        )
        callers, viewers = (
            stack.enter_context(module_process("dashboard_client", kind, proxy.url, proxies.KEY))
            for kind in ("calls", "viewers")
        )
        _work(callers, 3.0)  # LiteLLM loads what it needs with its first calls
        _work(viewers, 3.0)
        alone: list[list[float]] = []
        viewed: list[list[float]] = []
        pages: list[float] = []
        held = 0
        failed = 0
        for number in range(rounds):
            for with_viewers in (False, True) if number % 2 else (True, False):
                if with_viewers:
                    write_line(viewers, seconds)
                calls = _work(callers, seconds)
                (viewed if with_viewers else alone).append(calls["calls"])
                failed += len(calls["failed"])
                if with_viewers:
                    seen = _answer(viewers)
                    pages += seen["at once"]
                    held += len(seen["held"])
                    failed += len(seen["failed"])
    _rows(report, latency, alone, viewed, pages, held, failed)


def _rows(
    report: Report,
    latency: float,
    alone: list[list[float]],
    viewed: list[list[float]],
    pages: list[float],
    held: int,
    failed: int,
) -> None:
    slower = estimate(
        [statistics.median(one) / statistics.median(other) for one, other in zip(viewed, alone, strict=True)]
    )
    mean = estimate([statistics.fmean(one) / statistics.fmean(other) for one, other in zip(viewed, alone, strict=True)])
    name = f"provider answers in {latency * 1e3:.0f} ms"
    verdict = "met" if percentile(pages, 0.95) < PAGE_MS else "missed"
    report.rows.append((f"page, {name}", *_middle_and_tail(pages), f"p95 < {PAGE_MS:.0f} ms", verdict))
    for what, rounds in (("calls without viewers", alone), ("calls with viewers", viewed)):
        report.rows.append((f"{what}, {name}", *_middle_and_tail(list(chain.from_iterable(rounds))), "", ""))
    verdict = "met" if slower.median < 1 + SLOWER else "missed"
    report.rows.append((f"calls slower by, {name}", _percent(slower), "", f"< {SLOWER:.0%}", verdict))
    report.rows.append((f"calls slower by, mean, {name}", _percent(mean), "", "", ""))
    report.data[name] = {
        "page_p95_ms": percentile(pages, 0.95),
        "refreshes": held,
        "slower": slower.as_dict(),
        "slower_mean": mean.as_dict(),
        "failed": failed,
    }
    if failed:
        report.notes.append(f"{failed} requests failed ({name}).")


def _middle_and_tail(found: list[float]) -> tuple[str, str]:
    return f"{statistics.median(found):.1f}", f"{percentile(found, 0.95):.1f}"


def _percent(ratio: Estimate) -> str:
    return " … ".join(f"{(value - 1) * 100:+.1f} %" for value in (ratio.low, ratio.median, ratio.high))


def _config(folder: Path, api_base: str) -> dict[str, Any]:
    return {
        **proxies.one_model(api_base),
        "litellm_settings": {"callbacks": ["callbacks.wallie.handler"]},
        "wallie": {
            "providers": {"openai": {"rpm": 100_000, "tpm": 100_000_000, "rpd": 100_000_000}},
            "ledger": {"url": f"sqlite:///{folder}/wallie.db"},
            "telemetry": {"spool": str(folder / "spool")},
        },
    }


def _work(client: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    write_line(client, seconds)
    return _answer(client)


def _answer(client: subprocess.Popen[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_line(client))
    return found
