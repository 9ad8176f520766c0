"""Which share of the requests for a chain each of its members served. Pure: sums over requests in, counts out.

The sums are by the group that was asked for and the provider that served, as the roll-ups have them. So members
behind one provider are counted together, but for the first of the chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wallie_litellm.ledger.figures import RequestTotals, share
from wallie_litellm.ledger.queries import LedgerQueries

SHOWN_CHAINS: Final = 30  # those that were asked for most
_SUMS: Final = 10 * SHOWN_CHAINS  # groups with one of their providers

Chains = Mapping[
    str, Mapping[str, Sequence[str]]
]  # first group: all groups of the chain in order, with their providers


@dataclass(frozen=True, slots=True)
class ChainMember:
    """What a member served, or several together. Without ``groups`` it is no longer in the chain, or was elsewhere."""

    groups: Sequence[str]
    providers: Sequence[str]
    served: int
    share: float | None


@dataclass(frozen=True, slots=True)
class ChainShares:
    """The requests for one group, by what became of them. Shares are of those that their callers did not end.

    ``cached`` were answered by the cache, ``failed`` by none.
    """

    group: str
    requests: int
    by_caller: int
    cached: int
    failed: int
    members: Sequence[ChainMember]

    @property
    def cached_share(self) -> float | None:
        """The share that the cache answered, 0 to 1."""
        return share(self.cached, self.requests - self.by_caller)

    @property
    def failed_share(self) -> float | None:
        """The share that was not answered, 0 to 1."""
        return share(self.failed, self.requests - self.by_caller)


async def gather_asked(queries: LedgerQueries, since: float, until: float | None = None) -> list[RequestTotals]:
    """The sums that :func:`chain_shares` needs, of a range."""
    return await queries.requests(since, until, by=["model", "provider"], percentiles=False, top=_SUMS)


def chains_in(status: Mapping[str, Any]) -> Chains:
    """The chains of a guard's ``status()``."""
    described = (status.get("routing") or {}).get("chains", ())
    return {one["chain"][0]: {group: one["providers"][group] for group in one["chain"]} for one in described}


def chain_shares(asked: Iterable[RequestTotals], chains: Chains) -> list[ChainShares]:
    """The chains that were asked for, the most frequent first; also groups without one that fallbacks have answered."""
    by_group: dict[str, list[RequestTotals]] = {}
    for one in asked:
        by_group.setdefault(one.model or "", []).append(one)
    found = [
        _shares(group, rows, chains.get(group, {group: ()}))
        for group, rows in by_group.items()
        if group in chains or any(one.fallbacks for one in rows)
    ]
    return sorted(found, key=lambda one: (-one.requests, one.group))[:SHOWN_CHAINS]


def _shares(group: str, rows: Sequence[RequestTotals], chain: Mapping[str, Sequence[str]]) -> ChainShares:
    requests, by_caller = sum(one.requests for one in rows), sum(one.by_caller for one in rows)
    own = {one.provider or "": one.successes - one.fallbacks - one.cache_hits for one in rows}
    first = chain[group] or sorted(name for name, count in own.items() if count > 0)
    served = [([group], first, sum(own.values()))]
    served += _by_fallbacks(rows, {name: chain[name] for name in chain if name != group})
    return ChainShares(
        group,
        requests,
        by_caller,
        sum(one.cache_hits for one in rows),
        sum(one.failures for one in rows),
        [ChainMember(names, of, count, share(count, requests - by_caller)) for names, of, count in served],
    )


def _by_fallbacks(
    rows: Sequence[RequestTotals], members: Mapping[str, Sequence[str]]
) -> list[tuple[list[str], Sequence[str], int]]:
    """What the later members served: their names, those behind one provider together, and their providers."""
    counts = Counter({one.provider or "": one.fallbacks for one in rows if one.fallbacks})
    parts = [[name] for name in members]
    for provider in counts:
        joined = [part for part in parts if any(provider in members[name] for name in part)]
        for part in joined[1:]:
            joined[0].extend(part)
            parts.remove(part)
    found: list[tuple[list[str], Sequence[str], int]] = []
    for part in parts:
        of = sorted({provider for name in part for provider in members[name]})
        found.append((part, of, sum(counts.pop(provider, 0) for provider in of)))
    return [*found, *(([], [provider], count) for provider, count in counts.items())]
