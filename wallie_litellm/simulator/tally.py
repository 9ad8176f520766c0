"""The counts of a simulated provider."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

MAX_BODIES: Final = 100  # bodies of requests kept; older ones are dropped
MAX_ARRIVALS: Final = 200_000  # arrival times kept; older ones are dropped, so that memory stays bounded
MAX_VISITS: Final = 20_000  # requests kept in the log; older ones are dropped

Outcome = Literal["succeeded", "rejected_429", "failed", "disconnected"]


@dataclass(frozen=True)
class Counts:
    """Model requests since the start or the last reset; control requests are not counted.

    ``received`` is the sum of ``succeeded``, ``rejected_429``, ``failed``, ``disconnected`` and ``in_flight``.
    """

    received: int
    succeeded: int  # answered with a 2xx in full
    rejected_429: int  # answered with a 429, by a limit or by a fault
    failed: int  # other errors, broken JSON, cut streams and hangs that the server ended
    disconnected: int  # the client left before the end of the answer
    in_flight: int
    by_model: Mapping[str, int]
    by_status: Mapping[int, int]  # answers begun, by HTTP status
    by_limit: Mapping[
        str, Mapping[str, int]
    ]  # 429s of limits, by the pattern of their models ("": the account's) and name
    arrivals: tuple[float, ...]  # when each request arrived, in seconds since the start or the last reset

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counts:
        """The counts from the control route's answer."""
        by_status = {int(status): count for status, count in data["by_status"].items()}
        return cls(**{**data, "by_status": by_status, "arrivals": tuple(data["arrivals"])})


@dataclass(frozen=True)
class VisitRecord:
    """One request, as the provider saw it.

    The tokens are those that a vendor bills: of a whole answer all, of a stream what was sent of it, of an error none.
    """

    at: float  # Unix time of its arrival
    model: str
    outcome: Outcome | None  # None while it is in flight
    status: int | None  # of the answer that was begun
    prompt_tokens: int
    completion_tokens: int


class RequestTally:
    """The running counts; a reset replaces the whole object, so late requests end in the old one."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.received = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.by_model: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.by_limit: dict[str, Counter[str]] = {}
        self.arrivals: deque[float] = deque(maxlen=MAX_ARRIVALS)
        self.bodies: deque[Any] = deque(maxlen=MAX_BODIES)
        self.visits: deque[Visit] = deque(maxlen=MAX_VISITS)

    def arrive(self, model: str, body: Any) -> Visit:
        """Count a request that has been read."""
        self.received += 1
        self.bodies.append(body)
        self.by_model[model] += 1
        self.arrivals.append(time.monotonic() - self.started)
        visit = Visit(self, model)
        self.visits.append(visit)
        return visit

    def to_json(self) -> dict[str, Any]:
        """The counts as the control route sends them."""
        return {
            "received": self.received,
            "succeeded": self.outcomes["succeeded"],
            "rejected_429": self.outcomes["rejected_429"],
            "failed": self.outcomes["failed"],
            "disconnected": self.outcomes["disconnected"],
            "in_flight": self.received - self.outcomes.total(),
            "by_model": dict(self.by_model),
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "by_limit": self.by_limit,
            "arrivals": list(self.arrivals),
        }


class Visit:
    """One request's place in the counts and in the log; only the first outcome given counts."""

    def __init__(self, tally: RequestTally, model: str) -> None:
        self._tally = tally
        self._model = model
        self._at = time.time()
        self._outcome: Outcome | None = None
        self._status: int | None = None
        self._billed = (0, 0)

    def status(self, status: int) -> None:
        """An answer with this status begins."""
        self._status = status
        self._tally.by_status[status] += 1

    def refused(self, pattern: str, limit: str) -> None:
        """A limit of the models of ``pattern`` refuses it."""
        self._tally.by_limit.setdefault(pattern, Counter())[limit] += 1

    def bill(self, prompt_tokens: int, completion_tokens: int) -> None:
        """So many tokens are sold by now."""
        self._billed = (prompt_tokens, completion_tokens)

    def end(self, outcome: Outcome) -> None:
        """The request is over."""
        if self._outcome is None:
            self._outcome = outcome
            self._tally.outcomes[outcome] += 1

    def record(self) -> VisitRecord:
        """The log's line."""
        return VisitRecord(self._at, self._model, self._outcome, self._status, *self._billed)
