"""One documented behaviour of LiteLLM's Router: what it is configured with, what is done, and what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drop_in.upstream import Fault, Upstream

Script = Mapping[str, "Sequence[Fault]"]
Deployments = Callable[["Upstream"], list[dict[str, Any]]]


@dataclass(frozen=True)
class Stage:
    """What an action has at hand: one of the two routers, and the provider behind it."""

    router: Any  # a litellm.Router by interface
    upstream: Upstream


Action = Callable[[Stage], Awaitable[Any]]


@dataclass(frozen=True)
class Difference:
    """A deliberate difference of our router in this row."""

    name: str  # a key of NAMED_DIFFERENCES
    ours: Mapping[str, Any]  # the facets in which ours differs, as they are to be


@dataclass(frozen=True)
class Row:
    """``act`` with a router of ``models`` and ``settings`` while the accounts follow ``script``.

    ``expected`` names facets of the outcome: ``answer``, ``error``, ``accounts`` (of the requests upstream, in turn) or
    others that the action gives. Both routers must show them, and be alike in all that the row observes.
    """

    behaviour: str
    models: Sequence[Mapping[str, Any]]
    act: Action
    expected: Mapping[str, Any]
    script: Script = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 0
    difference: Difference | None = None
    any_order: bool = False  # requests upstream are compared as a set
    any_request: bool = False  # requests upstream are not compared: a random pick decides on them


def deployment(
    group: str,
    account: str,
    model: str = "openai/gpt-4o-mini",
    info: Mapping[str, Any] | None = None,
    **params: Any,
) -> dict[str, Any]:
    """An entry of a ``model_list``; its address and key are filled in where the upstream is known."""
    return {
        "model_name": group,
        "litellm_params": {"model": model, "account": account, **params},
        "model_info": {"id": f"{group}-{account}", **(info or {})},
    }
