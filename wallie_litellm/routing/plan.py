"""Where one request goes: the group asked first, those after it, and what decided it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Member(NamedTuple):
    """A model group of a chain, and the parameters that a request to it has instead of the caller's own."""

    group: str
    parameters: Mapping[str, Any] = {}


class Warm(NamedTuple):
    """A prefix that a vendor may have in its cache: its digest, for how many seconds, and the scope that had it last.

    ``scope`` and its model ``group`` are ``None`` where none is known.
    """

    digest: bytes
    seconds: float
    scope: str | None = None
    group: str | None = None


@dataclass(slots=True)
class Decided:
    """What was decided for one request, and how it turned out. Money is in US dollars.

    ``requested`` is the name that the caller used, where that is not the group asked first. ``unit`` is a hash of the
    user or session that has the ``arm``. ``auto_tier`` is the tier that ``auto`` chose, or with ``shadow`` would have,
    and ``auto_against`` the group whose price its choice is compared with; ``on_saved`` takes what it saved.
    ``by_latency``: the chain is asked in the order of what its members take. ``order`` is the group that was planned
    first, where its latency put another before it, and ``stands_in`` says that another is asked first for a time, while
    that one comes back or says nothing. ``wasted_usd`` is the cost of hedges
    that lost. ``saved_usd`` is what a cached answer had cost. ``warm`` is the request's prefix, where that is
    looked at. ``why`` are short reasons, without content.
    """

    requested: str | None = None
    tier: str | None = None
    experiment: str | None = None
    arm: str | None = None
    unit: str | None = None
    auto_tier: str | None = None
    shadow: bool = False
    auto_saved_usd: float | None = None
    auto_against: str | None = None
    on_saved: Callable[[float], object] | None = None
    by_latency: bool = False
    order: str | None = None
    stands_in: bool = False
    hedged: bool = False
    wasted_usd: float = 0.0
    cache_hit: bool = False
    saved_usd: float | None = None
    warm: Warm | None = None
    why: list[str] = field(default_factory=list)

    def recorded(self) -> dict[str, Any]:
        """The fields of :class:`~wallie_litellm.events.Ended` that say it."""
        return {
            "requested": self.requested,
            "tier": self.tier,
            "experiment": self.experiment,
            "arm": self.arm,
            "unit": self.unit,
            "auto_tier": self.auto_tier,
            "auto_saved_usd": self.auto_saved_usd,
            "order": self.order,
            "hedged": self.hedged,
            "wasted_usd": self.wasted_usd,
            "cache_hit": self.cache_hit,
            "saved_usd": self.saved_usd,
            "why": tuple(self.why),
        }


def no_scopes(_group: str) -> Iterable[str]:
    """The scopes behind a group of a router that is not known."""
    return ()


class Asked(NamedTuple):
    """What a caller asked for. ``stated`` are its arguments about the chain, ``fallbacks`` and ``tier`` for example.

    ``streams``: the answer comes as a stream. ``chain_after`` returns the configured members after a group,
    ``scopes_of`` the scopes of the models behind one.
    """

    model: str | None
    arguments: Mapping[str, Any]
    feature: str | None
    user_id: str | None
    metadata: Mapping[str, Any]
    stated: Mapping[str, Any]
    chain_after: Callable[[str], Sequence[Member]]
    operation: str = "chat"
    streams: bool = False
    scopes_of: Callable[[str], Iterable[str]] = no_scopes
    proxy_key: str | None = None

    @property
    def states_chain(self) -> bool:
        """Whether the caller says itself which members its chain has, or that it has none."""
        return self.stated.get("fallbacks") is not None or self.stated.get("disable_fallbacks") is True


class Plan(NamedTuple):
    """The group asked first, the members after it, and the record of what decided both; without one, nothing did.

    ``tier`` is the name of the tier that the request is for, and ``granted`` the groups that the permission to use it
    extends to. ``experiment`` is the name of the one that chose the group.
    """

    group: str
    members: Sequence[Member]
    decided: Decided | None = None
    tier: str | None = None
    granted: frozenset[str] = frozenset()
    experiment: str | None = None

    def may_move(self, asked: Asked) -> bool:
        """Whether another member may be asked first: where the request states no chain, and no experiment chose."""
        return bool(self.members) and not asked.states_chain and self.experiment is None

    def next_first(self, why: str) -> Plan:
        """The same with the next member asked first; ``why`` goes on record."""
        first, *rest = self.members
        decided = self.decided or Decided()
        decided.order = decided.order or self.group
        decided.stands_in = True
        decided.why.append(why)
        return self._replace(group=first.group, members=(Member(self.group), *rest), decided=decided)


PlanStep = Callable[[Plan, Asked], Plan]  # one kind of decision: returns the plan as it was, or another
