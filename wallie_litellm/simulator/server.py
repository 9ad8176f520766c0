"""One simulated provider as an HTTP server on 127.0.0.1, also as a process: ``python -m`` this module.

The process prints its ports as one JSON line and ends when its standard input closes, so it never
outlives the program that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from aiohttp import web

from wallie_litellm.simulator.control import control_routes
from wallie_litellm.simulator.engine import Engine
from wallie_litellm.simulator.refusable_port import RefusablePort, bound_socket
from wallie_litellm.simulator.settings import Ports, ProviderSettings

_MAX_BODY: Final = 64 * 2**20  # bytes of a request
_STOP_GRACE: Final = 0.05  # seconds for open requests when the server stops


class SimulatedServer:
    """The listening sockets of one provider."""

    def __init__(self, settings: ProviderSettings, engine: type[Engine] = Engine) -> None:
        self.engine = engine(settings)
        self._wanted_port = settings.port
        self._model = self._runner(with_models=True)
        self._control = self._runner(with_models=False)
        self._port = RefusablePort(self._model)

    def _runner(self, *, with_models: bool) -> web.AppRunner:
        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(control_routes(self.engine, self.refuse, self.accept))
        if with_models:
            app.router.add_post("/{path:.*}", self.engine.handle)
        # Cancelling a handler when its client leaves is what makes "disconnected" countable.
        return web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_STOP_GRACE)

    async def start(self) -> Ports:
        """Listen on both ports."""
        await self._model.setup()
        await self._control.setup()
        self._port.open(self._wanted_port)
        control = bound_socket(0)
        await web.SockSite(self._control, control).start()
        return Ports(self._port.number, control.getsockname()[1])

    async def refuse(self) -> None:
        """Stop listening and drop every model connection, as a crashed process would."""
        await self._port.refuse()

    async def accept(self) -> None:
        """Listen again on the same port."""
        self._port.accept()

    async def stop(self) -> None:
        """Close everything, hanging requests included."""
        await self._port.close()
        await self._model.cleanup()
        await self._control.cleanup()
        await asyncio.sleep(0)


async def serve(settings: ProviderSettings, ready: Callable[[Ports], None], stop: asyncio.Event) -> None:
    """Run one provider until ``stop`` is set."""
    server = SimulatedServer(settings)
    try:
        ready(await server.start())
        await stop.wait()
    finally:
        await server.stop()


async def _serve_until_stdin_closes(settings: ProviderSettings) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    def announce(ports: Ports) -> None:
        sys.stdout.write(json.dumps(asdict(ports)) + "\n")
        sys.stdout.flush()

    threading.Thread(target=watch, daemon=True).start()
    await serve(settings, announce, stop)


def main(arguments: list[str] | None = None) -> None:
    """The command line of the process."""
    parser = argparse.ArgumentParser(prog="python -m wallie_litellm.simulator.server", description=__doc__)
    parser.add_argument("settings", type=json.loads, help="the fields of ProviderSettings, as a JSON object")
    settings = parser.parse_args(arguments).settings
    asyncio.run(_serve_until_stdin_closes(ProviderSettings(**{"vendor": settings.get("name"), **settings})))


if __name__ == "__main__":
    main()
