"""The part of a router that the guard needs. Several routers may share a guard: each request carries its own's view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.bill import NO_BILL, Bill

# The bill of an attempt, from its operation, its entry in the router's model_list, and its result.
Pricer = Callable[[str, Mapping[str, Any], AttemptResult], Bill]


def no_providers(_group: str) -> Iterable[str]:
    """The providers behind a group of a guard that has no router."""
    return ()


def tokens_only(_operation: str, _entry: Mapping[str, Any], result: AttemptResult) -> Bill:
    """The bill of a guard that has no router, and so no prices."""
    usage = result.usage
    return NO_BILL if usage is None else Bill(usage.input, usage.output, usage.tokens, cost_usd=None)


@dataclass(frozen=True, slots=True)
class RouterView:
    """A router's chains by group, the providers behind each of its groups, and its prices."""

    chains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    providers_of: Callable[[str], Iterable[str]] = no_providers
    price: Pricer = tokens_only

    def chain_of(self, group: str) -> Sequence[str]:
        """The groups tried after ``group``; the chain of ``*`` serves every group that has none of its own."""
        members = self.chains.get(group, self.chains.get("*", ()))
        return tuple(member for member in members if member != group)
