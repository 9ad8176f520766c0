"""A port of 127.0.0.1 that can refuse connections for a while, as that of a crashed process would."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from wallie_litellm.simulator.listener import Listener
from wallie_litellm.simulator.settings import HOST


class RefusablePort:
    """Where ``runner`` is listened for. Everything but the constructor runs on the loop, once the runner is set up."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._listener: Listener | None = None
        self._held: socket.socket | None = None
        self.number = 0

    def open(self, number: int = 0) -> None:
        """Listen on port ``number``; 0 is a free one."""
        self._listen(bound_socket(number))

    async def refuse(self) -> None:
        """Refuse connections, and drop those that exist."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        await listener.close()
        # Bound but not listening: connections are refused, and no other program gets the port meanwhile.
        self._held = bound_socket(self.number)
        await self._drop_connections()

    def accept(self) -> None:
        """Listen again, on the same port."""
        held, self._held = self._held, None
        if held is not None:
            self._listen(held)

    async def close(self) -> None:
        """Let go of the port and of every connection."""
        if self._listener is not None:
            await self._listener.close()
        if self._held is not None:
            self._held.close()
        await self._drop_connections()

    def _listen(self, sock: socket.socket) -> None:
        if self._runner.server is None:
            raise RuntimeError("the runner is not set up")
        self.number = sock.getsockname()[1]
        self._listener = Listener(sock, self._runner.server)

    async def _drop_connections(self) -> None:
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn


def bound_socket(number: int) -> socket.socket:
    """A non-blocking socket on port ``number`` of 127.0.0.1, not listening yet.

    Raises:
        OSError: the port cannot be had.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    try:
        sock.bind((HOST, number))
    except OSError:
        sock.close()
        raise
    return sock
