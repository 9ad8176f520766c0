"""Free loopback ports for servers that take theirs as an argument."""

from __future__ import annotations

import itertools
import os
import random
import socket
from contextlib import closing, suppress

HOST = "127.0.0.1"
# The kernel gives neither these nor those of cluster buses (10000 higher) to outgoing connections, which could take the
# port of a server that is killed or has yet to start, or even connect to themselves.
PORTS = range(12000, 22000)


def _candidates() -> list[int]:
    """The ports of this process: test processes that run side by side do not share any."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = list(PORTS[number % processes :: processes])
    random.Random().shuffle(own)  # a generator of its own: tests seed the shared one
    return own


_next = itertools.cycle(_candidates())


def free_port() -> int:
    """A loopback port without a listener, which is not returned again soon."""
    for port in _next:
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise AssertionError("the ports never end")
