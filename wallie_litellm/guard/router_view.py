"""The part of a router that the guard needs. Several routers may share a guard: each request carries its own's view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.bill import NO_BILL, Bill

LISTED_CHAINS: Final = 100  # in a status: each of a thousand groups may have one, by a chain of any group

# The bill of an attempt, from its operation, its entry in the router's model_list, and its result.
Pricer = Callable[[str, Mapping[str, Any], AttemptResult], Bill]

# US dollars that the usage of an attempt would have cost at another deployment; None where no price is known.
Quoter = Callable[[str, Mapping[str, Any], AttemptResult], float | None]


def no_providers(_group: str) -> Iterable[str]:
    """The providers behind a group of a guard that has no router."""
    return ()


def tokens_only(_operation: str, _entry: Mapping[str, Any], result: AttemptResult) -> Bill:
    """The bill of a guard that has no router, and so no prices."""
    usage = result.usage
    return NO_BILL if usage is None else Bill(usage.input, usage.output, usage.tokens, cost_usd=None)


def no_quote(_operation: str, _entry: Mapping[str, Any], _result: AttemptResult) -> float | None:
    """The quote of a guard that has no router."""
    return None


def no_chain(_group: str) -> Sequence[str]:
    """The chain of a guard that has no router."""
    return ()


def no_deployment(_group: str) -> Mapping[str, Any] | None:
    """A group's first deployment for a guard that has no router."""
    return None


def chains_of(chains: Mapping[str, Sequence[str]]) -> Callable[[str], Sequence[str]]:
    """The groups tried after a group; the chain of ``*`` serves every group that has none of its own."""

    def chain_of(group: str) -> Sequence[str]:
        members = chains.get(group, chains.get("*", ()))
        return tuple(member for member in members if member != group)

    return chain_of


@dataclass(frozen=True, slots=True)
class RouterView:
    """The chains of a router's groups, the providers behind each of them, and its prices.

    ``scopes_of`` are the scopes of the models behind a group; without it, they are as ``providers_of``.
    ``destinations`` are all providers and accounts that the router calls. ``first_of`` is a group's first deployment,
    whose price stands for the group's, ``groups`` are those of its ``model_list``. ``quote`` prices what another
    deployment has answered.
    """

    chain_of: Callable[[str], Sequence[str]] = no_chain
    providers_of: Callable[[str], Iterable[str]] = no_providers
    price: Pricer = tokens_only
    scopes_of: Callable[[str], Iterable[str]] | None = None
    destinations: Callable[[], Iterable[str]] = tuple
    first_of: Callable[[str], Mapping[str, Any] | None] = no_deployment
    groups: Callable[[], Iterable[str]] = tuple
    quote: Quoter = no_quote

    def scopes(self, group: str) -> Iterable[str]:
        """The scopes behind a group."""
        return (self.scopes_of or self.providers_of)(group)

    def chains(self) -> Iterator[tuple[str, ...]]:
        """Each group that has a chain, with those that are tried after it."""
        for group in self.groups():
            if after := self.chain_of(group):
                yield group, *after


class RouterViews:
    """The views of the routers that are attached to a guard; iterating yields ``fallback`` where there are none."""

    def __init__(self, fallback: RouterView) -> None:
        self._fallback = fallback
        self.attached: tuple[RouterView, ...] = ()

    def __iter__(self) -> Iterator[RouterView]:
        return iter(self.attached or (self._fallback,))

    @property
    def default(self) -> RouterView:
        """The first of them."""
        return self.attached[0] if self.attached else self._fallback

    def describe_chains(self) -> list[dict[str, Any]]:
        """The chains of all routers, ``LISTED_CHAINS`` at most, each with its groups' providers; JSON-ready."""
        found = {chain[0]: (chain, view) for view in self for chain in view.chains()}
        return [
            {"chain": list(chain), "providers": {group: sorted(view.providers_of(group)) for group in chain}}
            for chain, view in islice(found.values(), LISTED_CHAINS)
        ]

    def add(self, view: RouterView) -> None:
        """Attach a router's view."""
        self.attached = (*self.attached, view)

    def replace(self, before: RouterView, view: RouterView) -> None:
        """Put another view of a router in the place of an earlier one."""
        self.attached = tuple(view if one is before else one for one in self.attached)

    def remove(self, view: RouterView) -> None:
        """Forget a router that is gone."""
        self.attached = tuple(other for other in self.attached if other is not view)
