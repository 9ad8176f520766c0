"""The control routes under ``/_sim/``: the same for a provider in a thread and in its own process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from wallie_litellm.simulator.engine import Engine
from wallie_litellm.simulator.faults import Fault

Action = Callable[[], Awaitable[None]]


def control_routes(engine: Engine, refuse: Action, accept: Action) -> list[web.RouteDef]:
    """GET counts and bodies, GET/POST/DELETE faults, POST reset, refuse and accept."""

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(engine.tally.to_json())

    async def bodies(_: web.Request) -> web.Response:
        return web.json_response(list(engine.tally.bodies))

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

    def does(action: Action) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(_: web.Request) -> web.Response:
            await action()
            return web.json_response({})

        return handler

    async def reset() -> None:
        engine.reset()

    return [
        web.get("/_sim/counts", counts),
        web.get("/_sim/bodies", bodies),
        web.get("/_sim/faults", list_faults),
        web.post("/_sim/faults", add_fault),
        web.delete("/_sim/faults", clear_faults),
        web.post("/_sim/reset", does(reset)),
        web.post("/_sim/refuse", does(refuse)),
        web.post("/_sim/accept", does(accept)),
    ]
