"""A listening socket that can be closed without losing a connection that is just being accepted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

_BACKLOG: Final = 1024  # connections that wait to be accepted


class Listener:
    """Accepts connections on a bound, non-blocking socket and hands them to a protocol factory.

    ``asyncio.Server`` is not used: closed at the wrong moment, it drops an accepted connection without
    closing it, and that client would wait for ever instead of being refused.
    """

    def __init__(self, sock: socket.socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._sock = sock
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[None]] = set()
        sock.listen(_BACKLOG)
        self._loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_BACKLOG):
            try:
                connection, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(connection))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:
            connection.close()

    async def close(self) -> None:
        """Accept no more, and wait until every accepted connection has its protocol."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        await asyncio.gather(*self._starting, return_exceptions=True)
