"""The present from a guard in this process, which carries out actions too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.source import EXPORTED, Action, ActionRefused
from wallie_litellm.dashboard.view_model import Fleet, Worker
from wallie_litellm.guard import Guard
from wallie_litellm.guard.live_config import Reloaded


class GuardSource:
    """A guard in this process."""

    read_only: str | None = None

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._actions: dict[Action, Callable[..., None]] = {
            "reset_quota": guard.reset_quota,
            "close_circuit": guard.close_circuit,
            "open_circuit": guard.open_circuit,
            "release_circuit": guard.release_circuit,
        }

    async def status(self) -> Mapping[str, Any]:
        """The guard's own status."""
        return self._guard.status()

    async def limits(self) -> Mapping[str, Any]:
        """The guard's own limits."""
        return self._guard.limits()

    async def fleet(self) -> Fleet:
        """The guard's store, and the workers that share it where it is Redis."""
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

    def act(
        self, action: Action, provider: str, actor: str, detail: str | None = None, model: str | None = None
    ) -> None:
        """Pass the action to the guard.

        Raises:
            ValueError: there is no such provider, or no such model at it.
        """
        self._actions[action](provider, actor, detail, model=model)

    def switch(self, name: str, actor: str, detail: str | None = None, *, on: bool) -> None:
        """Pass the change of a switch to the guard.

        Raises:
            ValueError: there is no such switch.
        """
        self._guard.switch(name, on=on, actor=actor, detail=detail)

    def reload(self, actor: str, detail: str | None = None) -> Reloaded:
        """Have the guard do it, and those that share its store.

        Raises:
            ConfigError: the file cannot be used.
            ActionRefused: there is none.
        """
        if self._guard.live is None:
            raise ActionRefused("the guard was not opened from a file: there is none to reload")
        done = self._guard.reload(actor=actor, detail=detail)
        self._guard.announce_reload()
        return done

    def conclude_experiment(self, name: str, winner: str, actor: str, detail: str | None = None) -> None:
        """Pass it to the guard.

        Raises:
            AlreadyConcluded: it was concluded before.
            ValueError: there is no such experiment or arm.
        """
        self._guard.conclude_experiment(name, winner, actor, detail)

    def resume_arm(self, name: str, arm: str, actor: str, detail: str | None = None) -> None:
        """Pass it to the guard.

        Raises:
            ValueError: there is no such experiment or arm, or it is not stopped.
        """
        self._guard.resume_arm(name, arm, actor, detail)

    def feedback(self, request_id: str, value: float) -> None:
        """Pass it to the guard.

        Raises:
            ValueError: that is no request's id, or no value.
        """
        self._guard.feedback(request_id, value)

    def record_export(self, actor: str, detail: str) -> None:
        """Publish the export as an operator's action."""
        self._guard.reporter.on_action(actor, EXPORTED, "", detail)


async def fellow_workers(config: WallieConfig, here: str) -> list[Worker]:
    """The processes that share the store, from their entries in Redis; none while Redis cannot be read."""
    from wallie_litellm.limiter.redis.inspect import FleetUnreadable, inspect_fleet

    try:
        found = await inspect_fleet(config.store.url, [])
    except FleetUnreadable:
        return []
    return [
        Worker(name, about["pid"], about["host"] or "", about["age"], name == here)
        for name, about in found["workers"].items()
    ]
