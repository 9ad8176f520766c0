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
from wallie_litellm.core.loopback import is_loopback
from wallie_litellm.dashboard.app import Metrics, create_app
from wallie_litellm.dashboard.auth import Authenticator
from wallie_litellm.dashboard.guard_source import DashboardSource, GuardSource
from wallie_litellm.dashboard.html import render_panels
from wallie_litellm.dashboard.ledger_source import LedgerSource
from wallie_litellm.dashboard.metrics import metrics_of
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard import Guard
from wallie_litellm.telemetry.bus import Bus

PREFIX: Final = "/wallie"
LOOK_EVERY: Final = 0.1  # seconds between two looks whether the server is to end
GRACE: Final = 2  # seconds that requests under way have at the end

Tokens = Callable[[], Sequence[str]]


def dashboard_app(guard: Guard, *, tokens: Tokens | None = None, aside: bool = True) -> tuple[Any, DashboardService]:
    """The ASGI application that shows ``guard``, to be mounted anywhere, and what to close when it ends.

    ``tokens`` says which tokens let an operator in: by default the configuration's ``admin_token``. ``aside`` has the
    page drawn in a process of its own while somebody looks, so that requests are not slowed.
    """
    own = tokens or tokens_of(guard.config)
    return _application(GuardSource(guard), guard.config, own, metrics_of(guard), aside=aside)


def whole_app(guard: Guard, *, tokens: Tokens | None = None, aside: bool = True) -> tuple[Starlette, DashboardService]:
    """:func:`dashboard_app` where it belongs, at ``/wallie``, and nothing else."""
    app, desk = dashboard_app(guard, tokens=tokens, aside=aside)
    return _alone(app), desk


def _alone(app: Any) -> Starlette:
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
    """Serve ``guard``'s dashboard until cancelled or interrupted; ``ready`` is told the address once it listens.

    Raises:
        ConfigError: the port cannot be had.
    """
    await _serve(*whole_app(guard, tokens=tokens), host, port, ready)


async def serve_config(loaded: RouterConfig, host: str, port: int, *, ready: Callable[[str], object]) -> None:
    """Serve the dashboard of applications that run elsewhere with the same configuration.

    With a store in Redis a guard of its own joins the fleet, takes no capacity, and hands on orders. Without, what the
    ledger knows is shown, and nothing can be ordered.

    Raises:
        ConfigError: the port cannot be had, there is neither Redis nor a ledger, or it would be open to the network.
    """
    config = loaded.wallie
    tokens = tokens_of(config)
    if not tokens() and not is_loopback(host):
        raise ConfigError([f"WALLIE_ADMIN_TOKEN is not set: without a token the dashboard may not listen on {host}"])
    if config.store.url != "memory":
        from wallie_litellm.bootstrap import ledger_sink

        bus = Bus()
        guard = Guard(config, bus=bus, others_announce=True)
        try:
            if (make := ledger_sink(config)) is not None:  # orders go on record
                bus.add(make)
            await serve_guard(guard, host, port, tokens=tokens, ready=ready)
        finally:
            await guard.aclose()
        return
    if config.ledger is None:
        raise ConfigError(
            [
                "wallie.ledger: without a ledger and without Redis (wallie.store.url) there is nothing to show from "
                "outside of the application; mount wallie_litellm.dashboard.server.dashboard_app(router.guard) in it"
            ]
        )
    source = LedgerSource(config)
    app, desk = _application(source, config, tokens, None, aside=False)
    await _serve(_alone(app), desk, host, port, ready)


def _application(
    source: DashboardSource, config: WallieConfig, tokens: Tokens, metrics: Metrics | None, *, aside: bool
) -> tuple[Any, DashboardService]:
    desk = DashboardService(source, config, render=render_panels, aside=aside)
    return create_app(desk, Authenticator(tokens), metrics=metrics), desk


async def _serve(app: Starlette, desk: DashboardService, host: str, port: int, ready: Callable[[str], object]) -> None:
    listening = _listen(host, port)
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE
    )
    server = _Server(settings)
    shown = f"[{host}]" if ":" in host else host
    try:
        task = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.02)
        if server.started:
            ready(f"http://{shown}:{listening.getsockname()[1]}{PREFIX}/")
        try:
            await _until_it_ends(server, task, desk)
        except asyncio.CancelledError:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await _until_it_ends(server, task, desk)
            raise
    finally:
        listening.close()
        desk.close()


class _Server(uvicorn.Server):
    """Ends on a signal as usual, but leaves it at that: uvicorn would raise it again, and SIGTERM end us at once."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()


async def _until_it_ends(server: uvicorn.Server, task: asyncio.Future[None], desk: DashboardService) -> None:
    """Wait for ``task``; once the server is to end, nobody's refresh is held back any more."""
    while not task.done():
        if server.should_exit:
            desk.release_waiting()
        await asyncio.wait({task}, timeout=LOOK_EVERY)
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
