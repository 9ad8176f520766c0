"""The requests of a rehearsal: when each comes, for what, and how large it is. All of it follows from the seed."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import cycle
from pathlib import Path
from typing import Final, NamedTuple

from wallie_litellm.config import RouterConfig
from wallie_litellm.config.chains import ANY_GROUP
from wallie_litellm.rehearse.answers import PlannedAnswer, usual_answer
from wallie_litellm.rehearse.plan import Rate, RehearsalPlan

SIZES_VARY: Final = 0.5  # standard deviation of a size's logarithm: nine in ten within 0.44 and 2.3 times the median
SPEEDS_VARY: Final = 0.25  # of an answer's time


class Arrival(NamedTuple):
    """A request ``at`` seconds from the start. Without a ``group``, its feature's tier is asked for."""

    at: float
    feature: str | None
    group: str | None
    prompt_tokens: int
    answer: PlannedAnswer
    stream: bool


class Source(NamedTuple):
    """What a part of the traffic asks for: a feature, and a group or the feature's tier."""

    feature: str | None
    group: str | None


def arrivals_of(plan: RehearsalPlan, config: RouterConfig, groups: Sequence[str]) -> list[Arrival]:
    """The requests of ``plan``; ``groups`` are those of the file that answer chats."""
    if plan.requests is not None:
        return list(_from_file(plan.requests, plan.length))
    streams = (
        _arrivals(plan, rate, number, sources_of(config, rate, groups)) for number, rate in enumerate(plan.rates)
    )
    return list(merge(*streams, key=lambda arrival: arrival.at))


def sources_of(config: RouterConfig, rate: Rate, groups: Sequence[str]) -> list[Source]:
    """The features that ``rate`` is of, each with its tier, else with the heads of the chains in turn."""
    named = [rate.feature] if rate.feature is not None else list(config.wallie.features)
    features: list[str | None] = [*named] or [None]
    heads = heads_of(config, groups)
    found = []
    for feature in features:
        own = config.wallie.features.get(feature or "")
        found += [Source(feature, None)] if own is not None and own.tier else [Source(feature, head) for head in heads]
    return found


def features_of(config: RouterConfig, rates: Sequence[Rate]) -> set[str | None]:
    """The features that ``rates`` are of."""
    all_of_file: set[str | None] = {*config.wallie.features} or {None}
    return {feature for rate in rates for feature in (all_of_file if rate.feature is None else {rate.feature})}


def heads_of(config: RouterConfig, groups: Sequence[str]) -> list[str]:
    """The groups that have a chain of their own; all of them where none has, or one chain is all groups'."""
    heads = [group for group in groups if group in config.chains]
    return heads if heads and ANY_GROUP not in config.chains else list(groups)


def _arrivals(plan: RehearsalPlan, rate: Rate, number: int, sources: Sequence[Source]) -> Iterator[Arrival]:
    drawn, at = random.Random(f"{plan.seed}/{number}"), 0.0  # noqa: S311 - repeatable, on purpose
    for source in cycle(sources):
        at += drawn.expovariate(rate.per_second)
        if at >= plan.length:
            return
        prompt, tokens = (max(1, round(median * _factor(drawn, SIZES_VARY))) for median in plan.tokens)
        answer = usual_answer(tokens, _factor(drawn, SPEEDS_VARY))
        yield Arrival(at, source.feature, source.group, prompt, answer, drawn.random() < plan.streams)


def _factor(drawn: random.Random, spread: float) -> float:
    return math.exp(drawn.gauss(0.0, spread))


def write_requests(arrivals: Iterable[Arrival], path: Path) -> None:
    """Write arrivals for a plan's ``requests``."""
    path.write_text("".join(json.dumps(arrival) + "\n" for arrival in arrivals), encoding="utf-8")


def _from_file(path: str, length: float) -> Iterator[Arrival]:
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            at, feature, group, prompt, answer, stream = json.loads(line)
            if at < length:
                yield Arrival(at, feature, group, prompt, PlannedAnswer(*answer), stream)
