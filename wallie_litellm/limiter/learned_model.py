"""What is learned of one model at one account, from each of its answers.

Every call passes here, so what is done for each is little: the headers of limits are compared, as text, with the last
ones, and what is left is looked at only where it bounds a limit that is kept to, and is not most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from threading import Lock
from typing import Final, NamedTuple, Protocol

from wallie_litellm.core.dimensions import DIMENSION_KINDS, RATE_DIMENSIONS
from wallie_litellm.core.learned_limits import TWICE, Carefulness, LearnedLimit, left_of, pace
from wallie_litellm.core.limit_headers import LimitHeaders, Vocabulary
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.core.limit_sightings import (
    LITELLMS,
    Sighting,
    date_in,
    plain,
    remaining_in,
    sightings_in,
    window_of,
)
from wallie_litellm.limiter.limiter import Limiter

HEADERS: Final = "headers"  # the source of what an answer's headers name
LOOKS_EVERY: Final = 0.02  # seconds at least between two looks at what is left: of many answers, some are enough
MOST: Final = 0.9  # share of a limit above which what is left of it bounds nothing
LATE: Final = 1.0  # seconds by which an answer is older than another one: the resolution of a date
_DATE: Final = f"{LITELLMS}date"


class _Bound(NamedTuple):
    """A header that says what is left of a limit that is kept to."""

    header: str
    limit: str  # the header of the limit itself
    dimension: str
    kind: int  # the position of what it counts in a demand
    amount: int
    near: float  # units below which it may bound the limit
    rounded_to: int
    per_second: float

    @property
    def is_rate(self) -> bool:
        """Whether the limit refills while calls are sent."""
        return self.dimension in RATE_DIMENSIONS


class ProviderLearning(Protocol):
    """What is learned of all models of a provider, as those of one of them see it."""

    limiter: Limiter
    processes: int
    lock: Lock
    now: Callable[[], float]
    wall: Callable[[], float]

    def see(self, learned: LearnedModel, sightings: Iterable[Sighting], source: str) -> None:
        """An answer has said this of the limits of a model; the lock is held."""

    def keeps_to(self, scope: str, dimension: str) -> bool:
        """Whether a limit that the vendor tells is kept to in a scope."""

    def rates(self, scope: str) -> dict[str, float]:
        """The limits per minute that are kept to in a scope, as units a second of this process."""

    def slow_down(self, scope: str, dimension: str, per_second: float, share: float) -> None:
        """Send calls at a share of a limit since the last answer."""

    def siblings(self, learned: LearnedModel) -> Sequence[LearnedModel]:
        """What is learned of the same model at all accounts that are called."""

    def is_silent(self, learned: LearnedModel, dimension: str) -> bool:
        """Whether an account at which the model is called has not said lately what is left of a limit."""


class LearnedModel:
    """Learns one model's limits at one account; ``vocabulary`` is that of its vendor's headers."""

    __slots__ = (
        "_as_of", "_bounds", "_careful_of", "_date", "_has_limits", "_left", "_look_at", "_names", "_raw",
        "_repeated_at", "_vocabulary", "account", "careful", "learning", "limits", "model", "scope",
    )  # fmt: skip

    def __init__(
        self, learning: ProviderLearning, model: str, scope: str, account: str, vocabulary: Vocabulary
    ) -> None:
        self.learning = learning
        self.model = model
        self.scope = scope  # the pattern of the model's entry, or one that matches it alone
        self.account = account
        self.limits: dict[str, LearnedLimit] = {}  # by dimension
        self.careful = Carefulness()
        self._careful_of: frozenset[str] = frozenset()  # the dimensions that a refusal without an amount named, if any
        self._vocabulary = vocabulary
        self._names = tuple(LITELLMS + names.limit for names in vocabulary.headers)
        self._raw: tuple[str | None, ...] | None = None  # the last answer's, once they have nothing new to say
        self._has_limits = False  # the last answer's headers name limits
        self._repeated_at = -inf  # when the call was sent whose answer has named the same ones last
        self._bounds: tuple[_Bound, ...] = ()
        self._left: dict[str, tuple[int, float]] = {}  # by dimension: what was left, and when that was said
        self._look_at = -inf  # when to look at what is left again
        self._date: str | None = None
        self._as_of = -inf  # the Unix time of the newest answer, by the vendor's clock

    def answered(self, headers: Mapping[str, str], sent_at: float) -> None:
        """An answer has come, with ``headers`` as LiteLLM keeps them, to a call that was sent then."""
        raw = tuple(map(headers.get, self._names))
        if raw != self._raw:
            self._read(headers, raw)
            if not self.careful.is_over(self.learning.now()):
                self._be_careful()
        elif self._has_limits:
            self._repeated_at = sent_at
        if self._bounds and (now := self.learning.now()) >= self._look_at:
            self._look_at = now + LOOKS_EVERY
            self._bound(headers, sent_at)

    def rejected(self, in_text: Sequence[Sighting], headers: Mapping[str, str], sent_at: float) -> None:
        """The vendor has refused a call for one of its limits; ``in_text`` is what the answer's text says of them."""
        learning = self.learning
        named = (*sightings_in(self._vocabulary, headers, learning.wall()), *in_text)
        self.note(named, "error")
        if not any(one.limit for one in named) and self.careful.cut(learning.now(), sent_at):
            self._careful_of = frozenset(one.dimension for one in named)
        if self._bounds:
            self._bound({LITELLMS + name: value for name, value in plain(headers).items()}, sent_at, is_refused=True)

    def note(self, limits: Sequence[Sighting], source: str) -> None:
        """The vendor has named its limits for certain."""
        with self.learning.lock:
            self._raw = None
            for _ in range(TWICE):
                self.learning.see(self, limits, source)
            self._bounds = self._find_bounds()

    def seen_at(self, dimension: str) -> float:
        """When an answer has named this limit last, in seconds of the guard's clock."""
        limit = self.limits[dimension]
        return max(limit.seen_at, self._repeated_at) if limit.source == HEADERS else limit.seen_at

    def move_to(self, scope: str) -> None:
        """The model has another entry in the file, or none any more."""
        self.scope = scope

    def bound_anew(self) -> None:
        """Find out anew which headers say what is left of a limit that is kept to; the lock is held."""
        self._raw, self._bounds = None, self._find_bounds()

    def _read(self, headers: Mapping[str, str], raw: tuple[str | None, ...]) -> None:
        if self._is_late(headers):
            return
        learning = self.learning
        seen = sightings_in(self._vocabulary, headers, learning.wall()) if any(raw) else ()
        with learning.lock:
            learning.see(self, seen, HEADERS)
            self._bounds = self._find_bounds()
            self._raw, self._has_limits = raw if self._is_settled(seen) else None, bool(seen)

    def _is_settled(self, seen: Sequence[Sighting]) -> bool:
        """Whether another answer that says the same would change nothing."""
        now = self.learning.now()
        said = [limit for one in seen if (limit := self.limits.get(one.dimension)) is not None]
        return self.careful.is_over(now) and all(one.is_confirmed and not one.is_rising(now) for one in said)

    def _be_careful(self) -> None:
        """Send calls more slowly for a while: the vendor has refused one, and has not said for which limit."""
        learning = self.learning
        for scope in (self.scope, ACCOUNT):
            rates = learning.rates(scope)
            for dimension, per_second in rates.items():
                if not self._careful_of or dimension in self._careful_of:
                    learning.slow_down(scope, dimension, per_second, self.careful.share(learning.now()))
            if rates:
                return

    def _is_late(self, headers: Mapping[str, str]) -> bool:
        """Whether an answer is older than another one that has been read."""
        date = headers.get(_DATE)
        if date == self._date:
            return False
        as_of = date_in(date)
        if as_of is None:
            return False
        if as_of > self._as_of:
            self._date, self._as_of = date, as_of
        return as_of < self._as_of - LATE

    # What is left

    def _find_bounds(self) -> tuple[_Bound, ...]:
        keeps_to, scope = self.learning.keeps_to, self.scope
        return tuple(
            self._bound_of(names, amount)
            for names in self._vocabulary.headers
            if keeps_to(scope, names.dimension)
            and (limit := self.limits.get(names.dimension)) is not None
            and (amount := limit.amount) is not None
        )

    @staticmethod
    def _bound_of(names: LimitHeaders, amount: int) -> _Bound:
        window = window_of(names.dimension)
        return _Bound(
            LITELLMS + names.remaining,
            LITELLMS + names.limit,
            names.dimension,
            int(DIMENSION_KINDS[names.dimension]),
            amount,
            amount * MOST if names.window == window else inf,
            names.rounded_to,
            amount / window,
        )

    def _bound(self, headers: Mapping[str, str], sent_at: float, *, is_refused: bool = False) -> None:
        """Leave no more of the limits than the vendor says is left: others use the account too.

        Of what an answer that refuses a call rounds down to nothing, no whole unit was left.
        """
        learning, sent = self.learning, None
        is_key = self.account != learning.limiter.name  # one of several
        for bound in self._bounds:
            left = remaining_in(headers.get(bound.header))
            if left is None or (left >= bound.near and not is_key):
                continue
            if (limit := headers.get(bound.limit)) is not None and not remaining_in(limit):  # zero, or minus one
                continue
            if sent is None:
                if self._is_late(headers):
                    return
                now = learning.now()
                sent = learning.limiter.sent_since(sent_at, self.scope)
            if is_key:
                most = self._most_left(bound.dimension, left, now)
                if most >= bound.near:
                    continue
                left = int(most)
            age = max(0.0, now - sent_at)
            share = pace(left, bound.rounded_to, bound.amount, bound.per_second, age)
            steps = bound.rounded_to - is_refused
            free = left_of(left, steps, bound.per_second * share, age, sent[bound.kind])
            learning.limiter.bound(self.scope, bound.dimension, free / learning.processes)
            if share < 1.0 and bound.is_rate:
                learning.slow_down(self.scope, bound.dimension, bound.per_second / learning.processes, share)

    def _most_left(self, dimension: str, left: int, now: float) -> float:
        """What is left at the account that has most: all of them share the limit here. A silent one may have all."""
        self._left[dimension] = (left, now)
        if self.learning.is_silent(self, dimension):
            return inf
        recent = (one.left_lately(dimension, now) for one in self.learning.siblings(self))
        return max(found for found in recent if found is not None)

    def left_lately(self, dimension: str, now: float) -> int | None:
        """What this account has said is left, if that was within the time for which the limit is."""
        left, at = self._left.get(dimension, (0, -inf))
        return left if now - at <= window_of(dimension) else None
