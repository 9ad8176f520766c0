"""Looks every few seconds at what has ended and at what waits, and has announced what is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from wallie_litellm.alerts.episodes import Episodes, Once
from wallie_litellm.alerts.error_rate import ErrorRates
from wallie_litellm.alerts.queues import StandingQueues
from wallie_litellm.clock import Clock, Repeating
from wallie_litellm.config import WallieConfig
from wallie_litellm.config.alerts import AlertSettings
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.events import Ended, Event, Settled

_EVERY: Final = 5.0  # seconds between two looks, at most
_LOOKS: Final = 10  # in the shortest while that is judged, at least
_MOST: Final = 100_000  # records that wait for the next look; the oldest are left out


class AlertWatch:
    """The alerts of ``settings``. What ends is put into :attr:`ended`, which costs its request an append.

    ``waiting`` returns how many requests wait, by provider and feature; ``is_down`` whether a provider is down.
    """

    def __init__(
        self,
        settings: AlertSettings,
        clock: Clock,
        waiting: Callable[[], Mapping[str, int]],
        is_down: Callable[[str], bool],
        once: Once,
        publish: Callable[[Event], object],
    ) -> None:
        self._clock = clock
        self._waiting = waiting
        self._is_down = is_down
        self._once, self._publish = once, publish
        self._listens = self._started = False
        self._use(settings)

    def _use(self, settings: AlertSettings) -> None:
        self._settings = settings
        self._rates: ErrorRates | None = None
        self._queues: StandingQueues | None = None
        #: What has ended since the last look; ``None`` where it is not counted.
        self.ended: deque[Settled | Ended] | None = None
        whiles, wall = [], self._clock.wall
        if settings.error_rate is not None:
            episodes = Episodes("error_rate", self._once, self._publish)
            self._rates = ErrorRates(settings, settings.error_rate, episodes, self._is_down, wall)
            whiles.append(settings.window)
        if settings.queue is not None:
            episodes = Episodes("queue", self._once, self._publish)
            self._queues = StandingQueues(settings.queue, settings.queue_for, episodes, wall)
            whiles.append(settings.queue_for)
        every = min([_EVERY, *(seconds / _LOOKS for seconds in whiles)])
        self._thread = Repeating(self.look, every, "alerts") if whiles else None

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on. With other alerts, what goes on begins anew."""
        if config.alerts != self._settings:
            listens, started = self._listens, self._started
            self.close()
            self._use(config.alerts)
            if started:
                self.start()
            elif listens:
                self.listen()

    def listen(self) -> None:
        """Have what ends counted from now on, for calls of :meth:`look`."""
        self._listens = True
        if self._rates is not None:
            self.ended = deque(maxlen=_MOST)

    def start(self) -> None:
        """Begin to look, on a thread of its own, where there is anything to look at."""
        self.listen()
        self._started = True
        if self._thread is not None:
            self._thread.start()

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._listens = self._started = False
        self.ended = None
        if self._thread is not None:
            self._thread.close()

    def look(self) -> None:
        """Count what has ended and what waits, and announce what is due. Not for two threads at once."""
        now, ended = self._clock.now(), self.ended
        if self._rates is not None and ended is not None:
            self._rates.look([ended.popleft() for _ in range(len(ended))], now)
        if self._queues is not None:
            self._queues.look(self._waiting(), now)

    def going_on(self) -> list[dict[str, Any]]:
        """The episodes that go on in this process, ready for JSON; ``since`` is ISO 8601."""
        ago = self._clock.wall() - self._clock.now()
        parts = (part for part in (self._rates, self._queues) if part is not None)
        return [{**row, "since": iso_time(row["since"] + ago)} for part in parts for row in part.going_on()]
