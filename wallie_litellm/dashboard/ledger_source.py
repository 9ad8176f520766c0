"""The present as far as a ledger tells it: for applications whose limits live in their own memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from wallie_litellm.bootstrap import restore_limits, usage_windows
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.dashboard.guard_source import Action, ActionRefused
from wallie_litellm.dashboard.view_model import Fleet
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.reader import open_reader, reason
from wallie_litellm.ledger.restore import read_usage
from wallie_litellm.telemetry.bus import Bus

READ_ONLY: Final = (
    "the limits are in the application's own memory, and this is what its ledger tells of them; to give orders, share "
    "the limits through WALLIE_REDIS_URL, or mount the dashboard in the application"
)
RECENT: Final = 500  # changes of breakers and health that are looked through
FRESH_FOR: Final = 1.0  # seconds that an answer serves everybody


class LedgerSource:
    """Limits as they stand if only the ledger's records count, and breakers as they were last said to be.

    What is under way or waiting is not on record, and neither is when a breaker will try again.
    """

    read_only: str | None = READ_ONLY

    def __init__(self, config: WallieConfig) -> None:
        assert config.ledger is not None, "there is nothing to tell from"  # noqa: S101 - narrows the type
        self._config = config.model_copy(update={"store": config.store.model_copy(update={"url": "memory"})})
        self._url = config.ledger.url
        self._error: str | None = None
        self._last: tuple[float, Mapping[str, Any]] = (float("-inf"), {})

    async def status(self) -> Mapping[str, Any]:
        """What a guard would say that had only the ledger to go by."""
        now = time.monotonic()
        if now - self._last[0] < FRESH_FOR:
            return self._last[1]
        # One that never serves anybody: nothing but the arithmetic of the limits is wanted of it.
        guard = Guard(self._config, bus=Bus())
        try:
            changes = await self._read(guard)
            status = guard.status()
        finally:
            guard.close()
        for kind, provider, after, why in changes:
            _note(status["providers"].get(provider), kind, after, why)
        status["store"] = {"scope": "ledger", "state": "down" if self._error else "ok", "error": self._error}
        self._last = now, status
        return status

    async def fleet(self) -> Fleet:
        """The ledger's state, and that nothing can be ordered."""
        state = "down" if self._error else "ok"
        return Fleet("ledger", state, self._error, None, 1, (), self.read_only)

    def order(self, action: Action, provider: str, actor: str, detail: str | None = None) -> None:
        """Nobody here could carry it out."""
        raise ActionRefused(READ_ONLY)

    def note_export(self, actor: str, detail: str) -> None:
        """Nothing is written from here."""

    async def _read(self, guard: Guard) -> list[tuple[str, str, str, str | None]]:
        """Fill the limits, and the last changes, oldest first: kind, provider, state, reason."""
        wall = guard.clock.wall()
        try:
            async with open_reader(self._url) as engine:
                async with engine.connect() as connection:
                    found = await read_usage(connection, usage_windows(guard), wall)
                restore_limits(guard, found, wall)
                guard.reporter.budget.restore(wall, found.month_cost, found.budget_levels)
                changes = await LedgerQueries(engine).transitions(RECENT)
        except ConfigError as error:
            self._error = "; ".join(error.problems)
            return []
        except Exception as error:  # noqa: BLE001 - the database's and the network's
            self._error = f"the ledger cannot be read: {reason(error)}"
            return []
        self._error = None
        return [(one.type, one.provider, one.after, one.reason) for one in reversed(changes)]


def _note(described: dict[str, Any] | None, kind: str, after: str, reason: str | None) -> None:
    if described is None:
        return
    if kind == "health":
        described["health"] = after
    elif kind == "breaker" and after in {state.value for state in BreakerState}:
        described["breaker"].update(state=after, reason=reason, next_probe_in=None)
