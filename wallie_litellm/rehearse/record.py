"""What a run was like, as figures that travel as JSON: by feature, by provider, over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.core.limit_keys import dimension_in, limit_key
from wallie_litellm.errors import ChainExhausted, RateLimited
from wallie_litellm.events import BreakerChanged, Ended, FellBack, Settled
from wallie_litellm.rehearse.alerts import alerts_in
from wallie_litellm.rehearse.expectations import NO_FEATURE
from wallie_litellm.rehearse.fleet_record import looks_at_fleet, over_the_limits, redis_fault
from wallie_litellm.rehearse.limit_changes import calls_by_scope, changes_of
from wallie_litellm.rehearse.need import LimitChange, most_at_once, needed_per_minute
from wallie_litellm.rehearse.plan import DEAD, PlannedFault, RehearsalPlan
from wallie_litellm.rehearse.report import Figures
from wallie_litellm.rehearse.session import Played
from wallie_litellm.rehearse.traffic import Arrival
from wallie_litellm.rehearse.world import World

POINTS: Final = 120  # of every series
_REFUSED: Final = frozenset({RateLimited.code, ChainExhausted.code})  # errors of requests
WAITED: Final = 0.05  # seconds before a call from which it counts as one that waited for a limit
_FOR_A_LIMIT: Final = (" limit", "asked to be left alone")  # in the reasons of refusals by limits and pauses


def figures_of(plan: RehearsalPlan, world: World, arrivals: Sequence[Arrival], session: Played) -> Figures:
    """The figures of a session."""
    events = world.log.events
    ended = [event for event in events if isinstance(event, Ended)]
    settled = [event for event in events if isinstance(event, Settled)]
    if plan.workers > 1:
        session.looks = looks_at_fleet(session.looks, world.stated, settled, session.began)
    features = dict.fromkeys(arrival.feature or NO_FEATURE for arrival in arrivals)
    return {
        "requests": len(arrivals),
        "unanswered": session.unanswered,
        "late": round(session.late, 3),
        "total": _of_requests(ended, settled),
        "features": {
            name: _of_requests(
                [one for one in ended if (one.feature or NO_FEATURE) == name],
                [one for one in settled if (one.feature or NO_FEATURE) == name],
            )
            for name in sorted(features)
        },
        "providers": dict(_of_providers(plan, world, session, settled)),
        "faults": [_of_fault(fault, plan, world, session.began) for fault in plan.faults],
        "alerts": list(alerts_in(events, session.began)),
        "series": _series(plan, session, ended),
    }


def _of_requests(ended: Sequence[Ended], settled: Sequence[Settled]) -> Figures:
    answered = [one for one in ended if one.success]
    latencies = sorted(one.latency_ms / 1000 for one in answered)
    waits = sorted(one.waited_ms / 1000 for one in ended)
    return {
        "requests": len(ended),
        "answered": len(answered),
        "fell_back": sum(one.used_fallback for one in answered),
        "failed": len(ended) - len(answered),
        "waited_p50": percentile(waits, 0.5),
        "waited_p95": percentile(waits, 0.95),
        "latency_p50": percentile(latencies, 0.5),
        "latency_p95": percentile(latencies, 0.95),
        "cost_usd": round(math.fsum(one.cost_usd or 0.0 for one in settled), 6),
        "errors": dict(Counter(one.error or "unknown" for one in ended if not one.success).most_common()),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in ascending order, to a millisecond; 0 of none."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3) if ordered else 0.0


def _of_providers(
    plan: RehearsalPlan, world: World, session: Played, settled: Sequence[Settled]
) -> Iterator[tuple[str, Figures]]:
    moved = Counter(_turned_down(world.log.events, {fault.provider for fault in plan.faults if fault.kind in DEAD}))
    for provider in sorted(world.stated):
        own = [one for one in settled if one.provider == provider]
        yield (
            provider,
            {
                "calls": len(own),
                "answered": sum(one.success for one in own),
                "models": sorted({one.model for one in own}),
                "upstream_429": world.engine(provider).tally.outcomes["rejected_429"],
                "waited": sum(one.waited_ms / 1000 >= WAITED for one in own),
                "turned_down": moved[provider],
                "cost_usd": round(math.fsum(one.cost_usd or 0.0 for one in own), 6),
                "limits": _limits_of(world, session, provider),
                **({"over": over_the_limits(world.stated[provider], provider, own)} if plan.workers > 1 else {}),
                **({} if plan.limited else {"needs": _needs_of(world, provider, own)}),
            },
        )


def _turned_down(events: Iterable[Any], dead: Collection[str]) -> Iterator[str]:
    """The provider of each time that a request was refused for a limit or a pause: it went on, or failed there.

    Of a failure the event has the provider and no reason; those that are ``dead`` refuse for another.
    """
    for event in events:
        if isinstance(event, FellBack) and any(word in event.reason for word in _FOR_A_LIMIT):
            yield event.from_provider
        elif isinstance(event, Ended) and event.error in _REFUSED:
            called = {one.provider for one in event.settled}
            if event.provider not in called and event.provider not in dead:
                yield event.provider


def _limits_of(world: World, session: Played, provider: str) -> dict[str, Figures]:
    """For each limit of the file the highest use that a look has seen."""
    found: dict[str, Figures] = {}
    limits = world.stated[provider]
    for scope, own in {"": limits, **limits.models}.items():
        for dimension, amount in own.by_dimension().items():
            key = limit_key(dimension, scope)
            used = [look[provider][key][0] for _, look in session.looks if key in look.get(provider, {})]
            found[key] = {"limit": amount, "peak": max(used, default=0)}
    return found


def _needs_of(world: World, provider: str, settled: Iterable[Settled]) -> dict[str, float]:
    """For each limit of the file what would have let every call pass at once."""
    limits = world.stated[provider]
    calls = calls_by_scope(limits, provider, settled)
    found = {}
    for scope, own in {"": limits, **limits.models}.items():
        for dimension in own.by_dimension():
            changes = [change for one in calls[scope] for change in changes_of(dimension, one)]
            found[limit_key(dimension, scope)] = _need(dimension, changes)
    return found


def _need(dimension: str, changes: list[LimitChange]) -> float:
    if dimension == "concurrency":
        return most_at_once(changes)
    return sum(amount for _, amount in changes) if dimension in DAY_DIMENSIONS else needed_per_minute(changes)


def _of_fault(fault: PlannedFault, plan: RehearsalPlan, world: World, began: float) -> Figures:
    """When a fault was noticed, and when its provider answered again; in seconds, ``None`` where it never was."""
    if fault.kind == "redis_away":
        return redis_fault(fault, began, world.store_changes, plan.workers)
    begins, ends = began + fault.at, began + fault.ends
    noticed = opened = back = None
    wasted = 0
    for event in world.log.events:
        if event.at < begins:
            continue
        if isinstance(event, FellBack) and event.from_provider == fault.provider and noticed is None:
            noticed = event.at - begins
        elif isinstance(event, BreakerChanged) and event.provider == fault.provider and event.after == "open":
            opened = event.at - begins if opened is None else opened
        elif isinstance(event, Settled) and event.provider == fault.provider:
            if event.success and event.at - event.latency_ms / 1000 >= ends and back is None:
                back = event.at - event.latency_ms / 1000 - ends
            wasted += not event.success and event.at <= ends
    first = min((at for at in (noticed, opened) if at is not None), default=None)
    return {
        "fell_back_after": noticed,
        "opened_after": opened,
        "noticed_after": first,
        "back_after": back,
        "failed_calls": wasted,
    }


def _series(plan: RehearsalPlan, session: Played, ended: Iterable[Ended]) -> Figures:
    every = plan.length / POINTS
    counts: dict[str, list[float]] = {name: [0.0] * POINTS for name in ("answered", "fell_back", "failed")}
    waits: list[list[float]] = [[] for _ in range(POINTS)]
    for one in ended:
        place = min(POINTS - 1, max(0, int((one.at - one.latency_ms / 1000 - session.began) / every)))
        counts["failed" if not one.success else "fell_back" if one.used_fallback else "answered"][place] += 1
        waits[place].append(one.waited_ms / 1000)
    return {
        "every": every,
        **counts,
        "waited_p95": [percentile(sorted(values), 0.95) for values in waits],
        "use": _use_over_time(session, every),
    }


def _use_over_time(session: Played, every: float) -> dict[str, list[float]]:
    """For each provider the share of that limit of its account that is used most."""
    found: dict[str, list[float]] = {}
    for at, look in session.looks:
        place = min(POINTS - 1, int(at / every))
        for provider, limits in look.items():
            own = [used / limit for key, (used, limit) in limits.items() if limit and dimension_in(key) == key]
            series = found.setdefault(provider, [0.0] * POINTS)
            series[place] = round(max([series[place], *own]), 4)
    return found
