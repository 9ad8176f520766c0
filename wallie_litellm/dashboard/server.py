"""The dashboard on a port of its own: beside an application, beside a fleet, at the end of the demo."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route

from wallie_litellm.config import RouterConfig, WallieConfig
from wallie_litellm.config.used_providers import used_providers
from wallie_litellm.core.loopback import is_loopback
from wallie_litellm.dashboard.app import Metrics, create_app
from wallie_litellm.dashboard.auth import Authenticator
from wallie_litellm.dashboard.guard_source import GuardSource
from wallie_litellm.dashboard.html import render_panels
from wallie_litellm.dashboard.ledger_source import LedgerSource
from wallie_litellm.dashboard.metrics import metrics_of
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.source import DashboardSource
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard import Guard
from wallie_litellm.guard.live_config import LiveConfig
from wallie_litellm.telemetry.bus import Bus

PREFIX: Final = "/wallie"
SHUTDOWN_POLL: Final = 0.1  # seconds between two checks whether the server is to end
SHUTDOWN_GRACE: Final = 2  # seconds that running requests have when the server ends

Tokens = Callable[[], Sequence[str]]


def dashboard_app(guard: Guard, *, tokens: Tokens | None = None, aside: bool = True) -> tuple[Any, DashboardService]:
    """The ASGI application that shows ``guard``, to be mounted anywhere, and its service, to be closed at the end.

    ``tokens`` returns the tokens that admit an operator: by default the configuration's ``admin_token``. ``aside`` has
    the page rendered in a process of its own while it has viewers, so that requests are not slowed.
    """
    own = tokens or tokens_of(guard.config)
    app, service = _application(GuardSource(guard), guard.config, own, metrics_of(guard), aside=aside)
    if guard.live is not None:
        guard.live.follow(service)
    return app, service


def whole_app(guard: Guard, *, tokens: Tokens | None = None, aside: bool = True) -> tuple[Starlette, DashboardService]:
    """An application that has :func:`dashboard_app` at ``/wallie`` and nothing else, and its service."""
    app, service = dashboard_app(guard, tokens=tokens, aside=aside)
    return _mounted(app), service


def _mounted(app: Any) -> Starlette:
    async def to_the_page(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{PREFIX}/")

    return Starlette(routes=[Route("/", to_the_page), Route(PREFIX, to_the_page), Mount(PREFIX, app=app)])


def tokens_of(config: WallieConfig) -> Tokens:
    """The configured token, if there is one."""
    token = config.admin_token.get_secret_value() if config.admin_token is not None else ""
    return lambda: [token] if token else []


async def serve_guard(
    guard: Guard, host: str, port: int, *, tokens: Tokens | None = None, ready: Callable[[str], object]
) -> None:
    """Serve ``guard``'s dashboard until cancelled or interrupted; ``ready`` gets the address once it listens.

    Raises:
        ConfigError: the port cannot be had.
    """
    await _serve(*whole_app(guard, tokens=tokens), host, port, ready)


async def serve_config(loaded: RouterConfig, host: str, port: int, *, ready: Callable[[str], object]) -> None:
    """Serve the dashboard of applications that run elsewhere with the same configuration.

    With a store in Redis a guard of its own joins the fleet, takes no capacity, and passes actions on. Without, the
    present is derived from the ledger, and no actions are taken.

    Raises:
        ConfigError: the port cannot be had, there is neither Redis nor a ledger, or it would be open to the network.
    """
    config = loaded.wallie
    tokens = tokens_of(config)
    if not tokens() and not is_loopback(host):
        raise ConfigError([f"WALLIE_ADMIN_TOKEN is not set: without a token the dashboard may not listen on {host}"])
    if config.store.url != "memory":
        await _serve_fleet(loaded, tokens, host, port, ready)
        return
    if config.ledger is None:
        raise ConfigError(
            [
                "wallie.ledger: without a ledger and without Redis (wallie.store.url) there is nothing to show from "
                "outside of the application; mount wallie_litellm.dashboard.server.dashboard_app(router.guard) in it"
            ]
        )
    source = LedgerSource(config, config.ledger, used_providers(loaded))
    app, service = _application(source, config, tokens, None, aside=False)
    await _serve(_mounted(app), service, host, port, ready)


async def _serve_fleet(
    loaded: RouterConfig, tokens: Tokens, host: str, port: int, ready: Callable[[str], object]
) -> None:
    from wallie_litellm.bootstrap import ledger_sink

    config, bus = loaded.wallie, Bus()
    guard = Guard(config, bus=bus, others_announce=True)
    guard.live = LiveConfig(loaded, guard.clock.wall)
    guard.reload_with_fleet()
    guard.reload_at_sighup()
    guard.call_only(used_providers(loaded))  # their state is the fleet's from now on
    try:
        if (make := ledger_sink(config)) is not None:  # actions go on record
            bus.add(make)
        await serve_guard(guard, host, port, tokens=tokens, ready=ready)
    finally:
        await guard.aclose()


def _application(
    source: DashboardSource, config: WallieConfig, tokens: Tokens, metrics: Metrics | None, *, aside: bool
) -> tuple[Any, DashboardService]:
    service = DashboardService(source, config, render=render_panels, aside=aside)
    return create_app(service, Authenticator(tokens), metrics=metrics), service


async def _serve(
    app: Starlette, service: DashboardService, host: str, port: int, ready: Callable[[str], object]
) -> None:
    listening = _listen(host, port)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=SHUTDOWN_GRACE
    )
    server = _Server(settings)
    shown = f"[{host}]" if ":" in host else host
    try:
        task = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no other sign of it
            await asyncio.sleep(0.02)
        if server.started and not server.should_exit:  # a signal may have closed the socket by then
            ready(f"http://{shown}:{listening.getsockname()[1]}{PREFIX}/")
        try:
            await _wait_for_end(server, task, service)
        except asyncio.CancelledError:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await _wait_for_end(server, task, service)
            raise
    finally:
        listening.close()
        service.close()


class _Server(uvicorn.Server):
    """Ends on a signal, but does not raise it again as uvicorn does: SIGTERM would end the process before it closes."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()


async def _wait_for_end(server: uvicorn.Server, task: asyncio.Future[None], service: DashboardService) -> None:
    """Wait for ``task``; once the server is to end, refreshes no longer wait for a change."""
    while not task.done():
        if server.should_exit:
            service.release_waiting()
        await asyncio.wait({task}, timeout=SHUTDOWN_POLL)
    await task


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ConfigError([f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}"]) from error
    return listening
