"""The limits of a simulated account: its own, and those of its models, in every dimension that vendors have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple, get_args

from wallie_litellm.simulator.buckets import Meter, SimulatedBucket, SimulatedDay, SimulatedLimit, SimulatedSlots

LimitName = Literal["rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "concurrency"]
LimitNumbers = Mapping[LimitName, int]
Meters = Mapping[LimitName, Meter]

LIMIT_NAMES: Final[tuple[LimitName, ...]] = get_args(LimitName)
NO_LIMIT: Final = Meter(0, 0, 0.0)
ACCOUNT: Final = ""  # the scope of all models together, as a pattern


class Charge(NamedTuple):
    """What a request takes of the limits: tokens as the vendor counts them."""

    input: float
    output: float
    requests: float = 1

    def of(self, name: LimitName) -> float:
        """The amount that the limit ``name`` counts."""
        match name:
            case "tpm" | "tpd":
                return self.input + self.output
            case "itpm":
                return self.input
            case "otpm":
                return self.output
        return self.requests

    def less(self, other: Charge) -> Charge:
        """What is left of this without ``other``."""
        return Charge(self.input - other.input, self.output - other.output, self.requests - other.requests)


@dataclass(frozen=True)
class LimitVerdict:
    """The answer to one request: admitted, or refused by a limit."""

    refused_by: LimitName | None = None
    retry_after: float = 0.0  # seconds until the same request would fit; infinite when it never will
    asked: float = 0  # what the request asked of the refusing limit (requests or tokens)
    scope: str = ACCOUNT  # whose limit refused
    meter: Meter = NO_LIMIT  # the refusing limit

    @property
    def admitted(self) -> bool:
        """Whether the request may be answered."""
        return self.refused_by is None


class _Scope:
    """The limits of the account, or of one model or of models that share them."""

    def __init__(self, build: Callable[[LimitName, int], list[SimulatedLimit]]) -> None:
        self._build = build
        self._limits: dict[LimitName, list[SimulatedLimit]] = {}
        self._drain = Charge(0, 0, 0)

    def set(self, name: LimitName, limit: int | None) -> None:
        """Another limit from now on; ``None`` is none."""
        if limit is None:
            self._limits.pop(name, None)
        elif name in self._limits:
            self._change(name, limit)
        else:
            self._limits[name] = self._build(name, limit)
            self._change(name, limit)

    def drain(self, per_minute: Charge) -> None:
        """What another client takes from now on."""
        self._drain = per_minute
        for name, limits in self._limits.items():
            self._change(name, limits[0].limit)

    def _change(self, name: LimitName, limit: int) -> None:
        for one in self._limits[name]:
            one.change(limit, self._drain.of(name) / 60)

    def waits(self, charge: Charge) -> Iterator[tuple[LimitName, float]]:
        """For each limit, in how many seconds ``charge`` fits."""
        for name, limit in self._each():
            yield name, limit.wait_for(charge.of(name))

    def take(self, charge: Charge) -> None:
        """Charge ``charge``; calls in flight are among it."""
        for name, limit in self._each():
            limit.take(charge.of(name))

    def end(self, refund: Charge) -> None:
        """One call is over, and ``refund`` of what it was charged was not used."""
        for name, limit in self._each():
            limit.take(-1 if name == "concurrency" else -refund.of(name))

    def meters(self) -> dict[LimitName, Meter]:
        """By name; where slices of a minute are enforced too, ``over`` is theirs."""
        meters: dict[LimitName, Meter] = {}
        for name, limits in self._limits.items():
            shortest = limits[-1].meter()
            meters[name] = limits[0].meter()._replace(slice_remaining=shortest.remaining, over=shortest.over)
        return meters

    def reset(self) -> None:
        """Everything is available."""
        for _, limit in self._each():
            limit.reset()

    def _each(self) -> Iterator[tuple[LimitName, SimulatedLimit]]:
        return ((name, limit) for name, limits in self._limits.items() for limit in limits)


class SimulatedLimits:
    """The account's ``limits``, and those of ``models``: by pattern of their names, of which the first that fits holds.

    ``slack`` is in seconds of rate; ``zone`` is where the day ends. Requests per minute are also enforced in slices of
    ``slice_seconds``, if any. Not thread-safe: one event loop owns it.
    """

    def __init__(
        self,
        limits: LimitNumbers,
        models: Mapping[str, LimitNumbers] | None = None,
        *,
        slack: float = 2.0,
        zone: str = "UTC",
        slice_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        def build(name: LimitName, limit: int) -> list[SimulatedLimit]:
            if name == "concurrency":
                return [SimulatedSlots(limit)]
            if name in ("rpd", "tpd"):
                return [SimulatedDay(limit, zone, wall)]
            minute: list[SimulatedLimit] = [SimulatedBucket(limit, slack, clock)]
            if name == "rpm" and slice_seconds is not None:
                minute.append(SimulatedBucket(limit, slack, clock, slice_seconds))
            return minute

        self._build = build
        self._scopes = {ACCOUNT: _Scope(build)}
        for pattern, numbers in {ACCOUNT: limits, **(models or {})}.items():
            self.change(numbers, pattern)

    def change(self, limits: Mapping[LimitName, int | None], pattern: str = ACCOUNT) -> None:
        """Another tier: these limits from now on, ``None`` for none; those that are not named stay."""
        scope = self._scopes.setdefault(pattern, _Scope(self._build))
        for name, limit in limits.items():
            scope.set(name, limit)

    def share(self, per_minute: Charge, model: str = "") -> None:
        """A second client takes so much a minute by calls of ``model``: evenly, first, and no more than there is."""
        for pattern in self._scopes_of(model):
            self._scopes[pattern].drain(per_minute)

    def admit(self, charge: Charge, model: str = "") -> LimitVerdict:
        """Charge one request, or refuse it and charge nothing."""
        worst, refusal = 0.0, LimitVerdict()
        scopes = self._scopes_of(model)
        for pattern in scopes:
            for name, wait in self._scopes[pattern].waits(charge):
                if wait > worst:
                    meter = self._scopes[pattern].meters()[name]
                    worst, refusal = wait, LimitVerdict(name, wait, charge.of(name), pattern, meter)
        if refusal.admitted:
            for pattern in scopes:
                self._scopes[pattern].take(charge)
        return refusal

    def end(self, charged: Charge, used: Charge, model: str = "") -> None:
        """An admitted request is over: what it was charged and did not use goes back."""
        for pattern in self._scopes_of(model):
            self._scopes[pattern].end(charged.less(used))

    def meters(self, model: str = "") -> dict[LimitName, Meter]:
        """The limits as headers report them to a call of ``model``: the model's, where there are none the account's."""
        return {
            name: meter for pattern in self._scopes_of(model) for name, meter in self._scopes[pattern].meters().items()
        }

    def reset(self) -> None:
        """Start afresh with everything available."""
        for scope in self._scopes.values():
            scope.reset()

    def _scopes_of(self, model: str) -> tuple[str, ...]:
        """The account's scope, and that of the model, if any."""
        own = next((pattern for pattern in self._scopes if pattern and fnmatchcase(model, pattern)), None)
        return (ACCOUNT,) if own is None else (ACCOUNT, own)
