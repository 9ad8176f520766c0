"""The processes that share a guard's limits through the store of its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wallie_litellm.budgets.budgets import Budgets
from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.config.models import StoreSettings
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.routing.switches import Switches

if TYPE_CHECKING:
    from wallie_litellm.limiter.redis.fleet import RedisFleet


def join_fleet(
    store: StoreSettings, switches: Switches, given: RedisFleet | None, *, others_announce: bool
) -> RedisFleet | None:
    """The processes that share the store's Redis, and ``switches``; or ``None`` for a process on its own.

    ``given`` are those of another store, in its place.

    Raises:
        ConfigError: Redis' client is not installed.
    """
    fleet = given
    if fleet is None:
        if store.url == "memory":
            return None
        try:
            from wallie_litellm.limiter.redis.fleet import RedisFleet
        except ImportError as error:
            raise ConfigError(
                [f"wallie.store.url: {error.name} is not installed; install wallie-litellm[redis]"]
            ) from error
        fleet = RedisFleet(store, others_announce=others_announce)
    switches.share(fleet.switches.share(switches.take_in))
    return fleet


def store_status(fleet: RedisFleet | None, budgets: Budgets, processes: int) -> dict[str, Any]:
    """The store, as status reports show it; of a process on its own ``processes`` divide every limit.

    ``budgets`` has the state of their exchange with Redis, where there are any.
    """
    if fleet is None:
        return {"scope": "process", "state": "ok", "processes": processes}
    status, exchange = fleet.status(), budgets.store()
    return status if exchange is None else {**status, "budgets": exchange}


def open_budgets(config: WallieConfig, clock: Clock, reporter: Reporter, switches: Switches, processes: int) -> Budgets:
    """The budgets of ``config``, whose alerts ``reporter`` publishes."""
    return Budgets(config, clock, reporter.publish, reporter.once, lambda: switches.on("budgets"), processes)
