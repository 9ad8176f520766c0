"""The two routers of a row: the same arguments for both, and no limits of ours in the way."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import litellm

from drop_in.litellm_state import LISTS
from drop_in.upstream import Upstream

if TYPE_CHECKING:
    from wallie_litellm.clock import Clock

_BASES: Final = {"openai": "/v1", "text-completion-openai": "/v1", "cohere": "/v2/rerank"}
NO_LIMITS: Final[dict[str, Any]] = {name: {} for name in ("openai", "anthropic", "cohere", "text-completion-openai")}
# Waits between retries are not what is compared. The breaker opens for no row but those about it.
UNGUARDED: Final[dict[str, Any]] = {
    "providers": NO_LIMITS,
    "retry": {"max_retries": 0, "initial": "1ms", "max": "2ms"},
    "breaker": {"failures": 1000},
    "admission": {"max_wait": "2s"},
    "ledger": None,
}


def pointed(upstream: Upstream, deployments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The deployments with address and key of their account."""
    found = copy.deepcopy(list(map(dict, deployments)))
    for entry in found:
        params = entry["litellm_params"]
        account = params.pop("account", None)
        if account is not None:
            base = _BASES.get(params["model"].partition("/")[0], "/v1" if "/" not in params["model"] else "")
            params.setdefault("api_base", upstream.base(account) + base)
            params.setdefault("api_key", f"sk-{account}")
    return found


@asynccontextmanager
async def plain_router(
    models: list[dict[str, Any]], retries: int = 0, **settings: Any
) -> AsyncIterator[litellm.Router]:
    """A ``litellm.Router``."""
    with _process_kept():
        router = litellm.Router(model_list=models, num_retries=retries, **settings)
        try:
            yield router
        finally:
            router.discard()


@asynccontextmanager
async def our_router(
    models: list[dict[str, Any]],
    retries: int = 0,
    wallie: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Any]:
    """A ``WallieRouter`` with the same arguments."""
    from wallie_litellm.config import WallieConfig
    from wallie_litellm.guard import Guard
    from wallie_litellm.guard.router import WallieRouter

    sections = {**UNGUARDED, "retry": {**UNGUARDED["retry"], "max_retries": retries}, **(wallie or {})}
    guard = Guard(WallieConfig.model_validate(sections), clock=clock)
    with _process_kept():
        try:
            yield WallieRouter(model_list=models, num_retries=retries, guard=guard, **settings)
        finally:
            await guard.aclose()


@contextmanager
def _process_kept() -> Iterator[None]:
    """What a router leaves in LiteLLM's module and another would find: the cache of answers, a strategy's callback."""
    cache = litellm.cache
    callbacks = {name: list(getattr(litellm, name)) for name in LISTS}
    try:
        yield
    finally:
        litellm.cache = cache
        for name, before in callbacks.items():
            getattr(litellm, name)[:] = before
