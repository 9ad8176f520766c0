"""What goes on that is worth an alert: announced once when it begins, and once when it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from wallie_litellm.events import Event

AGAIN_AFTER: Final = 600.0  # seconds in which no worker of a fleet announces the same again

# Has an action done once in the fleet: a key, the seconds for which this holds, the action.
Once = Callable[[str, float, Callable[[], object]], object]
# The event of an episode: whether it is over, and the seconds that it has lasted.
EventOf = Callable[[bool, float], Event]


Key = tuple[str, ...]


@dataclass
class _Episode:
    since: float  # seconds of the caller's clock
    announced: bool = False  # by this process


class Episodes:
    """The episodes of one kind of alert, by what each is about.

    In a fleet the process that announces one announces its end, too. A process that ends announces no end.
    """

    def __init__(self, kind: str, once: Once, publish: Callable[[Event], object]) -> None:
        self._kind = kind
        self._once = once
        self._publish = publish
        self._going_on: dict[Key, _Episode] = {}

    def begin(self, key: Key, now: float, event_of: EventOf) -> None:
        """An episode begins, unless it goes on already."""
        if key in self._going_on:
            return
        episode = self._going_on[key] = _Episode(now)

        def announce() -> None:
            episode.announced = True
            self._publish(event_of(False, 0.0))

        self._once(":".join((self._kind, *key)), AGAIN_AFTER, announce)

    def end(self, key: Key, now: float, event_of: EventOf) -> None:
        """The episode is over, if there was one."""
        episode = self._going_on.pop(key, None)
        if episode is not None and episode.announced:
            self._publish(event_of(True, now - episode.since))

    def since(self) -> Iterator[tuple[Key, float]]:
        """What goes on, and since when."""
        yield from ((key, episode.since) for key, episode in list(self._going_on.items()))
