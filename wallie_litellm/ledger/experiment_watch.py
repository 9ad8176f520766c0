"""Keeps a process' experiments as they stand in the ledger, which all workers share, and stops arms by their guardrail.

Every worker decides by the same records and names what it decides after them, so that the ledger has it once, whichever
of them comes first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.clock import DAY
from wallie_litellm.config.values import mask_url
from wallie_litellm.events import ArmStopped, Event, ExperimentChanged, named_id
from wallie_litellm.ledger.database import reason
from wallie_litellm.ledger.engine import missing_file, open_engine
from wallie_litellm.ledger.experiments import arms_to_stop, read_changes
from wallie_litellm.ledger.forks import BARRIER
from wallie_litellm.ledger.migrations import version_of
from wallie_litellm.ledger.schema import VERSION
from wallie_litellm.routing.experiments import STARTED, STOPPED, Change, Experiment

logger = logging.getLogger(__name__)

_MOMENT: Final = 10.0  # seconds
ACTOR: Final = "wallie"  # who starts experiments and stops their arms

# Has an action done once in the fleet: a key, the seconds for which this holds, the action.
Once = Callable[[str, float, Callable[[], object]], object]


class ExperimentWatch:
    """Looks at the ledger at ``url`` every ``interval`` seconds, on a thread of its own.

    ``publish`` puts on record what is decided; ``once`` has an alert sent once in the fleet. ``now`` is the wall clock.
    """

    def __init__(
        self,
        url: str,
        experiments: Mapping[str, Experiment],
        publish: Callable[[Event], object],
        once: Once,
        *,
        now: Callable[[], float] = time.time,
        interval: float,
    ) -> None:
        self._url = url
        self._experiments = experiments
        self._publish = publish
        self._once = once
        self._now = now
        self._interval = interval
        self._looked = threading.Event()
        self._closing = threading.Event()
        self._is_down = False
        self._started: set[str] = set()

    def start(self, timeout: float) -> None:
        """Begin, and wait up to ``timeout`` seconds for the first look."""
        _watches.add(self)
        self._begin()
        self._looked.wait(timeout)

    def go_on(self) -> None:
        """Begin anew in a forked child, which has no thread of its parent's."""
        if not self._closing.is_set():
            self._looked, self._closing = threading.Event(), threading.Event()
            self._begin()

    def _begin(self) -> None:
        threading.Thread(target=self._run, name="wallie-experiments", daemon=True).start()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._closing.set()

    def _run(self) -> None:
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        engine = open_engine(self._url, pool_size=1)
        try:
            while not self._closing.is_set():
                await self._try_to_look(engine)
                self._looked.set()
                await asyncio.to_thread(self._closing.wait, self._interval)
        finally:
            with suppress(Exception):  # the thread ends either way
                await engine.dispose()

    async def _try_to_look(self, engine: AsyncEngine) -> None:
        try:
            with BARRIER.transaction():  # a child that is forked meanwhile would have the locks held for ever
                await self._look(engine)
            self._is_down = False
        except Exception as error:  # noqa: BLE001 - of a database that is away, whatever its driver raises
            if not self._is_down:
                logger.warning(
                    "the ledger at %s cannot be read (%s): experiments go on as they stand",
                    mask_url(self._url),
                    reason(error),
                )
            self._is_down = True

    async def _look(self, engine: AsyncEngine) -> None:
        changes: Mapping[str, Sequence[Change]] = {}
        if not missing_file(self._url):
            async with engine.connect() as connection:
                if await connection.run_sync(version_of) == VERSION:
                    changes = await read_changes(connection, self._experiments)
        for name, experiment in self._experiments.items():
            recorded = changes.get(name, ())
            experiment.learn(recorded)
            # Once: a worker that still has another definition must not begin the measurement anew in turns with it.
            if experiment.standing.since is None and not (name in self._started and recorded):
                self._started.add(name)
                self._start(name, experiment, recorded)
        if changes:
            await self._stop_arms(engine)

    def _start(self, name: str, experiment: Experiment, recorded: Sequence[Change]) -> None:
        # Named after the last change, so that workers which begin together put one start on record.
        last = recorded[-1].id if recorded else ""
        self._change(name, experiment, STARTED, "", f"{last}:{experiment.settings.definition}", None)

    async def _stop_arms(self, engine: AsyncEngine) -> None:
        for name, experiment in self._experiments.items():
            limit = experiment.settings.stop_arm_above
            if limit is None:
                continue
            async with engine.connect() as connection:
                found = await arms_to_stop(connection, name, experiment.settings, experiment.standing)
            for arm, (share, requests) in found.items():
                # Stopped once since its start, or since it was resumed.
                resumed = experiment.standing.resumed.get(arm)
                start = experiment.standing.start if resumed is None else resumed.id
                why = f"{share:.1%} of its last {requests} requests not answered, limit {limit.error_rate:.1%}"
                at = self._change(name, experiment, STOPPED, arm, f"{start}:{arm}", why)
                key = f"arm:{name}:{start}:{arm}"
                # Without a fleet's store each worker that sees it at the same time sends it: under one id.
                id_ = named_id(at // _MOMENT * _MOMENT, key)
                stopped = ArmStopped(id_, at, name, arm, share, limit.error_rate, requests)
                self._once(key, DAY, partial(self._publish, stopped))

    def _change(self, name: str, experiment: Experiment, change: str, arm: str, basis: str, why: str | None) -> float:
        """Put a change on record, and have it hold here at once; returns its time."""
        at, definition = experiment.time_of_change(self._now()), experiment.settings.definition
        # Its id is the same whichever worker makes it: the time in it is that of no clock.
        id_ = named_id(0.0, f"{change}:{name}:{basis}")
        experiment.note(Change(id_, at, definition, change, arm, why))
        self._publish(ExperimentChanged(id_, at, name, definition, change, arm, ACTOR, why))
        return at


_watches: weakref.WeakSet[ExperimentWatch] = weakref.WeakSet()


def _go_on_in_child() -> None:
    for watch in tuple(_watches):
        watch.go_on()


os.register_at_fork(after_in_child=_go_on_in_child)
