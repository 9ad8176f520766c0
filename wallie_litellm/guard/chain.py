"""Chains of model groups as LiteLLM writes them, and the error at the end of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wallie_litellm.core.http_status import CALLER_STATUSES
from wallie_litellm.errors import ChainExhausted, DeadlineExceeded
from wallie_litellm.guard.context import RequestContext


def configured_chains(fallbacks: Any) -> dict[str, tuple[str, ...]]:
    """The chains of a router's ``fallbacks``: a list of mappings from a group to those tried after it."""
    chains: dict[str, tuple[str, ...]] = {}
    for entry in fallbacks or ():
        if isinstance(entry, Mapping):
            chains.update({group: tuple(map(_group_of, members)) for group, members in entry.items()})
    return chains


def stated_chain(group: str, fallbacks: Any) -> tuple[str, ...]:
    """The chain that a request states for itself: LiteLLM takes a list of groups, or of mappings by group."""
    members: list[Any] = []
    for entry in fallbacks if isinstance(fallbacks, list | tuple) else ():
        if isinstance(entry, Mapping) and "model" not in entry:
            members += entry.get(group) or ()
        else:
            members.append(entry)
    return tuple(map(_group_of, members))


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


def _group_of(member: Any) -> str:
    return str(member.get("model")) if isinstance(member, Mapping) else str(member)
