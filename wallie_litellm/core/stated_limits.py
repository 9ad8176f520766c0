"""The limits of the files of a fleet's workers: where they differ, the smallest of the workers that are there holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wallie_litellm.core.lease_terms import WORKER_TIMEOUT


class _Stated(NamedTuple):
    amounts: Sequence[float]
    worker: str
    at: float  # seconds of the server's clock


class StatedLimits:
    """For each limit the smallest amounts that a worker states, which it has stated lately."""

    __slots__ = ("_stated",)

    def __init__(self) -> None:
        self._stated: dict[str, _Stated] = {}

    def state(self, now: float, name: str, worker: str, amounts: Sequence[float]) -> Sequence[float]:
        """A worker states these amounts of a limit, with the one that counts at first; the amounts that hold."""
        before = self._stated.get(name)
        is_renewed = before is not None and (amounts[0] <= before.amounts[0] or worker == before.worker)
        if before is None or is_renewed or now - before.at > WORKER_TIMEOUT:
            self._stated[name] = _Stated(amounts, worker, now)
        return self._stated[name].amounts
