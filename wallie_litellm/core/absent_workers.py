"""Workers that went on alone while the lease server was away, and have not been heard of since it is back.

Each of them may have used its part of every rate. The server does not know that yet, and its buckets have been refilled
meanwhile: the first worker that returns would be leased what the others have used already. Their parts are therefore on
lease to them all, until they are heard of; if they are not, that lease expires as a worker's does, and is charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

from wallie_litellm.core.lease_terms import WORKER_TIMEOUT, LeasingWorker
from wallie_litellm.core.token_bucket import TokenBucket

ABSENT: Final = "absent"  # stands in the place of these workers; no worker has this name


class AbsentWorkers:
    """How many there are, of one outage at a time. Times are seconds of the server's clock."""

    __slots__ = ("_away_since", "_count", "_held_since")

    def __init__(self) -> None:
        self._count = 0
        self._away_since = self._held_since = 0.0

    def hold(
        self,
        now: float,
        began_at: float,
        shared_by: int,
        workers: dict[str, LeasingWorker],
        buckets: Mapping[str, TokenBucket],
    ) -> None:
        """A worker is back from an outage since ``began_at``, before which ``shared_by`` workers shared the limits."""
        heard = sum(worker.seen_at >= began_at for worker in workers.values())
        if began_at <= self._held_since or heard >= shared_by:
            return
        self._count, self._away_since, self._held_since = shared_by - heard, began_at, now
        part = self._count / shared_by
        refilled = WORKER_TIMEOUT  # seconds: the absent ones go on until they are heard of
        leased = {name: (bucket.capacity + refilled / bucket.cost) * part for name, bucket in buckets.items()}
        workers[ABSENT] = LeasingWorker(-inf, lease_expires_at=now + WORKER_TIMEOUT, leased=leased)

    def hear(self, worker: LeasingWorker | None, workers: Mapping[str, LeasingWorker]) -> None:
        """A request of ``worker``, None for one that the server does not know, has arrived."""
        absent = workers.get(ABSENT)
        if absent is None or not self._count or (worker is not None and worker.seen_at >= self._away_since):
            return
        absent.unlease({name: units / self._count for name, units in absent.leased.items()})
        self._count -= 1
