"""The faults of a simulated provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final


class FaultKind(StrEnum):
    """The ways to fail."""

    STATUS = "status"
    HANG = "hang"
    SLOW = "slow"
    RESET = "reset"
    CUT_STREAM = "cut_stream"
    TRUNCATE_STREAM = "truncate_stream"
    OMIT_END = "omit_end"
    OMIT_FINISH = "omit_finish"
    OMIT_USAGE = "omit_usage"
    MALFORMED = "malformed"
    ERROR_IN_200 = "error_in_200"
    RATE_LIMIT = "rate_limit"
    CONTENT_POLICY = "content_policy"
    CONTEXT_WINDOW = "context_window"
    QUOTA_EXHAUSTED = "quota_exhausted"
    REFUSE_PREFILL = "refuse_prefill"


# Faults that mean nothing for an answer in one piece; such requests leave them for the next stream.
STREAM_ONLY: Final = frozenset(
    {
        FaultKind.CUT_STREAM,
        FaultKind.TRUNCATE_STREAM,
        FaultKind.OMIT_END,
        FaultKind.OMIT_FINISH,
        FaultKind.OMIT_USAGE,
    }
)


@dataclass(frozen=True)
class Fault:
    """One way to fail, for the next ``times`` requests that it fits (None: until healed), or for some of them."""

    kind: FaultKind
    times: int | None = None
    model: str | None = None  # only requests for this model (the name on the wire); None is every model
    status: int = 500
    retry_after: float | str | None = None  # sent as it is: seconds or an HTTP date, true or not
    body: Any = None  # replaces the vendor's error body: JSON, or a string that is sent raw
    seconds: float = 0.0  # how long a hang or a slow answer takes
    after_chunks: int | None = None  # content chunks that a stream delivers first; 0 is what precedes the content
    every: int = 1  # 3 is the third, sixth, ... of the requests that it fits; the others are as without it
    after_headers: bool = False  # a hang or a slow answer begins with its status and headers, and only then pauses

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", FaultKind(self.kind))
        if self.times is not None and self.times < 1:
            raise ValueError(f"times must be at least 1, or None for every request: {self.times}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1: {self.every}")
        if not 200 <= self.status <= 599:
            raise ValueError(f"status must be between 200 and 599: {self.status}")
        if self.seconds < 0:
            raise ValueError(f"seconds must not be negative: {self.seconds}")

    def fits(self, model: str, *, stream: bool, prefilled: bool = False) -> bool:
        """Whether a request for ``model`` would get this fault; ``prefilled`` ones begin the answer themselves."""
        streams_only = self.kind in STREAM_ONLY or self.after_chunks is not None
        if self.kind is FaultKind.REFUSE_PREFILL and not prefilled:
            return False
        return (self.model is None or self.model == model) and (stream or not streams_only)

    def to_json(self) -> dict[str, Any]:
        """The fault as the control route takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """The fault from a control request; an unknown key is an error."""
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown keys in a fault: {', '.join(sorted(unknown))}")
        return cls(**data)


class FaultQueue:
    """The faults in the order they were set; a request gets the first that fits, and only that one."""

    def __init__(self) -> None:
        self._faults: list[_SetFault] = []

    def add(self, fault: Fault) -> None:
        """Put a fault behind those already set."""
        self._faults.append(_SetFault(fault, fault.times))

    def clear(self) -> None:
        """Drop every fault."""
        self._faults.clear()

    def take(self, model: str, *, stream: bool, prefilled: bool = False) -> Fault | None:
        """The fault for this request, using up one of its ``times``."""
        for index, waiting in enumerate(self._faults):
            if not waiting.fault.fits(model, stream=stream, prefilled=prefilled) or not waiting.is_due():
                continue
            if waiting.left is not None:
                waiting.left -= 1
            if waiting.left == 0:
                del self._faults[index]
            return waiting.fault
        return None

    def list(self) -> list[dict[str, Any]]:
        """What is still set."""
        return [replace(waiting.fault, times=waiting.left).to_json() for waiting in self._faults]


@dataclass
class _SetFault:
    """A fault in the queue."""

    fault: Fault
    left: int | None  # of its times
    met: int = 0  # requests that it fitted

    def is_due(self) -> bool:
        """Whether the request that it fits is one of those that it fails."""
        self.met += 1
        return self.met % self.fault.every == 0
