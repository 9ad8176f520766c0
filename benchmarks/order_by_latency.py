"""A provider that becomes five times slower, and one that falls silent: ``order: latency`` and ``first_token: auto``.

Seconds are as they are: two providers in processes of their own, one router a row, all of them under the same load at
the same time. What the order does in an hour with equal providers is simulated by the tests (``tests/routing``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

from benchmarks.harness import Report, percentile
from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.simulator import SimulatedProvider

_RATE: Final = 10.0  # requests a second
_FIRST, _SECOND = "gpt-4o-mini", "claude-sonnet-4"
_TAKES: Final = {_FIRST: 0.2, _SECOND: 0.3}  # seconds
_SLOWER: Final = 4 * _TAKES[_FIRST]  # seconds in addition: five times slower
_MODELS: Final = {_FIRST: "openai/gpt-4o-mini", _SECOND: "anthropic/claude-sonnet-4-6"}
_SLOW_SIDES: Final[Mapping[str, Mapping[str, Any]]] = {
    "order: fixed": {},
    "order: latency": {"routing": {"order": "latency"}},
}
_SILENT_SIDES: Final[Mapping[str, Mapping[str, Any]]] = {
    "first_token: 30s": {"features": {"chat": {"first_token": "30s"}}},
    "first_token: auto": {"features": {"chat": {"first_token": "auto"}}},
    "both auto and latency": {"features": {"chat": {"first_token": "auto"}}, "routing": {"order": "latency"}},
}


class _Answer(NamedTuple):
    """One request: when it began, in seconds from the first, how long it took, and which group served."""

    at: float
    took: float
    group: str


def run(quick: bool) -> Report:
    before, during, after = (30.0, 45.0, 60.0) if quick else (60.0, 120.0, 180.0)
    report = Report(
        f"A provider of {_TAKES[_FIRST]:.1f} s that becomes five times slower, and one that falls silent, at"
        f" {_RATE:.0f} requests/s",
        ("case", "row", "p50 meanwhile", "p95", "slowest", "second after", "first again after", "calls it saw"),
    )
    slow = _under_load(_SLOW_SIDES, (before, during, after), "slow")
    silent = _under_load(_SILENT_SIDES, (before, 60.0, 0.0), "silent")
    for case, sides in (("5 times slower", slow), ("silent", silent)):
        for name, (answers, calls) in sides.items():
            report.data[f"{case}, {name}"] = figures = _figures(answers, calls, before, before + during)
            report.rows.append((case, name, *_cells(figures)))
    return report


def _figures(answers: Sequence[_Answer], calls: int, begin: float, end: float) -> dict[str, Any]:
    meanwhile = sorted(one.took for one in answers if begin <= one.at < end)
    return {
        "p50": percentile(meanwhile, 0.5),
        "p95": percentile(meanwhile, 0.95),
        "slowest": meanwhile[-1],
        "second_after": _settled(answers, begin, end, _SECOND),
        "first_again_after": _settled(answers, end, answers[-1].at, _FIRST),
        "calls": calls,
    }


def _settled(answers: Sequence[_Answer], begin: float, end: float, group: str) -> float | None:
    """Seconds from ``begin`` until nine of ten of ten seconds' requests are served by ``group``."""
    for start in range(int(begin), int(end) - 10):
        served = [one.group == group for one in answers if start <= one.at < start + 10]
        if served and sum(served) >= 0.9 * len(served):
            return start - begin
    return None


def _cells(figures: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{figures[name]:.2f} s" for name in ("p50", "p95", "slowest"))
    yield from (
        "-" if figures[name] is None else f"{figures[name]:.0f} s" for name in ("second_after", "first_again_after")
    )
    yield f"{figures['calls']:,}"


def _under_load(
    sides: Mapping[str, Mapping[str, Any]], lengths: tuple[float, float, float], fault: str
) -> dict[str, tuple[list[_Answer], int]]:
    with ExitStack() as stack:
        opened = {name: stack.enter_context(_opened(wallie)) for name, wallie in sides.items()}
        return asyncio.run(_measure(opened, lengths, fault))


async def _measure(
    opened: Mapping[str, tuple[Any, SimulatedProvider]], lengths: tuple[float, float, float], fault: str
) -> dict[str, tuple[list[_Answer], int]]:
    for router, _ in opened.values():
        for group in _MODELS:
            await router.acompletion(group, [{"role": "user", "content": "Hello"}])
    start = time.perf_counter()
    loads = {name: asyncio.create_task(_load(router, start, sum(lengths))) for name, (router, _) in opened.items()}
    before, during, _ = lengths
    await asyncio.sleep(start + before - time.perf_counter())
    for _, provider in opened.values():
        provider.reset()
        provider.slow(_SLOWER) if fault == "slow" else provider.hang()
    await asyncio.sleep(start + before + during - time.perf_counter())
    calls = {name: provider.counts().received for name, (_, provider) in opened.items()}
    for _, provider in opened.values():
        provider.heal()
    return {name: (await load, calls[name]) for name, load in loads.items()}


async def _load(router: Any, start: float, seconds: float) -> list[_Answer]:
    answers: list[_Answer] = []

    async def ask() -> None:
        began = time.perf_counter()
        answer = await router.acompletion(
            _FIRST, [{"role": "user", "content": "Hello"}], metadata={"feature": "chat"}, timeout=60
        )
        group = answer._hidden_params["additional_headers"]["x-wallie-model-group"]
        answers.append(_Answer(began - start, time.perf_counter() - began, group))

    asked = []
    for number in range(int(seconds * _RATE)):
        await asyncio.sleep(max(0.0, start + number / _RATE - time.perf_counter()))
        asked.append(asyncio.create_task(ask()))
    await asyncio.gather(*asked)
    return sorted(answers)


@contextmanager
def _opened(wallie: Mapping[str, Any]) -> Iterator[tuple[Any, SimulatedProvider]]:
    with ExitStack() as stack:
        servers = {
            group: stack.enter_context(
                SimulatedProvider(model.partition("/")[0], in_process=False, latency=_TAKES[group])
            )
            for group, model in _MODELS.items()
        }
        models = [
            {
                "model_name": group,
                "litellm_params": {"model": model, "api_base": servers[group].api_base, "api_key": "sk-simulated"},
            }
            for group, model in _MODELS.items()
        ]
        unlimited = {"openai": {"rpm": 10**6}, "anthropic": {"rpm": 10**6}}
        settings = {"providers": unlimited, "ledger": None, **wallie}
        chain = {"router_settings": {"fallbacks": [{_FIRST: [_SECOND]}]}}
        router = build_router(parse_config({"model_list": models, "wallie": settings, **chain}))
        try:
            yield router, servers[_FIRST]
        finally:
            router.guard.close()
