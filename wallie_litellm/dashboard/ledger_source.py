"""The present as derived from a ledger: for applications whose limits are in their own memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wallie_litellm.bootstrap import model_patterns, restore_limits, usage_windows
from wallie_litellm.config import WallieConfig
from wallie_litellm.config.models import LedgerSettings
from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.demand import NOTHING
from wallie_litellm.core.destinations import Destination
from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.core.provider_names import ACCOUNT_MARK
from wallie_litellm.dashboard.source import Action, ActionRefused
from wallie_litellm.dashboard.view_model import Fleet
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard import Guard
from wallie_litellm.guard.live_config import Reloaded
from wallie_litellm.ledger.figures import Transition
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.reader import open_reader, reason
from wallie_litellm.ledger.restore import read_usage
from wallie_litellm.ledger.spending import SpendingReader
from wallie_litellm.telemetry.bus import Bus

READ_ONLY: Final = (
    "the limits are in the application's own memory, and what is shown is derived from its ledger; to take actions, "
    "share the limits through WALLIE_REDIS_URL, or mount the dashboard in the application"
)
RECENT: Final = 500  # changes of breakers and health, the latest of each provider among them is shown
LATELY: Final = 300.0  # seconds in which a provider that was called, and has served nothing, is degraded
READ_TIMEOUT: Final = 5.0  # seconds, for what was spent
FRESH_FOR: Final = 1.0  # seconds, how long one answer is reused


class LedgerSource:
    """Limits from the sums of the ledger's records, breakers and health from their last recorded change.

    Calls in flight and waiting are not on record, and neither is a breaker's next probe. ``ledger`` is the ledger of
    ``config``, which the caller has found to be configured; ``used`` are the providers that the file's models name.
    """

    read_only: str | None = READ_ONLY

    def __init__(self, config: WallieConfig, ledger: LedgerSettings, used: Sequence[Destination] = ()) -> None:
        self._config = config.model_copy(update={"store": config.store.model_copy(update={"url": "memory"})})
        self._url = ledger.url
        self._used = used
        self._error: str | None = None
        self._last: tuple[float, Mapping[str, Any]] = (float("-inf"), {})
        self._limits: Mapping[str, Any] = {}

    async def status(self) -> Mapping[str, Any]:
        """The status of a guard that was filled from the ledger alone."""
        now = time.monotonic()
        if now - self._last[0] < FRESH_FOR:
            return self._last[1]
        # A guard that admits no calls: only its arithmetic of limits is used.
        guard = Guard(self._config, bus=Bus())
        try:
            guard.call_only(self._used)
            changes, unserved = await self._read(guard)
            status, self._limits = guard.status(), guard.limits()
        finally:
            guard.close()
        for described in (*status["providers"].values(), *status["features"].values()):
            _forget_present(described)
        for change in changes:
            name, _, digest = change.provider.partition(ACCOUNT_MARK)
            described = status["providers"].get(name)
            _apply_change(described and described.get("accounts", {}).get(digest) if digest else described, change)
        for provider in unserved:
            described = status["providers"].get(provider)
            if described is not None and described["health"] == "healthy":
                described["health"] = "degraded"
        status["routing"]["switches"] = {}  # which are off is not on record
        status["store"] = {"scope": "ledger", "state": "down" if self._error else "ok", "error": self._error}
        self._last = now, status
        return status

    async def limits(self) -> Mapping[str, Any]:
        """The configured limits and what the records use of them; what vendors say is not on record."""
        await self.status()
        return self._limits

    async def fleet(self) -> Fleet:
        """The ledger's state; no workers, since a ledger does not list them."""
        state = "down" if self._error else "ok"
        return Fleet("ledger", state, self._error, None, 1, (), self.read_only)

    def act(
        self, action: Action, provider: str, actor: str, detail: str | None = None, model: str | None = None
    ) -> None:
        """Refuse: the guard is in another process.

        Raises:
            ActionRefused: always.
        """
        raise ActionRefused(READ_ONLY)

    def switch(self, name: str, actor: str, detail: str | None = None, *, on: bool) -> None:
        """Refuse: the guard is in another process.

        Raises:
            ActionRefused: always.
        """
        raise ActionRefused(READ_ONLY)

    def reload(self, actor: str, detail: str | None = None) -> Reloaded:
        """Refuse: the guard is in another process.

        Raises:
            ActionRefused: always.
        """
        raise ActionRefused(READ_ONLY)

    def conclude_experiment(self, name: str, winner: str, actor: str, detail: str | None = None) -> None:
        """Refuse: `wallie-litellm experiments conclude` writes it into the ledger.

        Raises:
            ActionRefused: always.
        """
        raise ActionRefused(READ_ONLY)

    def resume_arm(self, name: str, arm: str, actor: str, detail: str | None = None) -> None:
        """Refuse: `wallie-litellm experiments resume` writes it into the ledger.

        Raises:
            ActionRefused: always.
        """
        raise ActionRefused(READ_ONLY)

    def feedback(self, request_id: str, value: float) -> None:
        """Refuse: this process only reads the ledger.

        Raises:
            ActionRefused: always.
        """
        raise ActionRefused(READ_ONLY)

    def record_export(self, actor: str, detail: str) -> None:
        """Do nothing: this process only reads the ledger."""

    async def _read(self, guard: Guard) -> tuple[list[Transition], set[str]]:
        """Fill the guard's limits.

        Returns the last changes, oldest first; and the providers that have been called lately and have served nothing.
        """
        wall = guard.clock.wall()
        try:
            async with open_reader(self._url) as engine:
                async with engine.connect() as connection:
                    found = await read_usage(connection, usage_windows(guard), wall, model_patterns(guard))
                for name, charged in found.day.items():
                    if charged != NOTHING and not name.startswith(FEATURE):
                        guard.limiter(name)  # it is used, whatever the models of the file are
                restore_limits(guard, found, wall)
                guard.reporter.budget.restore(wall, found.month_cost, found.budget_levels)
                if guard.budgets:
                    await asyncio.to_thread(guard.budgets.begin, SpendingReader(self._url, READ_TIMEOUT))
                queries = LedgerQueries(engine)
                changes = await queries.transitions(RECENT)
                lately = await queries.totals(wall - LATELY, by=("provider",), percentiles=False)
        except ConfigError as error:
            self._error = "; ".join(error.problems)
            return [], set()
        except Exception as error:  # noqa: BLE001 - the database's and the network's
            self._error = f"the ledger cannot be read: {reason(error)}"
            return [], set()
        self._error = None
        unserved = {one.provider or "" for one in lately if one.attempts > one.by_caller and not one.successes}
        return changes[::-1], unserved


def _forget_present(described: dict[str, Any]) -> None:
    """What a ledger cannot tell is unknown."""
    described["in_flight"] = described["waiting"] = None
    described["quota"].pop("concurrency", None)
    for account in described.get("accounts", {}).values():
        account["in_flight"] = account["waiting"] = None
    for model in described.get("models", {}).values():
        model["waiting"] = None
        model.get("quota", {}).pop("concurrency", None)


def _apply_change(described: dict[str, Any] | None, change: Transition) -> None:
    if described is None:
        return
    if change.model:
        described = described.setdefault("models", {}).setdefault(change.model, {"paused_for": 0.0, "waiting": None})
    if change.type == "health":
        described["health"] = change.after
    elif change.type == "breaker" and change.after in {state.value for state in BreakerState}:
        known = described.setdefault("breaker", {"consecutive_failures": 0})
        known.update(state=change.after, reason=change.reason, next_probe_in=None)
