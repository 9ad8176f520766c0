"""``order: latency``: the members of a chain by what they take, measured; the file's order where that is no reason.

A member moves ahead of another when it is faster by a fifth and 100 ms, and the difference is four and a half standard
errors, of what calls have taken since each member's pace has changed last: two members that are equal do not change
places. One that the file has first moves back as soon as it is not slower. The others are asked first now and then, to
see whether that is so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from math import inf, log, sqrt
from typing import Any, Final, NamedTuple

from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.core.latency_score import USUAL_SPREAD, Pace
from wallie_litellm.routing.latencies import Latencies
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan, Warm
from wallie_litellm.routing.switches import Switches

LATENCY: Final = "latency"
DECIDED_EVERY: Final = 1.0  # seconds between two looks at a chain
GAIN: Final = 0.8  # of the other's latency: a member that takes less moves ahead
LEAST_GAIN: Final = 0.1  # seconds
SURE: Final = 4.5  # standard errors of the difference
FEWEST: Final = 6  # calls of each of two that are compared
KNOWN: Final = 10  # calls of a member that is not looked at closer without a reason
ENOUGH: Final = 24  # calls after which a member that seems to be faster is looked at no closer
SURE_TO_RETURN: Final = 1.5  # as SURE, that a member which the file has first is not slower by GAIN
NOT_SLOWER: Final = 1.25  # times the other's latency: so fast a member that the file has first looks worth a return
SLOWED_DOWN: Final = 1.25  # standard deviations of one call's logarithm; the last few together have half of one
SURE_TO_EXPLORE: Final = 1.5  # as SURE, to look closer
HOPELESS: Final = 2.0  # times the other's latency: of a slower member, few calls are enough to know
EXPLORED_EVERY: Final = 30.0  # seconds after which a member that is not first is asked first once
EXPLORED_SHARE: Final = 50  # requests of which one is given to such a member
PROMISING_EVERY: Final = 2.0  # seconds, for one that seems about to move ahead, or is not known yet
PROMISING_SHARE: Final = 5  # requests of which one is given to it
WARM_GAIN: Final = 2.0  # times the latency of the first in order, up to which a request stays with its warm prefix
MOST_CHAINS: Final = 500  # whose order is kept


class OrderChange(NamedTuple):
    """The order of a ``chain`` of the file has changed; ``reason`` says why, in words."""

    chain: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    streamed: bool
    reason: str


class ChainOrder:
    """The order of one chain, for one kind of call. Times are seconds."""

    __slots__ = (
        "_explores_at", "_share", "asked_first_at", "decided_at", "members", "order", "paces", "promising", "reason",
        "since_explored",
    )  # fmt: skip

    def __init__(self, members: tuple[str, ...], now: float) -> None:
        self.members = members  # in the file's order
        self.order = members
        self.paces: Mapping[str, Pace | None] = {}  # at the last look
        self.decided_at = -inf
        self.reason = "as in the file"
        self.promising: frozenset[str] = frozenset()
        self.asked_first_at = dict.fromkeys(members, now)
        self.since_explored = 0
        self._explores_at = -inf  # before that, and before so many requests, none is explored
        self._share = 0

    def decide(self, paces: Mapping[str, Pace | None], streamed: bool) -> OrderChange | None:
        """Reorder by their members' ``paces``; what has changed."""
        self.paces, self._explores_at = paces, -inf
        order, promising, reason = list(self.order), set(), None
        for place in range(len(order) - 1, 0, -1):
            ahead, behind = order[place - 1], order[place]
            verdict = self._compare(ahead, behind, paces)
            if verdict is None:
                continue
            if verdict is _PROMISING:
                promising.add(behind)
                continue
            order[place - 1], order[place] = behind, ahead
            reason = verdict
        self.promising = frozenset(promising)
        before, self.order = self.order, tuple(order)
        if reason is None or before == self.order:
            return None
        self.reason = reason
        return OrderChange(self.members, before, self.order, streamed, reason)

    def _compare(self, ahead: str, behind: str, paces: Mapping[str, Pace | None]) -> str | None:
        """Why ``behind`` moves ahead; ``_PROMISING`` where that is not sure yet."""
        one, other = paces[behind], paces[ahead]
        if one is None or other is None:
            return _PROMISING
        returns = self.members.index(behind) < self.members.index(ahead)
        if min(one.calls, other.calls) >= FEWEST and _moves(one, other, returns=returns):
            found, instead = one.seconds * 1000, other.seconds * 1000
            return f"{behind} takes {found:.0f} ms where {ahead} takes {instead:.0f} ms"
        return _PROMISING if _is_worth_a_look(one, other, returns=returns) else None

    def to_explore(self, now: float) -> str | None:
        """The member that is to be asked first this time, to see what it takes; ``None`` for the first in order."""
        self.since_explored += 1
        first, *others = self.order
        self.asked_first_at[first] = now
        if now < self._explores_at and self.since_explored < self._share:
            return None
        self._explores_at, self._share = inf, EXPLORED_SHARE
        for member in sorted(others, key=self.asked_first_at.__getitem__):
            is_promising = member in self.promising
            due = self.asked_first_at[member] + (PROMISING_EVERY if is_promising else EXPLORED_EVERY)
            share = PROMISING_SHARE if is_promising else EXPLORED_SHARE
            if now >= due or self.since_explored >= share:
                self.asked_first_at[member] = now
                self.since_explored, self._explores_at = 0, -inf
                return member
            self._explores_at, self._share = min(self._explores_at, due), min(self._share, share)
        return None


_PROMISING: Final = "promising"


def _moves(one: Pace, other: Pace, *, returns: bool) -> bool:
    """Whether ``one`` is fast enough to move ahead of ``other``, or to return to where the file has it."""
    if returns and one.last_few <= NOT_SLOWER * other.seconds:
        return _surely_faster(one, other, log(1 / GAIN)) >= SURE_TO_RETURN
    is_faster = one.seconds < GAIN * other.seconds and other.seconds - one.seconds > LEAST_GAIN
    return is_faster and _surely_faster(one, other) >= SURE


def _is_worth_a_look(one: Pace, other: Pace, *, returns: bool) -> bool:
    """Whether a few more calls of ``one`` may show that it is fast enough."""
    if one.calls < KNOWN and one.seconds < HOPELESS * other.seconds:
        return True
    if returns and one.best_of_few <= NOT_SLOWER * other.seconds:
        return True
    return one.calls < ENOUGH and (_surely_faster(one, other) >= SURE_TO_EXPLORE or _slows_down(other, one))


def _surely_faster(one: Pace, other: Pace, allowance: float = 0.0) -> float:
    """By how many standard errors ``one`` is faster, with an ``allowance`` in its favour."""
    return (other.log_mean - one.log_mean + allowance) / sqrt(one.squared_error + other.squared_error)


def _slows_down(ahead: Pace, behind: Pace) -> bool:
    """Whether the last few calls of ``ahead`` were slower than those of ``behind`` by more than their usual spread."""
    return log(ahead.last_few) - behind.log_mean > SLOWED_DOWN * sqrt(max(behind.variance, USUAL_SPREAD**2))


class OrderStep:
    """The step of a plan that puts a chain in order, for the features whose ``order`` is ``latency``.

    ``features`` have an order of their own; ``general`` is that of all others. ``serves_now`` says of a scope whether
    it would admit a request now: none waits to be explored, and a request with a warm prefix stays with that scope's
    group then, unless another is much faster. ``report`` receives the changes.
    """

    def __init__(
        self,
        latencies: Latencies,
        now: Callable[[], float],
        switches: Switches,
        general: str,
        features: Mapping[str, str],
        serves_now: Callable[[str], bool],
        report: Callable[[OrderChange], object],
    ) -> None:
        self._latencies = latencies
        self._now = now
        self._switches = switches
        self._general = general
        self._features = features
        self._serves_now = serves_now
        self._report = report
        self._lock = threading.Lock()
        self._chains: LastUsed[tuple[tuple[str, ...], bool], ChainOrder] = LastUsed(MOST_CHAINS)

    def use(self, general: str, features: Mapping[str, str]) -> None:
        """Go by another configuration from now on; chains stay in the order that they are in."""
        self._general, self._features = general, features

    def __call__(self, plan: Plan, asked: Asked) -> Plan:
        """The plan in order. A chain that the request states, an experiment's arm or winner, and parameters stay."""
        if self._features.get(asked.feature or "", self._general) != LATENCY or not self._switches.on("order"):
            return plan
        decided = plan.decided
        if not plan.may_move(asked) or any(member.parameters for member in plan.members):
            return plan
        groups = (plan.group, *(member.group for member in plan.members))
        order, explored, paces = self._order_of(groups, asked)
        why = f"{order[0]} is asked to see what it takes" if explored else f"{order[0]} first by latency"
        warm = None if decided is None or explored else decided.warm
        if warm is not None and (kept := self._kept(warm, order, paces)) is not None:
            order = (kept, *(group for group in order if group != kept))
            why = f"{kept} first, whose vendor has the beginning of the prompt"
        decided = decided or Decided()
        decided.by_latency = True
        if order == groups and not explored:
            return plan if plan.decided is decided else plan._replace(decided=decided)
        if order == groups:  # the file's first is the one that is explored: on record, though nothing moves
            decided.why.append(why)
            return plan._replace(decided=decided)
        decided.order = plan.group
        decided.why.append(why)
        return plan._replace(group=order[0], members=tuple(map(Member, order[1:])), decided=decided)

    def _kept(self, warm: Warm, order: tuple[str, ...], paces: Mapping[str, Pace | None]) -> str | None:
        """The group that has the request's prefix, if it is to be asked first instead of the first in ``order``.

        It is not much slower, and can serve now.
        """
        group, scope = warm.group, warm.scope
        if group is None or scope is None or group not in order[1:]:
            return None
        own, first = paces.get(group), paces.get(order[0])
        if own is None or (first is not None and own.seconds > WARM_GAIN * first.seconds):
            return None
        return group if self._serves_now(scope) else None

    def _order_of(
        self, groups: tuple[str, ...], asked: Asked
    ) -> tuple[tuple[str, ...], bool, Mapping[str, Pace | None]]:
        """The order of a chain, whether its first is one to be explored, and what its members take."""
        now, streamed, change = self._now(), asked.streams, None
        with self._lock:
            chain = self._chains.use((groups, streamed), lambda: ChainOrder(groups, now))
            if now - chain.decided_at >= DECIDED_EVERY:
                chain.decided_at = now
                measured = {group: self._latencies.pace_of(asked.scopes_of(group), streamed) for group in groups}
                change = chain.decide(measured, streamed)
            explored, order, paces = chain.to_explore(now), chain.order, chain.paces
        if change is not None:
            self._report(change)
        if explored is None or not self._admits(explored, asked):
            return order, False, paces
        return (explored, *(group for group in order if group != explored)), True, paces

    def _admits(self, group: str, asked: Asked) -> bool:
        """Whether one of the group's scopes would admit a request now: none waits to explore."""
        scopes = tuple(asked.scopes_of(group))
        return not scopes or any(map(self._serves_now, scopes))

    def describe(self) -> list[dict[str, Any]]:
        """The chains that requests have taken, with their present order and the reason for it, JSON-ready."""
        with self._lock:
            chains = list(self._chains.items())
        return [
            {
                "chain": list(groups),
                "stream": streamed,
                "order": list(chain.order),
                "reason": chain.reason,
                "pace": {
                    group: None if pace is None else {"seconds": pace.seconds, "calls": pace.calls}
                    for group, pace in chain.paces.items()
                },
            }
            for (groups, streamed), chain in chains
        ]
