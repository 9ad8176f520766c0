"""From what callers and providers saw to figures, and from the figures of repeated runs to a verdict."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.harness import percentile
from benchmarks.reliability.faults import Scene
from wallie_litellm.simulator import VisitRecord

# US dollars for a token in and one out, of gpt-4o-mini (OpenAI's price list).
PRICES: Final = (0.15e-6, 0.60e-6)
ANSWERED: Final = 0.99  # share of requests whose answer a verdict of pass or partial needs
REFUSED: Final = 0.05  # 429s of the primary a request: above it, a system runs into limits by the dozen
DEAD: Final = 0.5  # calls of a dead primary a request of that time: one for every second request
SLOW: Final = 5.0  # seconds that 95 % of the answers may take at most
BACK: Final = 12.0  # seconds in which a primary that is well again is used: a cooldown, and a little more
WASTED: Final = 0.10  # of what the answers cost
VERDICTS: Final = ("pass", "partial", "safe", "fail")


def measure(
    scene: Scene,
    outcomes: Sequence[dict[str, Any]],
    primary: Sequence[VisitRecord],
    fallback: Sequence[VisitRecord],
    text_tokens: tuple[int, int],
) -> dict[str, float | None]:
    """The figures of one run. ``text_tokens`` are those of one answer, in and out."""
    stayed = [one for one in outcomes if one["give_up"] is None]
    answered = [one for one in outcomes if one["outcome"] == "answered"]
    times = [one["seconds"] for one in answered]
    firsts = [one["first"] for one in answered if one["stream"] and one["first"] is not None]
    count = len(stayed)
    dead, asked = _dead(scene, outcomes, primary)
    paid = sum(_price(visit.prompt_tokens, visit.completion_tokens) for visit in (*primary, *fallback))
    worth = _price(*text_tokens) * len(answered)
    return {
        "requests": count,
        "answered": sum(one["outcome"] == "answered" for one in stayed) / count,
        "lies": sum(one["outcome"] == "lie" for one in stayed) / count,
        "errors": sum(one["outcome"] == "error" for one in stayed) / count,
        "hangs": sum(one["outcome"] == "hang" for one in stayed) / count,
        "p50": percentile(times, 0.5) if times else None,
        "p95": percentile(times, 0.95) if times else None,
        "first": percentile(firsts, 0.5) if firsts else None,
        "refused": sum(visit.status == 429 for visit in primary) / len(outcomes),
        "refused_by_fallback": sum(visit.status == 429 for visit in fallback) / len(outcomes),
        "calls": (len(primary) + len(fallback)) / len(outcomes),
        "dead": dead / asked if asked else None,
        "used": _used(scene, primary),
        "back": _back(scene, primary),
        "wasted_usd": max(0.0, paid - worth) / len(outcomes) * 1000,
        "wasted": max(0.0, paid - worth) / worth if worth else None,
    }


def _dead(scene: Scene, outcomes: Sequence[dict[str, Any]], primary: Sequence[VisitRecord]) -> tuple[int, int]:
    """Calls of the primary while it was dead, and requests that were sent then."""

    def within(at: float) -> bool:
        return any(low <= at < high for low, high in scene.dead)

    return sum(within(visit.at) for visit in primary), sum(within(one["at"]) for one in outcomes)


def _used(scene: Scene, primary: Sequence[VisitRecord]) -> float | None:
    if scene.allowed is None:
        return None
    served = sum(visit.outcome == "succeeded" and visit.at <= scene.lasts + 0.5 for visit in primary)
    return served / scene.allowed


def _back(scene: Scene, primary: Sequence[VisitRecord]) -> float | None:
    """Seconds from the primary's recovery to the first answer that it gives."""
    if scene.healed is None:
        return None
    served = [visit.at for visit in primary if visit.at >= scene.healed and visit.outcome == "succeeded"]
    return min(served) - scene.healed if served else scene.seconds


def _price(prompt: int, completion: int) -> float:
    return prompt * PRICES[0] + completion * PRICES[1]


def summarize(runs: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """The median of each figure over the runs, with the least and the most."""
    return {name: _interval([run[name] for run in runs]) for name in runs[0]}


def _interval(values: Iterable[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return [round(number, 5) for number in (statistics.median(known), min(known), max(known))]


def verdict(summary: dict[str, Any]) -> tuple[str, str]:
    """What the callers got and how the providers fared, as one word, and why.

    ``fail`` is a lie or a hang in any run. ``safe`` is an error for some, said at once. ``partial`` is an answer for
    all, with one of the bounds above passed.
    """
    if summary["lies"][2] > 0:
        return "fail", f"{summary['lies'][0]:.0%} short or wrong answers that look right"
    if summary["hangs"][2] > 0:
        return "fail", f"{summary['hangs'][0]:.0%} without an answer at the deadline"
    if summary["answered"][0] < ANSWERED:
        return "safe", f"{1 - summary['answered'][0]:.0%} errors"
    passed = [text for bad, text in _bounds(summary) if bad]
    return ("partial", "; ".join(passed)) if passed else ("pass", "")


def _bounds(summary: dict[str, Any]) -> Iterable[tuple[bool, str]]:
    def median(name: str) -> float:
        return 0.0 if summary[name] is None else float(summary[name][0])

    yield median("refused") > REFUSED, f"{median('refused'):.2f} refused calls a request"
    yield median("dead") > DEAD, f"{median('dead'):.2f} calls of the dead provider a request"
    yield median("p95") > SLOW, f"p95 {median('p95'):.1f} s"
    yield median("back") > BACK, f"back after {median('back'):.0f} s"
    yield median("wasted") > WASTED, f"{median('wasted'):.0%} of the cost for nothing"
