"""A table with room for so many values: with a wildcard, callers invent names without end."""

from __future__ import annotations

from collections.abc import Callable, Hashable, ItemsView
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LastUsed(Generic[Key, Value]):
    """At most ``most`` values, by key: the one that was used longest ago makes room. Threads share it under a lock."""

    __slots__ = ("_most", "_values")

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[Key, Value] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """The value of ``key``, which is not used by that; ``None`` without one."""
        return self._values.get(key)

    def use(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of ``key``, made if there is none."""
        value = self._values.get(key)
        value = make() if value is None else value
        self.keep(key, value)
        return value

    def keep(self, key: Key, value: Value) -> None:
        """Have ``key`` used now, with this ``value``."""
        if self._values.pop(key, None) is None and len(self._values) >= self._most:
            del self._values[next(iter(self._values))]
        self._values[key] = value

    def items(self) -> ItemsView[Key, Value]:
        """All keys and values, those used longest ago first."""
        return self._values.items()
