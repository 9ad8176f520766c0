"""The control routes under ``/_sim/``: the same for a provider in a thread and in its own process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from wallie_litellm.simulator.engine import Engine
from wallie_litellm.simulator.faults import Fault
from wallie_litellm.simulator.limits import ACCOUNT, Charge
from wallie_litellm.simulator.settings import check_limits

Action = Callable[[], Awaitable[None]]


def control_routes(engine: Engine, refuse: Action, accept: Action) -> list[web.RouteDef]:
    """GET counts, bodies, visits, GET/POST/DELETE faults, GET/POST limits, POST reset, restore, refuse and accept."""

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(engine.tally.to_json())

    async def bodies(_: web.Request) -> web.Response:
        return web.json_response(list(engine.tally.bodies))

    async def visits(_: web.Request) -> web.Response:
        return web.json_response([asdict(visit.record()) for visit in engine.tally.visits])

    async def list_faults(_: web.Request) -> web.Response:
        return web.json_response(engine.faults.list())

    async def add_fault(request: web.Request) -> web.Response:
        data: Any = None
        try:
            data = await request.json()
            engine.faults.add(Fault.from_json(data))
        except (TypeError, ValueError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(engine.faults.list())

    async def clear_faults(_: web.Request) -> web.Response:
        engine.faults.clear()
        return web.json_response([])

    async def limits(request: web.Request) -> web.Response:
        meters = engine.limits.meters(request.query.get("model", ""))
        return web.json_response({name: meter._asdict() for name, meter in meters.items()})

    async def change_limits(request: web.Request) -> web.Response:
        """Another tier (``limits``, for the models of ``pattern``), or a second client (``uses``, of ``model``)."""
        try:
            data: dict[str, Any] = await request.json()
            if "limits" in data:
                check_limits(data["limits"], "limits")
                engine.limits.change(data["limits"], str(data.get("pattern", ACCOUNT)))
            if "uses" in data:
                engine.limits.share(Charge(**data["uses"]), str(data.get("model", "")))
        except (TypeError, ValueError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    def does(action: Action) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(_: web.Request) -> web.Response:
            await action()
            return web.json_response({})

        return handler

    async def reset() -> None:
        engine.reset()

    async def restore() -> None:
        engine.faults.clear()
        engine.reset()
        await accept()

    return [
        web.get("/_sim/counts", counts),
        web.get("/_sim/bodies", bodies),
        web.get("/_sim/visits", visits),
        web.get("/_sim/faults", list_faults),
        web.post("/_sim/faults", add_fault),
        web.delete("/_sim/faults", clear_faults),
        web.get("/_sim/limits", limits),
        web.post("/_sim/limits", change_limits),
        web.post("/_sim/reset", does(reset)),
        web.post("/_sim/restore", does(restore)),
        web.post("/_sim/refuse", does(refuse)),
        web.post("/_sim/accept", does(accept)),
    ]
