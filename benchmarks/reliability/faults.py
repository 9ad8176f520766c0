"""What goes wrong, when, and what callers send meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from wallie_litellm.simulator import Fault, FaultKind, SimulatedProvider

WIDE: Final = {"rpm": 6000}  # limits that no request meets
RATE: Final = 4.0  # requests a second, unless a fault says otherwise
SECONDS: Final = 10.0  # of load, unless a fault says otherwise
LATENCY: Final = 0.15  # seconds that each provider takes before it answers
_OPEN_END: Final = 1e9  # seconds: until the end of the load

Act = Callable[[SimulatedProvider], None]


@dataclass(frozen=True)
class Step:
    """What happens to the primary ``at`` seconds after the first request; a negative time is before it."""

    at: float
    act: Act


@dataclass(frozen=True)
class Request:
    """One request: when it is sent, in seconds from the first, whether it streams, and when its caller gives up."""

    at: float
    stream: bool
    give_up: float | None = None


@dataclass(frozen=True)
class Scene:
    """One fault with its load.

    ``stated`` are the primary's limits in every system's configuration, ``limits`` those that it enforces. ``dead`` are
    the spans in which a call to the primary is lost, ``allowed`` is what its limits allow during the load.
    """

    name: str
    title: str
    right: str  # what a caller may hope for
    steps: Sequence[Step] = ()
    rate: float = RATE
    seconds: float = SECONDS
    at_once: int = 0  # requests sent together, in place of a rate
    streams: float = 0.5  # share of requests that stream
    give_up: float | None = None  # seconds after which every second caller leaves
    stated: Mapping[str, int] = field(default_factory=lambda: WIDE)
    limits: Mapping[str, int] = field(default_factory=lambda: WIDE)
    dead: Sequence[tuple[float, float]] = ()
    healed: float | None = None  # seconds from the first request on: from then on the primary is well for good
    allowed: int | None = None
    settle: float = 0.5  # seconds from the last answer until the providers are asked what they saw

    def requests(self) -> list[Request]:
        """The load, the same for every system."""
        count = self.at_once or round(self.rate * self.seconds)
        gap = 0.0 if self.at_once else 1 / self.rate
        return [self._request(number, number * gap) for number in range(count)]

    def _request(self, number: int, at: float) -> Request:
        streams = int((number + 1) * self.streams) > int(number * self.streams)
        # Callers come in fours, so that those who leave are as often streams as not.
        leaves = self.give_up is not None and number % 4 in (1, 2)
        return Request(round(at, 4), streams, self.give_up if leaves else None)

    @property
    def lasts(self) -> float:
        """Seconds from the first request to the last, or to the last step."""
        ends = [step.at for step in self.steps]
        return max([0.0 if self.at_once else self.seconds, *ends])


def _set(kind: FaultKind, **settings: Any) -> Act:
    return lambda provider: provider.set_fault(Fault(kind, **settings))


def _broken(kind: FaultKind, **settings: Any) -> tuple[Step, ...]:
    """One request in three has the fault."""
    return (Step(-0.2, _set(kind, every=3, **settings)),)


def _half_used_elsewhere(provider: SimulatedProvider) -> None:
    """Another program has taken half of this minute's requests already: at this rate, within a second."""
    provider.use_elsewhere(requests=62 * 60)


def _half_from_now_on(provider: SimulatedProvider) -> None:
    provider.use_elsewhere(requests=60)


_DOWN: Final = _set(FaultKind.STATUS, status=503)


def _heal(provider: SimulatedProvider) -> None:
    provider.heal()


SCENES: Final = (
    Scene("calm", "nothing", "every answer, at once"),
    Scene(
        "too_high",
        "a limit that is too high in the file: 240 requests a minute, the account has 60",
        "the rest goes to the fallback, without a 429",
        rate=7.0,
        seconds=12.0,
        stated={"rpm": 240},
        limits={"rpm": 60},
        allowed=72,
    ),
    Scene(
        "shared",
        "half of the account is used by another program: 120 requests a minute, 60 are ours",
        "the rest goes to the fallback, without a 429",
        steps=(Step(-1.1, _half_used_elsewhere), Step(-0.1, _half_from_now_on)),
        rate=7.0,
        seconds=12.0,
        stated={"rpm": 120},
        limits={"rpm": 120},
        allowed=72,
    ),
    Scene(
        "burst",
        "80 requests at once, the limit is 60 a minute",
        "all are answered, none is sent beyond the limit",
        at_once=80,
        stated={"rpm": 60},
        limits={"rpm": 60},
    ),
    Scene(
        "day",
        "the day's limit runs out: 25 requests a day",
        "the rest goes to the fallback",
        stated={"rpm": 6000, "rpd": 25},
        limits={"rpm": 6000, "rpd": 25},
        allowed=25,
    ),
    Scene(
        "retry_after",
        "429 with a Retry-After of two minutes, from the third second on",
        "the fallback answers; the primary is left alone",
        steps=(Step(2.0, _set(FaultKind.RATE_LIMIT, retry_after=120)),),
        dead=((2.0, _OPEN_END),),
    ),
    Scene(
        "outage",
        "the primary answers 503 for six seconds",
        "the fallback answers; the primary is asked now and then, and used again",
        steps=(Step(3.0, _DOWN), Step(9.0, _heal)),
        seconds=20.0,
        dead=((3.0, 9.0),),
        healed=9.0,
    ),
    Scene(
        "flapping",
        "the primary is down every other two seconds",
        "the fallback answers, without a call to the primary for each request",
        steps=tuple(Step(float(at), _DOWN if at % 4 == 2 else _heal) for at in range(2, 14, 2)),
        seconds=18.0,
        dead=((2.0, 4.0), (6.0, 8.0), (10.0, 12.0)),
        healed=12.0,
    ),
    Scene(
        "silence",
        "the primary accepts requests and never answers",
        "the fallback answers within the deadline; few calls wait for nothing",
        steps=(Step(2.0, _set(FaultKind.HANG, seconds=3600.0)),),
        dead=((2.0, _OPEN_END),),
    ),
    Scene(
        "slow",
        "headers come at once, the first token after six seconds",
        "an answer, rather the fallback's than one after six seconds",
        steps=(Step(-0.2, _set(FaultKind.SLOW, seconds=6.0, after_headers=True)),),
        settle=7.0,
    ),
    Scene(
        "reset",
        "one connection in three is reset before an answer",
        "every answer, by a retry or the fallback",
        steps=_broken(FaultKind.RESET),
    ),
    Scene(
        "cut",
        "one stream in three is cut after four pieces",
        "the whole answer, or an error; never a short answer that looks whole",
        steps=_broken(FaultKind.CUT_STREAM, after_chunks=4),
        streams=1.0,
    ),
    Scene(
        "truncated",
        "one stream in three ends properly after four pieces, without finish reason or end mark",
        "the whole answer, or an error; never a short answer that looks whole",
        steps=_broken(FaultKind.TRUNCATE_STREAM, after_chunks=4),
        streams=1.0,
    ),
    Scene(
        "malformed",
        "one answer in three has a piece that is no JSON",
        "the whole answer, or an error",
        steps=_broken(FaultKind.MALFORMED, after_chunks=4),
        streams=1.0,
    ),
    Scene(
        "no_end_mark",
        "every stream lacks its [DONE]",
        "the whole answer, without waiting for it",
        steps=(Step(-0.2, _set(FaultKind.OMIT_END)),),
        streams=1.0,
    ),
    Scene(
        "error_in_200",
        "one answer in three is an error inside a 200",
        "every answer, by a retry or the fallback",
        steps=_broken(FaultKind.ERROR_IN_200, status=503),
    ),
    Scene(
        "give_up",
        "the primary takes a second, every second caller leaves after half of it",
        "those who stay are answered; nothing is generated for those who left",
        steps=(Step(-0.2, _set(FaultKind.SLOW, seconds=1.0)),),
        give_up=0.5,
        settle=3.0,
    ),
)

BY_NAME: Final = {scene.name: scene for scene in SCENES}
