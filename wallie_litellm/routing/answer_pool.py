"""Answers that are given again: those that are kept, and those that another request is just waiting for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple, Protocol

from pydantic_core import to_json

from wallie_litellm.clock import Clock, wakeup


class KeptAnswers(Protocol):
    """Where answers are kept, by key. ``is_local``: it answers without any waiting. It never raises."""

    @property
    def name(self) -> str:
        """What it is."""

    @property
    def is_local(self) -> bool:
        """Whether it answers without any waiting."""

    @property
    def is_away(self) -> bool:
        """Whether it did not answer lately."""

    async def get(self, key: str) -> str | None:
        """The text under ``key``."""

    async def put(self, key: str, text: str, ttl: float) -> None:
        """Keep ``text`` for ``ttl`` seconds."""


_as_json: Final = json.JSONEncoder(separators=(",", ":"))


class KeptAnswer(NamedTuple):
    """One answer as it is kept.

    ``at`` is the Unix time at which it was given, in seconds; ``deployment`` the model that gave it; ``cost_usd`` what
    it cost in US dollars, ``None`` where no price is known; ``answer`` its values, as in JSON.
    """

    at: float
    deployment: str
    cost_usd: float | None
    answer: Any

    def as_text(self) -> str:
        """What is kept."""
        try:
            return to_json(self._asdict()).decode()
        except ValueError:  # half of a surrogate pair, which UTF-8 has no bytes for
            return _as_json.encode(self._asdict())

    @classmethod
    def from_text(cls, text: str) -> KeptAnswer | None:
        """What was kept, with values of its own; ``None`` where it cannot be read."""
        with suppress(ValueError, TypeError):
            kept = cls(**json.loads(text))
            return kept._replace(at=float(kept.at), cost_usd=None if kept.cost_usd is None else float(kept.cost_usd))
        return None


@dataclass(slots=True)
class CacheFigures:
    """What the cache was asked, since the start of this process.

    ``hits`` are requests that it has answered, ``joined`` those of them that waited for another's call; ``misses`` are
    requests that it could have answered, ``kept`` the answers that were put into it. ``saved_usd`` is what its answers
    had cost, in US dollars; ``unpriced`` are hits of which that is not known.
    """

    hits: int = 0
    joined: int = 0
    misses: int = 0
    kept: int = 0
    saved_usd: float = 0.0
    unpriced: int = 0

    def describe(self) -> dict[str, Any]:
        """All of it, and the share of the questions that were answered from the cache; JSON-ready."""
        asked = self.hits + self.misses
        return {**asdict(self), "share": self.hits / asked if asked else None}


_LEFT: Final = ""  # in place of an answer: the caller has left, and the call with it


class _Flight:
    """A call whose answer others may wait for, at the latest until the time ``expires_at`` of the clock.

    ``result`` is made once another request waits: few calls have one that does.
    """

    __slots__ = ("expires_at", "is_over", "result", "text")

    def __init__(self, expires_at: float) -> None:
        self.expires_at = expires_at
        self.is_over = False
        self.text: str | None = None  # the answer, or _LEFT, once it is over
        self.result: Future[str | None] | None = None

    def await_result(self) -> Future[str | None]:
        """What the call comes to."""
        if self.result is None:
            self.result = Future()
            if self.is_over:
                self.result.set_result(self.text)
        return self.result


class AnswerPool:
    """The answers of one guard: ``store`` keeps them, and the same question is asked once at a time.

    Safe to use from several event loops and threads.
    """

    def __init__(self, clock: Clock) -> None:
        self.store: KeptAnswers | None = None  # set by the router, or before by what reads the file
        self.figures: dict[str, CacheFigures] = {}  # by feature
        self.clock = clock
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()

    def describe(self) -> dict[str, Any]:
        """The store and the figures of each feature and of all together, JSON-ready."""
        with self._lock:
            features = {name: figures.describe() for name, figures in sorted(self.figures.items())}
            total = CacheFigures(*map(sum, zip(*(_values(one) for one in self.figures.values()), strict=True)))
        store = self.store
        return {
            "store": None if store is None else store.name,
            "state": "away" if store is not None and store.is_away else "ok",
            **total.describe(),
            "features": features,
        }

    def count(self, feature: str, change: Callable[[CacheFigures], None]) -> None:
        """Change the figures of a feature that the file gives a cache."""
        with self._lock:
            change(self.figures.setdefault(feature, CacheFigures()))

    def join(self, key: str, seconds: float) -> tuple[_Flight, Future[str | None] | None]:
        """The call under way for ``key``, and its result; or a new one, which the caller makes.

        Others wait for at most ``seconds`` for that.
        """
        now = self.clock.now()
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and now < flight.expires_at:
                return flight, flight.await_result()
            self._flights[key] = flight = _Flight(now + seconds)
            return flight, None

    def finish(self, flight: _Flight, text: str | None) -> None:
        """The call has come to ``text``; only the first time counts."""
        with self._lock:
            if flight.is_over:
                return
            flight.is_over, flight.text, result = True, text, flight.result
        if result is not None:
            result.set_result(text)

    def leave(self, key: str, flight: _Flight) -> None:
        """The call is over, and its answer is kept, or there is none."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]


def _values(figures: CacheFigures) -> tuple[Any, ...]:
    return tuple(asdict(figures).values())


class Lookup:
    """One request's way to an answer. What it begins, :meth:`keep` or :meth:`abandon` ends."""

    __slots__ = ("_flight", "_key", "_max_age", "_pool", "_reads", "_ttl", "joined", "waited")

    def __init__(self, pool: AnswerPool, key: str, ttl: float, max_age: float, *, reads: bool) -> None:
        self._pool = pool
        self._key = key
        self._ttl = ttl  # seconds for which an answer of its own is kept; 0 keeps none
        self._max_age = max_age  # seconds
        self._reads = reads
        self._flight: _Flight | None = None
        self.joined = False  # the answer is that of another request's call
        self.waited = 0.0  # seconds, for calls of others

    async def answer(self, longest: float) -> KeptAnswer | None:
        """The answer that is kept, or that of a call under way if it comes within ``longest`` seconds."""
        if not self._reads:
            return None
        store, clock = self._store, self._pool.clock
        if store.is_local and (found := self._read(await store.get(self._key))) is not None:
            return found
        end = clock.now() + longest
        while (joined := self._join(end - (now := clock.now()))) is not None:
            flight, result = joined
            text = await _wait(result, min(end, flight.expires_at) - now)
            self.waited += clock.now() - now
            if text != _LEFT:
                found = self._read(text)
                self.joined = found is not None
                return found
        try:
            text = await store.get(self._key)
        except BaseException:
            self.abandon(left=True)
            raise
        if (found := self._read(text)) is not None:
            self._finish(text)
        return found

    async def keep(self, text: str | None) -> None:
        """The request has an answer of its own; ``text`` is what is to be kept of it."""
        if self._flight is not None:
            self._pool.finish(self._flight, text)
        try:
            if text is not None and self._ttl > 0:
                await self._store.put(self._key, text, self._ttl)
        finally:
            self._leave()

    def abandon(self, *, left: bool = False) -> None:
        """There is no answer for others: each of them makes a call of its own.

        Where the caller has ``left``, which says nothing of the call, one of them makes it for all.
        """
        self._finish(_LEFT if left else None)

    def _join(self, longest: float) -> tuple[_Flight, Future[str | None]] | None:
        """The call of another request that is under way; ``None`` where this one is to make it."""
        flight, result = self._pool.join(self._key, longest)
        if result is None:
            self._flight = flight
            return None
        return flight, result

    def _read(self, text: str | None) -> KeptAnswer | None:
        found = None if text is None else KeptAnswer.from_text(text)
        if found is None or self._pool.clock.wall() - found.at > self._max_age:
            return None
        return found

    def _finish(self, text: str | None) -> None:
        if self._flight is not None:
            self._pool.finish(self._flight, text)
        self._leave()

    def _leave(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            self._pool.leave(self._key, flight)

    @property
    def _store(self) -> KeptAnswers:
        store = self._pool.store
        assert store is not None, "a router that asks has set it"  # noqa: S101 - narrows the type
        return store


async def _wait(result: Future[str | None], seconds: float) -> str | None:
    """What another request's call comes to; ``None`` after ``seconds``."""
    over, wake = wakeup()
    result.add_done_callback(lambda _: wake())
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await over
    except TimeoutError:
        return None
    return result.result()
