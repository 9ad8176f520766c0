"""When each model was called last, and with what result."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from wallie_litellm.core.scopes import MODEL_MARK
from wallie_litellm.core.served_models import MOST_SERVED, SERVED_LATELY

CALLED_LATELY: Final = SERVED_LATELY  # seconds since its last call in which a model's state counts for its provider's
MOST_SCOPES: Final = 1_000  # that are remembered; with a wildcard, callers invent models


_Served = tuple[str | None, float]  # the deployment that has served last, and when, in seconds
_NEVER: Final[_Served] = (None, -inf)


class RecentCalls:
    """The last answers of each scope. Times are seconds of the guard's clock."""

    def __init__(self) -> None:
        self._served: dict[str, _Served] = {}
        self._failed_at: dict[str, float] = {}

    def serve(self, scope: str, deployment_id: str | None, now: float) -> None:
        """A deployment has served."""
        served = self._served
        served[scope] = deployment_id, now
        if len(served) > MOST_SCOPES:
            served.pop(next(iter(served)), None)

    def fail(self, scope: str, now: float) -> None:
        """A call has failed; or a first one was reported otherwise, by another worker."""
        self._failed_at[scope] = now
        if len(self._failed_at) > MOST_SCOPES:
            self._failed_at.pop(next(iter(self._failed_at)), None)

    def another_has_served(self, scopes: Iterable[str], deployment_id: str | None, since: float) -> bool:
        """Whether another deployment of one of ``scopes`` has served since then."""
        found = (self._served.get(scope, _NEVER) for scope in scopes)
        return any(served_by != deployment_id and at > since for served_by, at in found)

    def served_scopes(self) -> list[str]:
        """Those that have served."""
        return list(self._served)

    def models_served(self, owner: str, since: float) -> dict[str, float]:
        """When models of a provider, or of an account, have served last, of those that have since then: the latest."""
        begin = owner + MODEL_MARK
        found = [(at, scope) for scope, (_, at) in list(self._served.items()) if at > since and scope.startswith(begin)]
        return {scope[len(begin) :]: at for at, scope in sorted(found, reverse=True)[:MOST_SERVED]}

    def last(self, scope: str) -> float:
        """When a call has served or failed last."""
        return max(self._served.get(scope, _NEVER)[1], self._failed_at.get(scope, -inf))

    def served_at(self, scope: str) -> float:
        """When a call has served last."""
        return self._served.get(scope, _NEVER)[1]
