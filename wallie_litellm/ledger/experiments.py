"""What the ledger has on record of experiments: their changes, their arms' figures, and which arm is better.

A request counts for the arm that it was given, whichever member of the chain answered it. One that its caller ended
says nothing of an arm, and counts for none. The value of a request is

- ``success``: 1 if it was answered, else 0;
- ``cost``: what all its attempts cost, in US dollars, 0 of an answer from the cache; those without a known price are
  left out;
- ``latency``: the logarithm of its milliseconds, waiting and fallbacks included, so that a mean is a geometric one, and
  a difference a ratio; one that was not answered counts as :data:`UNANSWERED_MS` at least, so that errors are not fast;
  an answer from the cache says nothing of an arm, and is left out;
- ``feedback``: the last that the application gave, of those that have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, expm1, log1p
from typing import Any, Final

from sqlalchemy import ColumnElement, Float, Select, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from wallie_litellm.config import ExperimentSettings
from wallie_litellm.core.chi_square import p_value
from wallie_litellm.core.confidence_sequence import (
    ArmSums,
    Interval,
    alpha_of_pair,
    difference,
    lower_bound,
    winner,
)
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.ledger.schema import experiment_changes, feedback, requests
from wallie_litellm.routing.experiments import Change, Standing, standing_of

UNANSWERED_MS: Final = 60_000.0  # least latency of a request that was not answered
SPLIT_ALARM: Final = 0.001  # probability below which a division of the units is taken to be wrong
RECENT: Final = 200  # requests of an arm, the last ones, that its guardrail looks at
FEWEST_STOPPED: Final = 30  # requests of an arm without which its guardrail does not stop it
_SURE: Final = 3.09  # standard deviations: an arm at its limit is stopped by chance in one look of a thousand
_TIMED: Final = 10_000  # answers of an arm, the last ones, whose percentiles are shown

_NEVER: Final = 1e18  # Unix seconds, long after every request
_LOWER_IS_BETTER: Final = frozenset({"cost", "latency"})
_BOUNDED: Final = frozenset({"success", "feedback"})


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm. ``mean`` is of the experiment's metric, of latency the geometric mean in milliseconds.

    ``effect`` is its difference from the first arm, of latency as a share of the first's; ``None`` for the first
    itself, and while there are too few units. Of its ``successes``, ``fallbacks`` were answered by another member of
    the chain.
    """

    arm: str
    share: float
    stopped: bool
    units: int
    requests: int
    successes: int
    by_caller: int
    fallbacks: int
    unpriced: int
    cost_usd: float | None  # mean of a request
    p50_ms: float | None  # of the last answers
    p95_ms: float | None
    feedbacks: int
    feedback: float | None  # mean
    measured: int  # requests with a value
    mean: float | None
    effect: Interval | None

    @property
    def error_rate(self) -> float | None:
        """The share of its requests that were not answered, without those that callers ended, 0 to 1."""
        whole = self.requests - self.by_caller
        return (whole - self.successes) / whole if whole > 0 else None

    @property
    def fallback_rate(self) -> float | None:
        """The share of its answered requests that another member of the chain answered, 0 to 1."""
        return self.fallbacks / self.successes if self.successes else None


@dataclass(frozen=True, slots=True)
class ExperimentFigures:
    """One experiment: where it stands, and its arms in the file's order.

    ``leader`` is the arm that is better than all others by more than epsilon; ``split`` the probability of a division
    of the units that is as uneven as theirs, ``None`` where that cannot be said.
    """

    name: str
    feature: str
    metric: str
    unit: str
    standing: Standing
    arms: Sequence[ArmFigures]
    leader: str | None
    split: float | None

    @property
    def lower_is_better(self) -> bool:
        """Whether the better arm has the lower mean."""
        return self.metric in _LOWER_IS_BETTER

    @property
    def split_is_wrong(self) -> bool:
        """Whether the units are divided so unevenly that the comparison is not to be trusted."""
        return self.split is not None and self.split < SPLIT_ALARM


async def read_changes(connection: AsyncConnection, names: Iterable[str]) -> dict[str, list[Change]]:
    """The changes of the experiments of these ``names``, in order of time."""
    table, found = experiment_changes, {name: list[Change]() for name in names}
    columns = table.c.id, table.c.at, table.c.definition, table.c.change, table.c.arm, table.c.reason
    rows = select(table.c.experiment, *columns).where(table.c.experiment.in_(list(found)))
    for name, *values in await connection.execute(rows.order_by(table.c.at, table.c.id)):
        found[name].append(Change(*values))
    return found


async def measure_experiment(connection: AsyncConnection, name: str, settings: ExperimentSettings) -> ExperimentFigures:
    """The figures of one experiment since it was started."""
    changes = await read_changes(connection, [name])
    standing = standing_of(changes[name], settings.definition)
    counts = await _by_arm(connection, _counts(name, standing))
    values = await _by_arm(connection, _sums(settings.metric, name, standing))
    feedbacks = await _by_arm(connection, _sums("feedback", name, standing))
    sums = {arm: _arm_sums(values.get(arm)) for arm in settings.arms}
    first = next(iter(settings.arms))
    times = {arm: await _percentiles(connection, name, arm, standing) for arm in settings.arms}
    # The units of an arm that is, or was, stopped went to the others.
    even = not (standing.stopped or standing.resumed)
    arms = [
        ArmFigures(
            arm=arm,
            share=share,
            stopped=arm in standing.stopped,
            **_counted(counts.get(arm)),
            p50_ms=times[arm][0],
            p95_ms=times[arm][1],
            feedbacks=_arm_sums(feedbacks.get(arm)).requests,
            feedback=_arm_sums(feedbacks.get(arm)).mean,
            measured=sums[arm].requests,
            mean=_shown_mean(settings.metric, sums[arm]),
            effect=None if arm == first else _effect(settings, sums[arm], sums[first]),
        )
        for arm, share in settings.arms.items()
    ]
    return ExperimentFigures(
        name=name,
        feature=settings.feature,
        metric=settings.metric,
        unit=settings.unit,
        standing=standing,
        arms=arms,
        leader=_leader(settings, sums),
        split=p_value([arm.units for arm in arms], list(settings.arms.values())) if even else None,
    )


async def arms_to_stop(
    connection: AsyncConnection, name: str, settings: ExperimentSettings, standing: Standing
) -> dict[str, tuple[float, int]]:
    """The arms that their guardrail stops: the share of errors among how many of their last requests.

    An error is a request that the arm did not answer itself; one whose hedge was faster says nothing against it. Where
    all running arms are beyond the limit, the reason is none of theirs, and none is stopped.
    """
    limit = settings.stop_arm_above
    if limit is None or standing.winner is not None:
        return {}
    beyond, running = {}, [arm for arm in settings.arms if arm not in standing.stopped]
    for arm in running:
        answered = requests.c.success & (~requests.c.used_fallback | requests.c.hedged)
        last = select(case((answered, 0), else_=1)).where(*_of(name, standing, arm), ~requests.c.by_caller)
        if arm in standing.resumed:  # what has stopped it before stops it no more
            last = last.where(requests.c.at >= standing.resumed[arm].at)
        errors = (await connection.scalars(last.order_by(requests.c.at.desc()).limit(RECENT))).all()
        share = sum(errors) / len(errors) if errors else 0.0
        if len(errors) >= FEWEST_STOPPED and lower_bound(share, len(errors), _SURE) > limit.error_rate:
            beyond[arm] = share, len(errors)
    return beyond if len(beyond) < len(running) else {}


def _of(name: str, standing: Standing, arm: str | None = None) -> list[ColumnElement[bool]]:
    """The conditions on a request of the experiment since its start."""
    since = _NEVER if standing.since is None else standing.since
    conditions = [requests.c.experiment == name, requests.c.at >= since]
    return conditions if arm is None else [*conditions, requests.c.arm == arm]


def _unit() -> ColumnElement[str]:
    return func.coalesce(requests.c.unit, requests.c.id)


def _counts(name: str, standing: Standing) -> Select[Any]:
    def number(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.sum(case((condition, 1), else_=0))

    unpriced = requests.c.cost_usd.is_(None) & (requests.c.attempts > 0)
    return (
        select(
            requests.c.arm,
            func.count(_unit().distinct()),
            func.count(),
            number(requests.c.success),
            number(requests.c.by_caller),
            number(requests.c.success & requests.c.used_fallback),
            number(unpriced),
            func.avg(_cost()),
        )
        .where(*_of(name, standing))
        .group_by(requests.c.arm)
    )


def _sums(metric: str, name: str, standing: Standing) -> Select[Any]:
    """By arm: the units, and the sums over units that :class:`ArmSums` has."""
    value = _value(metric)
    source: Any = requests
    if metric == "feedback":
        last = select(func.max(feedback.c.id).label("id")).group_by(feedback.c.request_id).subquery()
        given = select(feedback.c.request_id, feedback.c.value).join(last, last.c.id == feedback.c.id).subquery()
        source, value = requests.join(given, given.c.request_id == requests.c.request_id), given.c.value
    units = (
        select(requests.c.arm, func.count().label("count"), func.sum(value).label("total"))
        .select_from(source)
        .where(*_of(name, standing), ~requests.c.by_caller, value.is_not(None))
        .group_by(requests.c.arm, _unit())
        .subquery()
    )
    count, total = cast(units.c.count, Float(53)), units.c.total
    return select(
        units.c.arm,
        func.count(),
        func.sum(count),
        func.sum(total),
        func.sum(total * total),
        func.sum(total * count),
        func.sum(count * count),
    ).group_by(units.c.arm)


def _value(metric: str) -> ColumnElement[float]:
    if metric == "success":
        return case((requests.c.success, 1.0), else_=0.0)
    if metric == "latency":
        took = requests.c.latency_ms
        counted = case((~requests.c.success & (took < UNANSWERED_MS), UNANSWERED_MS), (took < 1.0, 1.0), else_=took)
        return case((~requests.c.cache_hit, func.ln(counted, type_=Float(53))))
    return _cost()


def _cost() -> ColumnElement[float]:
    """A request's cost: an answer from the cache has none on record, as there was no attempt."""
    return case((requests.c.cache_hit, 0.0), else_=requests.c.cost_usd)


async def _by_arm(connection: AsyncConnection, statement: Select[Any]) -> dict[str, Sequence[Any]]:
    return {arm: values for arm, *values in await connection.execute(statement)}


def _counted(values: Sequence[Any] | None) -> dict[str, Any]:
    names = "units", "requests", "successes", "by_caller", "fallbacks", "unpriced"
    *counts, cost = values or (*(0 for _ in names), None)
    return {**{name: int(count) for name, count in zip(names, counts, strict=True)}, "cost_usd": cost}


def _arm_sums(values: Sequence[Any] | None) -> ArmSums:
    if values is None:
        return ArmSums()
    units, count, *sums = values
    return ArmSums(int(units), int(count), *map(float, sums))


def _shown_mean(metric: str, sums: ArmSums) -> float | None:
    mean = sums.mean
    return exp(mean) if metric == "latency" and mean is not None else mean


def _effect(settings: ExperimentSettings, sums: ArmSums, first: ArmSums) -> Interval | None:
    alpha, bounded = alpha_of_pair(len(settings.arms)), settings.metric in _BOUNDED
    effect = difference(sums, first, alpha, bounded=bounded)
    if effect is None or settings.metric != "latency":
        return effect
    return Interval(*(expm1(min(bound, 700.0)) for bound in effect))


def _leader(settings: ExperimentSettings, sums: Mapping[str, ArmSums]) -> str | None:
    found = winner(
        list(sums.values()),
        lower_is_better=settings.metric in _LOWER_IS_BETTER,
        bounded=settings.metric in _BOUNDED,
        epsilon=log1p(settings.epsilon) if settings.metric == "latency" else settings.epsilon,
    )
    return None if found is None else list(sums)[found]


async def _percentiles(
    connection: AsyncConnection, name: str, arm: str, standing: Standing
) -> tuple[float | None, float | None]:
    last = select(requests.c.latency_ms).where(*_of(name, standing, arm), requests.c.success, ~requests.c.cache_hit)
    found = sorted((await connection.scalars(last.order_by(requests.c.at.desc()).limit(_TIMED))).all())
    if not found:
        return None, None
    return found[ceil(0.5 * len(found)) - 1], found[ceil(0.95 * len(found)) - 1]


def as_json(found: ExperimentFigures) -> dict[str, Any]:
    """The figures as the API and ``wallie-litellm experiments --json`` have them."""
    standing = found.standing
    return {
        "name": found.name,
        "feature": found.feature,
        "metric": found.metric,
        "unit": found.unit,
        "state": standing.state,
        "since": None if standing.since is None else iso_time(standing.since),
        "leader": found.leader,
        "winner": standing.winner,
        "concluded_at": None if standing.concluded_at is None else iso_time(standing.concluded_at),
        "reason": standing.reason,
        "split": {"p": found.split, "is_wrong": found.split_is_wrong},
        "arms": [_arm_as_json(arm) for arm in found.arms],
    }


def _arm_as_json(arm: ArmFigures) -> dict[str, Any]:
    fields = {name: getattr(arm, name) for name in arm.__dataclass_fields__}
    effect = None if arm.effect is None else arm.effect._asdict()
    return {**fields, "error_rate": arm.error_rate, "fallback_rate": arm.fallback_rate, "effect": effect}
