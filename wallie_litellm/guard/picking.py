"""The pick of one attempt: LiteLLM chooses among the deployments that can serve soonest."""

from __future__ import annotations

from contextlib import suppress
from contextvars import Token
from typing import Any

from wallie_litellm.errors import Refused
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.guard import Guard
from wallie_litellm.litellm_adapter.inner_router import Deployment, InnerRouter, id_of
from wallie_litellm.litellm_adapter.selection import Selection, current_selection, ensure_registered


class Picking:
    """What this package's filter keeps for one attempt.

    The first pick is among the scopes that can serve soonest; the one that has the request's prefix in its vendor's
    cache, if it is one of them. LiteLLM's own filters, by tags for example, come
    later and may leave none of these: then :meth:`widen` leaves all that may be waited for, but for the excluded ones.
    LiteLLM's filter asks it inside a ``with`` block of its own.
    """

    __slots__ = (
        "_attempt",
        "_context",
        "_guard",
        "_inner",
        "_only",
        "_token",
        "_wide",
        "excluded",
        "group",
        "refused",
    )

    def __init__(
        self, guard: Guard, inner: InnerRouter, context: RequestContext, attempt: Attempt, excluded: frozenset[str]
    ) -> None:
        self.group = attempt.group
        self.refused: Refused | None = None
        self._guard = guard
        self._inner = inner
        self._context = context
        self._attempt = attempt
        self.excluded = excluded
        self._wide = False
        self._only: Deployment | None = None
        self._token: Token[Selection | None]

    def keep(self, deployments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of ``deployments`` that LiteLLM may pick."""
        if self._only is not None:
            # None is left only where another router picks, in a handler or a hook of the application's.
            only = id_of(self._only)
            return [deployment for deployment in deployments if id_of(deployment) == only] or deployments
        left = [deployment for deployment in deployments if id_of(deployment) not in self.excluded]
        if len(left) < 2:
            return left
        scopes = {self._inner.scope_of(deployment) for deployment in left}
        if len(scopes) < 2:
            return left
        try:
            preferred = self._guard.preferred(
                self._context, self.group, scopes, self._attempt.demand, soonest=not self._wide
            )
        except Refused as refused:
            self.refused = refused
            return []
        decided = self._context.decided
        if decided is not None and decided.warm is not None and decided.warm.scope in preferred and not self._wide:
            preferred = frozenset((decided.warm.scope,))
        return [deployment for deployment in left if self._inner.scope_of(deployment) in preferred]

    def widen(self) -> bool:
        """Keep more at the next pick; ``False`` if there are no more."""
        if self._wide or self.refused is not None:
            return False
        self._wide = True
        return True

    def settle_on(self, deployment: Deployment) -> None:
        """Keep only the deployment that was picked: the Router picks again when it calls a group."""
        self._only = deployment

    def __enter__(self) -> None:
        ensure_registered()
        self._token = current_selection.set(self)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):  # a coroutine that is collected ends in another context
            current_selection.reset(self._token)
