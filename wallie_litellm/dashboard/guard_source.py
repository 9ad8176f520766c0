"""Where the dashboard learns of the present, and to whom it hands orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, get_args

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.view_model import Fleet, Worker
from wallie_litellm.guard import Guard

Action = Literal["reset_quota", "close_circuit", "open_circuit", "release_circuit"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)


EXPORTED: Final = "export_csv"
"""What an export is called on record, beside the orders."""


class ActionRefused(Exception):  # noqa: N818 - it says what happened
    """Nothing can be ordered from here; the message says why, and what to do instead."""


class DashboardSource(Protocol):
    """A guard, or what can be known of guards elsewhere. It is asked in the desk's event loop."""

    @property
    def read_only(self) -> str | None:
        """Why nothing can be ordered from here, if so."""

    async def status(self) -> Mapping[str, Any]:
        """As :meth:`~wallie_litellm.guard.Guard.status`."""

    async def fleet(self) -> Fleet:
        """Who keeps the limits."""

    def order(self, action: Action, provider: str, actor: str, detail: str | None = None) -> None:
        """Do it, on record as ordered by ``actor``.

        Raises:
            ValueError: there is no such provider.
            ActionRefused: see :attr:`read_only`.
        """

    def note_export(self, actor: str, detail: str) -> None:
        """Put on record who has exported what, if anything can be put there from here."""


class GuardSource:
    """A guard in this process."""

    read_only: str | None = None

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._orders: dict[Action, Callable[[str, str, str | None], None]] = {
            "reset_quota": guard.reset_quota,
            "close_circuit": guard.close_circuit,
            "open_circuit": guard.open_circuit,
            "release_circuit": guard.release_circuit,
        }

    async def status(self) -> Mapping[str, Any]:
        """As the guard says."""
        return self._guard.status()

    async def fleet(self) -> Fleet:
        """The guard's store, and who else shares it."""
        store: Mapping[str, Any] = self._guard.status()["store"]
        if store["scope"] != "redis":
            return Fleet("process", store["state"], None, None, store["processes"], (), self.read_only)
        workers = await fellow_workers(self._guard.config, store["worker"]) if store["state"] == "ok" else []
        return Fleet(
            "redis",
            store["state"],
            store["error"],
            store["on_store_error"],
            store["workers"],
            workers,
            self.read_only,
        )

    def order(self, action: Action, provider: str, actor: str, detail: str | None = None) -> None:
        """Hand the order to the guard."""
        self._orders[action](provider, actor, detail)

    def note_export(self, actor: str, detail: str) -> None:
        """As an order is."""
        self._guard.reporter.on_action(actor, EXPORTED, "", detail)


async def fellow_workers(config: WallieConfig, here: str) -> list[Worker]:
    """The processes that share the store, as Redis knows them; none while it cannot be read."""
    from wallie_litellm.limiter.redis.inspect import FleetUnreadable, inspect_fleet

    try:
        found = await inspect_fleet(config.store.url, [])
    except FleetUnreadable:
        return []
    return [
        Worker(name, about["pid"], about["host"] or "", about["age"], name == here)
        for name, about in found["workers"].items()
    ]
