"""``order: latency`` in simulated time: how soon a member that becomes five times slower is second, and is back.

The traffic is that of the tests (``tests/routing/traffic.py``): calls of a log-normal distribution at random times.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import inf
from statistics import median
from typing import Any, Final

from benchmarks.harness import Report

_RATES: Final = (1.0, 2.0, 5.0, 10.0)  # requests a second
_SPREAD: Final = 0.5  # sigma of the logarithm of a call's seconds
_TAKES: Final = {"a": 0.4, "b": 0.6}  # seconds, the median
_SLOWER: Final = 5.0  # times
_LONGEST: Final = 300.0  # seconds that a change of the order is waited for


def run(quick: bool) -> Report:
    make, seeds = _traffic(), range(5 if quick else 20)
    report = Report(
        f"Simulated: a member of {_TAKES['a']} s beside one of {_TAKES['b']} s becomes five times slower",
        ("requests/s", "second after", "within 30 s", "first again after", "within 120 s", "changes in an hour, equal"),
        notes=[f"Median and longest of {len(seeds)} runs; sigma {_SPREAD}. Equal: three members, one run of an hour."],
    )
    for rate in _RATES:
        times = [_there_and_back(make(_TAKES, rate, _SPREAD, seed)) for seed in seeds]
        second, again = zip(*times, strict=True)
        equal = make(dict.fromkeys("abc", 0.5), rate, _SPREAD, 0)
        equal.run(3_600.0)
        report.data[f"{rate:g}"] = {"second": second, "again": again, "changes": len(equal.changes)}
        cells = (_cell(second), _within(second, 30.0), _cell(again), _within(again, 120.0))
        report.rows.append((f"{rate:g}", *cells, str(len(equal.changes))))
    return report


def _traffic() -> Callable[..., Any]:
    found: Callable[..., Any] = import_module("tests.routing.traffic").Traffic
    return lambda takes, rate, sigma, seed: found(dict(takes), per_second=rate, sigma=sigma, seed=seed)


def _there_and_back(traffic: Any) -> tuple[float, float]:
    traffic.run(300.0)
    traffic.takes["a"] *= _SLOWER
    second = _until(traffic, ("b", "a"))
    traffic.run(300.0)
    traffic.takes["a"] /= _SLOWER
    return second, _until(traffic, ("a", "b"))


def _until(traffic: Any, order: tuple[str, ...]) -> float:
    """Seconds until the chain has this ``order``."""
    begin = traffic.now
    while traffic.order != order:
        if traffic.now - begin >= _LONGEST:
            return inf
        traffic.run(1.0)
    return float(traffic.now - begin)


def _cell(seconds: tuple[float, ...]) -> str:
    return f"{median(seconds):.0f} s, {max(seconds):.0f} s"


def _within(seconds: tuple[float, ...], goal: float) -> str:
    return f"{sum(one <= goal for one in seconds)} of {len(seconds)}"
