"""What is rehearsed: the faults, the traffic, for how long, by which seed. Plain values, which also travel as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from wallie_litellm.config import parse_duration

FaultKind = Literal["outage", "silent", "slow", "tier", "redis_away"]
DEAD: Final = frozenset({"outage", "silent"})  # faults with which a provider answers nothing
MOST_REQUESTS: Final = 1_000_000  # of a rehearsal: each takes some 8 ms and 3 kB
REDIS: Final = "redis"  # in the place of a provider's name, of the fault redis_away

DEFAULT_TOKENS: Final = (600, 200)  # tokens of a prompt and of an answer: medians
_PROVIDER: Final = r"(?P<provider>[^\s@]+?)"
_AT: Final = r"(?:@(?P<at>[^@:\s]+))?"
_LASTS: Final = r"(?P<lasts>[^@:\s]+)"
_FORMS: Final[Mapping[str, tuple[str, str]]] = {
    "outage": (rf"{_PROVIDER}:{_LASTS}{_AT}", "openai:10m or openai:10m@5m"),
    "silent": (rf"{_PROVIDER}:{_LASTS}{_AT}", "openai:10m or openai:10m@5m"),
    "slow": (rf"{_PROVIDER}:(?P<amount>[0-9.]+)x(?::{_LASTS})?{_AT}", "anthropic:5x or anthropic:5x:10m@5m"),
    "tier": (rf"{_PROVIDER}:(?P<amount>[0-9.]+)(?::{_LASTS})?{_AT}", "gemini:0.2 or gemini:0.2:10m@5m"),
    "redis_away": (rf"{_LASTS}{_AT}", "5m or 5m@10m"),
}
_FIRST_FAULT: Final = 300.0  # seconds from the start to a fault without a time of its own, at most ...
_FIRST_SHARE: Final = 0.2  # ... and at most this share of the rehearsal
_RATE: Final = re.compile(r"(?:(?P<feature>[^=\s]+)=)?(?P<count>[0-9.]+)/(?P<unit>s|m|h)")
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


class OptionError(ValueError):
    """An option of a rehearsal cannot be understood."""


@dataclass(frozen=True)
class PlannedFault:
    """What goes wrong at ``provider``, ``at`` seconds from the start, for ``lasts`` seconds.

    ``amount`` is the factor of ``slow``, and of ``tier`` the share of its limits that the account has. Of
    ``redis_away`` the ``provider`` is :data:`REDIS`.
    """

    kind: FaultKind
    provider: str
    at: float
    lasts: float
    amount: float = 1.0

    @property
    def ends(self) -> float:
        """When it is over, in seconds from the start."""
        return self.at + self.lasts


@dataclass(frozen=True)
class Rate:
    """Requests of ``feature`` a second; without one, of the file's features in turn."""

    per_second: float
    feature: str | None = None


@dataclass(frozen=True)
class RehearsalPlan:
    """A rehearsal of the file ``config``. Durations are seconds; ``start`` is the Unix time at which it begins.

    ``requests`` is the file of those that the ledger has, in place of ``rates``. ``streams`` is the share of requests
    that are streamed. ``limited`` is false for the run that finds out what limits would carry the load: it has none.
    ``left_out`` are the requests of the ledger that cannot be played. ``workers`` share the limits through a Redis,
    and the requests in turn.
    """

    config: str
    length: float
    seed: int
    start: float
    faults: tuple[PlannedFault, ...] = ()
    rates: tuple[Rate, ...] = ()
    requests: str | None = None
    tokens: tuple[int, int] = DEFAULT_TOKENS
    streams: float = 0.0
    real_time: bool = False
    limited: bool = True
    left_out: int = 0
    workers: int = 1

    def without_faults(self) -> RehearsalPlan:
        """The run that this one is compared with."""
        return replace(self, faults=())

    def without_limits(self) -> RehearsalPlan:
        """The run that shows what the providers would be asked for; a lower tier is a limit.

        One worker makes it: without limits there is nothing to share.
        """
        own = tuple(one for one in self.faults if one.kind not in ("tier", "redis_away"))
        return replace(self, limited=False, faults=own, workers=1)

    def to_json(self) -> dict[str, Any]:
        """The plan as :meth:`from_json` takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RehearsalPlan:
        """The plan of :meth:`to_json`."""
        faults = tuple(PlannedFault(**one) for one in data["faults"])
        rates = tuple(Rate(**one) for one in data["rates"])
        return cls(**{**data, "faults": faults, "rates": rates, "tokens": tuple(data["tokens"])})


def parse_fault(kind: FaultKind, text: str, length: float) -> PlannedFault:
    """The fault of an option such as ``--outage openai:10m@5m``, in a rehearsal of ``length`` seconds.

    Raises:
        OptionError: the option cannot be understood, or the fault begins after the end.
    """
    option = option_of(kind)
    pattern, example = _FORMS[kind]
    found = re.fullmatch(pattern, text)
    if found is None:
        raise OptionError(f"{option} {text}: expected {example}")
    parts = found.groupdict()
    whole = kind == "tier" and not parts["lasts"] and not parts["at"]
    usual = 0.0 if whole else min(_FIRST_FAULT, length * _FIRST_SHARE)
    at = _seconds(option, text, parts["at"]) if parts["at"] else usual
    lasts = _seconds(option, text, parts["lasts"]) if parts["lasts"] else length - at
    if lasts <= 0:
        raise OptionError(f"{option} {text}: expected to last more than 0")
    if at >= length:
        raise OptionError(f"{option} {text}: begins after the end of the rehearsal (--for {length:g}s)")
    provider = parts.get("provider", REDIS)
    return PlannedFault(kind, provider, at, lasts, _amount(kind, option, text, parts.get("amount")))


def check_faults(faults: Sequence[PlannedFault]) -> None:
    """Refuse faults that are one and the same for a while: what has the end of the first been?

    Raises:
        OptionError: two of them overlap.
    """
    last: dict[tuple[str, str], PlannedFault] = {}
    for fault in sorted(faults, key=lambda one: one.at):
        what = "answers" if fault.kind in DEAD else fault.kind
        before = last.get((what, fault.provider))
        if before is not None and fault.at < before.ends:
            raise OptionError(
                f"{option_of(fault.kind)}: of {fault.provider} it begins after {fault.at:g} s, while "
                f"{option_of(before.kind)} lasts until {before.ends:g} s; give them times that do not overlap"
            )
        last[what, fault.provider] = fault


def check_amount(rates: Sequence[Rate], length: float) -> None:
    """Refuse more requests than can be played.

    Raises:
        OptionError: there are too many, or most likely none.
    """
    expected = length * sum(rate.per_second for rate in rates)
    if expected > MOST_REQUESTS:
        raise OptionError(
            f"--traffic: {expected:,.0f} requests, and at most {MOST_REQUESTS:,} can be played; "
            "give a lower rate or a shorter --for"
        )
    if expected < 1:
        raise OptionError("--traffic: less than one request in all; give a higher rate or a longer --for")


def option_of(kind: FaultKind) -> str:
    """The option that plans faults of this kind."""
    return f"--{kind.replace('_', '-')}"


def _amount(kind: FaultKind, option: str, text: str, given: str | None) -> float:
    if given is None:
        return 1.0
    try:
        amount = float(given)
    except ValueError:
        raise OptionError(f"{option} {text}: {given} is no number") from None
    if kind == "slow" and amount < 1:
        raise OptionError(f"{option} {text}: expected a factor from 1x on")
    if kind == "tier" and not 0 < amount <= 1:
        raise OptionError(f"{option} {text}: expected a share of the limits, above 0 and at most 1")
    return amount


def _seconds(option: str, text: str, given: str) -> float:
    try:
        return parse_duration(given)
    except ValueError:
        raise OptionError(f"{option} {text}: {given} is no duration such as 30s, 10m or 1h") from None


def parse_rate(text: str) -> Rate:
    """The rate of an option such as ``--traffic 5/s`` or ``--traffic wallie-chat=300/m``.

    Raises:
        OptionError: the option cannot be understood.
    """
    found = _RATE.fullmatch(text)
    try:
        rate = float(found["count"]) / _UNITS[found["unit"]] if found else 0.0
    except ValueError:
        rate = 0.0
    if found is None or rate <= 0:
        raise OptionError(f"--traffic {text}: expected 5/s, 300/m or wallie-chat=5/s")
    return Rate(rate, found["feature"])


def parse_tokens(text: str) -> tuple[int, int]:
    """The sizes of an option such as ``--tokens 600+200``.

    Raises:
        OptionError: the option cannot be understood.
    """
    found = re.fullmatch(r"(\d{1,7})\+(\d{1,7})", text)
    if found is None or not int(found[1]) or not int(found[2]):
        raise OptionError(f"--tokens {text}: expected tokens of prompt and answer such as 600+200")
    return int(found[1]), int(found[2])


def parse_length(text: str) -> float:
    """The seconds of ``--for 1h``.

    Raises:
        OptionError: it is no duration above 0.
    """
    length = _seconds("--for", text, text)
    if length <= 0:
        raise OptionError(f"--for {text}: expected more than 0")
    return length
