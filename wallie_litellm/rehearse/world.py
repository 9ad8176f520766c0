"""The world of a rehearsal: simulated providers in this event loop, and real routers of the file that call them.

Ledger, sinks, Redis and caches of the file are not in it: memory, and a simulated Redis, are in their place.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wallie_litellm.bootstrap import build_router
from wallie_litellm.clock import Clock
from wallie_litellm.config import ProviderLimits, RouterConfig, StoreSettings, TelemetrySettings, WallieConfig
from wallie_litellm.core.destinations import Destination
from wallie_litellm.core.dimensions import DIMENSIONS
from wallie_litellm.events import Event
from wallie_litellm.guard import Guard
from wallie_litellm.litellm_adapter.providers import Providers, vendor_of
from wallie_litellm.rehearse.answers import RehearsedEngine
from wallie_litellm.rehearse.plan import PlannedFault
from wallie_litellm.simulator.faults import Fault, FaultKind
from wallie_litellm.simulator.limits import LimitName
from wallie_litellm.simulator.server import SimulatedServer
from wallie_litellm.simulator.settings import HOST, WIRES, ProviderSettings
from wallie_litellm.telemetry.bus import Bus

if TYPE_CHECKING:
    from wallie_litellm.guard.router import WallieRouter
    from wallie_litellm.rehearse.fleet import LoopFleet, StoreChange
    from wallie_litellm.rehearse.simulated_redis import SimulatedRedis

STAND_IN: Final = "openai"  # whose wire format a vendor without a simulated one speaks
SLACK: Final = 2.0  # seconds of its rate that a provider allows beyond its limit, as the demo's
OUTAGE_STATUS: Final = 503
_SILENCE: Final = 86_400.0  # seconds that a silent provider takes, unless its client leaves
# Parameters of a deployment that say where it is and by which key: the simulated provider has its own.
_PLACES: Final = frozenset({"api_key", "api_base", "base_url", "litellm_credential_name", "organization"})
_PLACE_PREFIXES: Final = ("aws_", "vertex_", "azure_", "watsonx_", "gcs_", "s3_", "oci_", "tenant_", "client_")
# Settings of LiteLLM's Router that reach a Redis or a receiver of alerts.
_OUTSIDE: Final = frozenset({"cache_responses", "cache_kwargs", "alerting_config", "cache_url"})
_CHAT_MODES: Final = frozenset({"chat", "responses", "completion"})
_CACHES: Final = frozenset({"cache", "cache_params"})


class EventLog(Bus):
    """A bus that keeps every event, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.publish = self.events.append  # type: ignore[method-assign, assignment]


@dataclass(frozen=True)
class Deployed:
    """One deployment of the file: its group, LiteLLM's name of its model, and where it is called."""

    group: str
    model: str
    destination: Destination
    vendor: str
    entry: Mapping[str, Any]

    @property
    def provider(self) -> str:
        """The provider's name in this package."""
        return self.destination.provider

    @property
    def wire(self) -> str:
        """Whose wire format the simulated provider speaks."""
        return self.vendor if self.vendor in WIRES else STAND_IN


def deployments_of(config: RouterConfig, env: Mapping[str, str]) -> list[Deployed]:
    """The deployments of the file; needs LiteLLM, and the variables that say where they are."""
    providers = Providers(env)
    providers.learn(config.model_list)
    found = []
    for entry in config.model_list:
        params = entry["litellm_params"]
        model = str(params["model"])
        vendor = vendor_of(model, params) or model.partition("/")[0]
        found.append(Deployed(str(entry["model_name"]), model, providers.destination_of(entry), vendor, entry))
    return found


def rehearsed_config(config: RouterConfig, limits: Mapping[str, ProviderLimits]) -> RouterConfig:
    """The file without what reaches outside, and with these ``limits`` by provider."""
    own = {
        "providers": {**config.wallie.providers, **limits},
        "ledger": None,
        "telemetry": TelemetrySettings(),
        "store": StoreSettings(),
    }
    router = {name: value for name, value in config.router_settings.items() if not _reaches_outside(name)}
    general = {name: value for name, value in config.litellm_settings.items() if name not in _CACHES}
    return replace(
        config,
        wallie=config.wallie.model_copy(update=own),
        router_settings=router,
        litellm_settings=general,
        environment_variables={},
    )


def _reaches_outside(name: str) -> bool:
    return name in _OUTSIDE or name.startswith("redis")


def _limits_by_provider(wallie: WallieConfig, deployed: list[Deployed], *, limited: bool) -> dict[str, ProviderLimits]:
    return {one.provider: _limits_of(wallie, one.destination, limited=limited) for one in deployed}


def _limits_of(wallie: WallieConfig, destination: Destination, *, limited: bool) -> ProviderLimits:
    name = destination.provider
    found = wallie.providers.get(name) if destination.is_vendors_own else wallie.limits_elsewhere(name)
    found = found or ProviderLimits()
    if limited:
        return found
    nothing: dict[str, Any] = {**dict.fromkeys(DIMENSIONS), "models": {}, "burst": {}, "learn": "off"}
    return found.model_copy(update=nothing)


def chat_groups(deployed: list[Deployed]) -> list[str]:
    """The groups whose models answer chats, as far as LiteLLM knows them."""
    import litellm

    def mode(model: str) -> str:
        known = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
        return str(known.get("mode", "chat"))

    return list(dict.fromkeys(one.group for one in deployed if mode(one.model) in _CHAT_MODES))


class RehearsedWorker(NamedTuple):
    """A process of the fleet: its router, and that router's guard."""

    router: WallieRouter
    guard: Guard


class World:
    """Routers and the providers that they call, by name.

    ``stated`` are the limits that hold by the file, and ``limits`` those of this world: none where it is not
    ``limited``. Several ``workers`` share them through a simulated Redis.
    """

    def __init__(self, config: RouterConfig, deployed: list[Deployed], *, limited: bool, workers: int = 1) -> None:
        self.stated = _limits_by_provider(config.wallie, deployed, limited=True)
        self.limits = _limits_by_provider(config.wallie, deployed, limited=limited)
        self.config = rehearsed_config(config, self.limits)
        self.deployed = deployed
        self.log = EventLog()
        self.clock: Clock | None = None  # the machine's
        self._servers: dict[str, SimulatedServer] = {}
        self._bases: dict[str, str] = {}
        self._store = config.wallie.store
        self._redis: SimulatedRedis | None = None
        self._count = workers
        self.workers: list[RehearsedWorker] = []
        self.store_changes: list[StoreChange] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        """Providers that listen, and routers; all are closed at the end."""
        import litellm

        async with AsyncExitStack() as stack:
            for one in {one.provider: one for one in self.deployed}.values():
                server = SimulatedServer(self._settings_of(one), RehearsedEngine)
                ports = await server.start()
                stack.push_async_callback(server.stop)
                self._servers[one.provider] = server
                self._bases[one.provider] = f"http://{HOST}:{ports.model}{WIRES[one.wire].api_path}"
            stack.push_async_callback(litellm.close_litellm_async_clients)
            if self.clock is None:
                await self._warm_up()
            for fleet in await self._fleets(stack):
                self.workers.append(self._worker(fleet))
                stack.push_async_callback(self.workers[-1].guard.aclose)
            yield self

    async def _fleets(self, stack: AsyncExitStack) -> list[LoopFleet | None]:
        """What each worker shares the limits by."""
        if self._count == 1:
            return [None]
        from wallie_litellm.rehearse.fleet import LoopFleet  # Redis' client may not be installed
        from wallie_litellm.rehearse.simulated_redis import SimulatedRedis

        self._redis = SimulatedRedis()
        await self._redis.start()
        stack.callback(self._redis.leave)
        store = self._store.model_copy(update={"url": self._redis.url})
        return [LoopFleet(store, number, self.store_changes) for number in range(self._count)]

    def _worker(self, fleet: LoopFleet | None) -> RehearsedWorker:
        guard = Guard(self.config.wallie, clock=self.clock, bus=self.log, fleet=fleet)
        if self.workers:  # budgets are kept as by a Redis that is always there
            guard.budgets.spending = self.workers[0].guard.budgets.spending
        return RehearsedWorker(build_router(self.config, guard=guard, model_list=self._pointed()), guard)

    async def _warm_up(self) -> None:
        """A call of every group, by another router: with the first, LiteLLM loads its vendor's code."""
        guard, messages = Guard(self.config.wallie), [{"role": "user", "content": "hello"}]
        router = build_router(self.config, guard=guard, model_list=self._pointed())
        for group in dict.fromkeys(one.group for one in self.deployed):
            with suppress(Exception):  # whatever is wrong with it shows in the rehearsal
                await router.acompletion(group, messages)
                async for _ in await router.acompletion(group, messages, stream=True):
                    pass
        await guard.aclose()

    def engine(self, provider: str) -> RehearsedEngine:
        """The simulated provider behind a name."""
        engine = self._servers[provider].engine
        assert isinstance(engine, RehearsedEngine), "as it was made"  # noqa: S101 - narrows the type
        return engine

    def _shared_store(self) -> SimulatedRedis:
        assert self._redis is not None, "there are several workers"  # noqa: S101 - narrows the type
        return self._redis

    def _settings_of(self, one: Deployed) -> ProviderSettings:
        limits = self.limits[one.provider]
        own = {
            pattern.removeprefix(f"{one.vendor}/"): {str(name): amount for name, amount in limit.by_dimension().items()}
            for pattern, limit in limits.models.items()
        }
        stated: dict[str, Any] = {str(name): amount for name, amount in limits.by_dimension().items()}
        return ProviderSettings(name=one.provider, vendor=one.wire, models=own, slack=SLACK, **stated)  # type: ignore[arg-type]

    def _pointed(self) -> list[dict[str, Any]]:
        """The model list, with every address one of this machine and every key a stand-in for its account's."""
        return [self._pointed_at(one) for one in self.deployed]

    def _pointed_at(self, one: Deployed) -> dict[str, Any]:
        entry: dict[str, Any] = copy.deepcopy(dict(one.entry))
        given = {name: value for name, value in entry["litellm_params"].items() if not _is_place(name)}
        info = {**(entry.get("model_info") or {}), "wallie_provider": one.provider}
        if one.wire != one.vendor:
            given |= {"model": f"{STAND_IN}/{_without_vendor(one.model)}", "custom_llm_provider": STAND_IN}
            info = {"base_model": one.model, **info}  # whose price holds
        given |= {"api_base": self._bases[one.provider], "api_key": f"sk-rehearsed-{one.destination.account}"}
        return {**entry, "litellm_params": given, "model_info": info}

    # Faults

    def schedule(self, faults: tuple[PlannedFault, ...], begin: float) -> None:
        """Have ``faults`` come and go; ``begin`` is the loop's time at which the rehearsal begins."""
        loop = asyncio.get_running_loop()
        for fault in faults:
            loop.call_at(begin + fault.at, self._begin, fault)
            loop.call_at(begin + fault.ends, self._end, fault)

    def _begin(self, fault: PlannedFault) -> None:
        if fault.kind == "redis_away":
            self._shared_store().leave()
            return
        engine = self.engine(fault.provider)
        match fault.kind:
            case "outage":
                engine.faults.add(Fault(FaultKind.STATUS, status=OUTAGE_STATUS))
            case "silent":
                engine.faults.add(Fault(FaultKind.HANG, seconds=_SILENCE))
            case "slow":
                engine.slowness = fault.amount
            case "tier":
                self._change_limits(fault.provider, fault.amount)

    def _end(self, fault: PlannedFault) -> None:
        if fault.kind == "redis_away":
            self._shared_store().come_back()
            return
        engine = self.engine(fault.provider)
        match fault.kind:
            case "outage" | "silent":
                engine.faults.clear()
            case "slow":
                engine.slowness = 1.0
            case "tier":
                self._change_limits(fault.provider, 1.0)

    def _change_limits(self, provider: str, share: float) -> None:
        limits, engine = self.limits[provider], self.engine(provider)
        for pattern, own in {"": limits, **limits.models}.items():
            changed: dict[LimitName, int | None] = {
                name: max(1, math.floor(amount * share)) for name, amount in own.by_dimension().items()
            }
            engine.limits.change(changed, pattern.removeprefix(f"{provider.partition('/')[0]}/"))


def _without_vendor(model: str) -> str:
    return model.partition("/")[2] or model


def _is_place(name: str) -> bool:
    return name in _PLACES or name.startswith(_PLACE_PREFIXES)
