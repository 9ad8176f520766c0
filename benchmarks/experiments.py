"""How often experiments name a false winner, and a true one, with a look after every 20 requests."""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import Report

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from experiment_simulation import Draw, bernoulli, experiment, log_normal, normal

REQUESTS = 2000  # of both arms together
MANY = 20_000  # requests of an experiment that runs long


class Case(NamedTuple):
    """One kind of experiment; ``share`` is the second arm's."""

    name: str
    draws: tuple[Draw, Draw]
    bounded: bool = False
    share: float = 0.5
    users: int = 0
    requests: int = REQUESTS


def _equal(name: str, draw: Draw, **settings: object) -> Case:
    return Case(name, (draw, draw), **settings)  # type: ignore[arg-type]


FALSE = (
    _equal("success or feedback, 0.50", bernoulli(0.5), bounded=True),
    _equal("success, 0.97", bernoulli(0.97), bounded=True),
    _equal("success, 0.97, split 90 to 10", bernoulli(0.97), bounded=True, share=0.1),
    _equal("cost, log-normal, sigma 1", log_normal(1.0)),
    _equal("cost, log-normal, sigma 2", log_normal(2.0)),
    _equal("cost, log-normal, sigma 1.5, split 80 to 20", log_normal(1.5), share=0.2),
    _equal("latency, log-normal, sigma 0.8", normal(0.8)),
    _equal("latency by user, 60 users", normal(0.5), users=60),
    _equal("latency by user, 400 users", normal(0.5), users=400),
    _equal("success or feedback, 0.50, ten times as long", bernoulli(0.5), bounded=True, requests=MANY),
)
TRUE = (
    Case("success, 0.80 against 0.90", (bernoulli(0.8), bernoulli(0.9)), bounded=True),
    Case("success, 0.45 against 0.55", (bernoulli(0.45), bernoulli(0.55)), bounded=True),
    Case("latency, 20 % longer, sigma 0.6", (normal(0.6), normal(0.6, log(1.2)))),
    Case("latency, 10 % longer, sigma 0.6", (normal(0.6), normal(0.6, log(1.1)))),
    Case("cost, twice as high, sigma 1", (log_normal(1.0), lambda rng: 2 * rng.lognormvariate(0.0, 1.0))),
)


def run(quick: bool) -> Report:
    runs = 100 if quick else 1000
    report = Report(
        f"Experiments: {runs} of each kind, 1,000 requests an arm, a look after every 20 requests",
        ("kind", "true difference", "winner named", "requests until then, median"),
        notes=[
            "Goals: of two equal arms at most 5 % have a winner, at any look; a difference of 10 points is found with "
            "at most 1,000 requests an arm in at least 90 %. The same data tested at each look by a t-test at 5 % has "
            f"{_naive(runs):.0%} false winners (success, 0.50)."
        ],
    )
    for true, cases in ((False, FALSE), (True, TRUE)):
        for case in cases:
            ends = _ends(case, runs // 10 if case.requests == MANY else runs)
            named = [end for end in ends if end is not None]
            share = len(named) / len(ends)
            median = f"{statistics.median(named):,.0f}" if named and true else "-"
            report.rows.append((case.name, "yes" if true else "no", f"{share:.1%}", median))
            report.data[case.name] = {"winner_named": share, "true_difference": true}
    return report


def _ends(case: Case, runs: int) -> Sequence[int | None]:
    rng = random.Random(1)
    return [
        experiment(rng, case.draws, requests=case.requests, bounded=case.bounded, share=case.share, users=case.users)
        for _ in range(runs)
    ]


def _naive(runs: int) -> float:
    """The share of equal arms between which a test of one look, made at every look, finds a difference."""
    rng, found = random.Random(1), 0
    for _ in range(runs):
        counts, totals = [0, 0], [0.0, 0.0]
        for number in range(1, REQUESTS + 1):
            arm = rng.random() < 0.5
            counts[arm] += 1
            totals[arm] += rng.random() < 0.5
            if number % 20 == 0 and min(counts) >= 20:
                first, second = (total / count for total, count in zip(totals, counts, strict=True))
                error = sum(share * (1 - share) / n for share, n in zip((first, second), counts, strict=True)) ** 0.5
                if abs(first - second) > 1.96 * error:
                    found += 1
                    break
    return found / runs
