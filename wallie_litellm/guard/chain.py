"""Chains of model groups as LiteLLM writes them, and the error at the end of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wallie_litellm.core.http_status import CALLER_STATUSES
from wallie_litellm.errors import ChainExhausted, DeadlineExceeded
from wallie_litellm.guard.context import RequestContext
from wallie_litellm.routing.plan import Member

ANY_GROUP = "*"  # the group under which LiteLLM keeps the fallbacks of all groups that have none of their own


def configured_chains(fallbacks: Any) -> dict[str, tuple[Member, ...]]:
    """The chains of a router's ``fallbacks``: a list of mappings from a group to those tried after it."""
    chains: dict[str, tuple[Member, ...]] = {}
    for entry in fallbacks if isinstance(fallbacks, list | tuple) else ():
        if isinstance(entry, Mapping):
            chains.update({str(group): without(str(group), _members(members)) for group, members in entry.items()})
    return chains


def stated_chain(group: str, fallbacks: Any) -> tuple[Member, ...]:
    """The chain that a request states for itself: LiteLLM takes a list of groups, or of mappings by group."""
    members: list[Any] = []
    for entry in fallbacks if isinstance(fallbacks, list | tuple) else ():
        if isinstance(entry, Mapping) and "model" not in entry:
            members += entry.get(group) or ()
        else:
            members.append(entry)
    return without(group, _members(members))


def chain_after(group: str, chains: Mapping[str, tuple[Member, ...]]) -> tuple[Member, ...]:
    """The chain of ``group``, else that of all groups that have none of their own."""
    own = chains.get(group)
    return without(group, chains.get(ANY_GROUP, ())) if own is None else own


def without(group: str, members: Iterable[Member]) -> tuple[Member, ...]:
    """``members`` but those that would repeat the request to ``group`` as it is."""
    return tuple(member for member in members if member.group != group or member.parameters)


def final_error(context: RequestContext, error: Exception) -> Exception:
    """The error that the caller receives when the whole chain has failed."""
    last = {failure.model: failure for failure in context.failures}
    if isinstance(error, DeadlineExceeded) or len(last) < 2:
        return error
    if next(iter(last.values())).status_code in CALLER_STATUSES:
        return error  # the provider's own answer serves the caller better
    if context.feature_refusal is not None:
        return context.feature_refusal
    return ChainExhausted(tuple(last.values()))


def _members(members: Any) -> Iterable[Member]:
    for member in members if isinstance(members, list | tuple) else (members,):
        if isinstance(member, Mapping):
            parameters = {key: value for key, value in member.items() if key != "model"}
            yield Member(str(member.get("model")), parameters)
        elif member is not None:
            yield Member(str(member))
