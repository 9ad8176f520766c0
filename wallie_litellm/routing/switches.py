"""Which of the decisions are switched off at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

#: What can be switched off, by the name of its key in the file.
SWITCHES: Final = (
    "auto", "budgets", "cache", "experiments", "first_token", "hedge", "order", "ramp", "slow_call", "warm_prefix",
)  # fmt: skip


class Switches:
    """The switches of one guard: all are on until one is set. What the file does not turn on stays off either way."""

    def __init__(self) -> None:
        self._off: frozenset[str] = frozenset()
        self._tell: Callable[[str, bool], object] | None = None

    def on(self, name: str) -> bool:
        """Whether what the file says of ``name`` holds."""
        return name not in self._off

    def set(self, name: str, *, on: bool) -> None:
        """Switch ``name`` on or off.

        Raises:
            ValueError: there is no such switch.
        """
        if name not in SWITCHES:
            raise ValueError(f"switch: found {name!r}, expected one of {', '.join(SWITCHES)}")
        self._off = self._off - {name} if on else self._off | {name}
        if self._tell is not None:
            self._tell(name, on)

    def share(self, tell: Callable[[str, bool], object]) -> None:
        """Have ``tell`` called with each switch that is set here, and whether it is on now: it holds for a fleet."""
        self._tell = tell

    def take_in(self, off: Iterable[str]) -> None:
        """Other processes have set switches: these are off now, and all others on."""
        self._off = frozenset(off).intersection(SWITCHES)

    def describe(self) -> dict[str, bool]:
        """Whether each is on."""
        return {name: self.on(name) for name in SWITCHES}
