"""What a scenario expected and what it saw."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wallie_litellm.demo.stage import Stage

TIME_LIMIT: Final = 90.0  # seconds after which a scenario is given up


@dataclass(frozen=True)
class Row:
    """One thing that was looked at."""

    what: str
    expected: str
    seen: str
    ok: bool


@dataclass
class Findings:
    """The rows of one scenario, in the order in which they were found."""

    rows: list[Row] = field(default_factory=list)

    def note(self, what: str, expected: str, seen: str, ok: bool) -> None:
        """A row whose judgement needs more than a comparison."""
        self.rows.append(Row(what, expected, seen, bool(ok)))

    def same(self, what: str, expected: object, seen: object) -> None:
        """The two are equal."""
        self.note(what, _text(expected), _text(seen), expected == seen)

    def within(self, what: str, seen: float, low: float, high: float, unit: str = "s") -> None:
        """``seen`` lies between ``low`` and ``high``, both included."""
        self.note(what, f"{low:.2f} to {high:.2f} {unit}", f"{seen:.2f} {unit}", low <= seen <= high)

    def below(self, what: str, seen: float, limit: float, unit: str = "ms") -> None:
        """``seen`` is less than ``limit``."""
        self.note(what, f"< {limit:g} {unit}", f"{seen:.1f} {unit}", seen < limit)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Scenario:
    """One story of the specification: ``run`` plays it and notes what it finds."""

    title: str
    story: str
    run: Callable[[Stage, Findings], Awaitable[None]]
    time_limit: float = TIME_LIMIT


@dataclass(frozen=True)
class ScenarioResult:
    """How a scenario ended; ``seconds`` is real time."""

    scenario: Scenario
    rows: tuple[Row, ...]
    seconds: float

    @property
    def differing(self) -> int:
        """How many rows are not as expected."""
        return sum(not row.ok for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether there are rows, and all are as expected."""
        return bool(self.rows) and not self.differing
