"""Experiments of two arms, simulated request by request and looked at as they grow."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

from wallie_litellm.core.confidence_sequence import ArmSums, winner

Draw = Callable[[random.Random], float]

LOOK = 20  # requests between two looks


def bernoulli(share: float) -> Draw:
    """Successes, or feedback of 0 or 1."""
    return lambda rng: float(rng.random() < share)


def log_normal(sigma: float) -> Draw:
    """Costs: of a mean of exp(sigma² / 2), a few of them many times that."""
    return lambda rng: rng.lognormvariate(0.0, sigma)


def normal(sigma: float, mean: float = 0.0) -> Draw:
    """Logarithms of latencies."""
    return lambda rng: rng.gauss(mean, sigma)


def experiment(
    rng: random.Random, draws: tuple[Draw, Draw], *, requests: int, bounded: bool, share: float = 0.5, users: int = 0
) -> int | None:
    """After how many requests a look first finds a winner; ``None`` if none of the looks does.

    ``share`` is the second arm's. With ``users``, that many stay in the arms they get and make requests by a power law;
    each has a level of its own, as different as the values are from each other.
    """
    if users:
        return _by_user(rng, draws, requests, users, share, bounded)
    counts, totals, squares = [0, 0], [0.0, 0.0], [0.0, 0.0]
    for number in range(1, requests + 1):
        arm = rng.random() < share
        value = draws[arm](rng)
        counts[arm] += 1
        totals[arm] += value
        squares[arm] += value * value
        if number % LOOK == 0:
            arms = [
                ArmSums(n, n, total, square, total, float(n))
                for n, total, square in zip(counts, totals, squares, strict=True)
            ]
            if winner(arms, lower_is_better=False, bounded=bounded) is not None:
                return number
    return None


def _by_user(
    rng: random.Random, draws: tuple[Draw, Draw], requests: int, users: int, share: float, bounded: bool
) -> int | None:
    arms = [rng.random() < share for _ in range(users)]
    levels = [draws[arm](rng) for arm in arms]
    weights = [1 / (rank + 1) for rank in range(users)]
    totals: dict[int, float] = defaultdict(float)
    counts: dict[int, int] = defaultdict(int)
    for number, user in enumerate(rng.choices(range(users), weights, k=requests), 1):
        totals[user] += levels[user] + draws[arms[user]](rng)
        counts[user] += 1
        if number % LOOK == 0:
            sums = [ArmSums(), ArmSums()]
            for one, total in totals.items():
                sums[arms[one]] = sums[arms[one]].plus(total, counts[one])
            if winner(sums, lower_is_better=False, bounded=bounded) is not None:
                return number
    return None
