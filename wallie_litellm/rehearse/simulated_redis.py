"""A Redis of a rehearsal: Redis' wire format over a real socket, in the event loop that the rehearsal runs in.

It has the commands that a fleet's workers send, and keeps to the loop's time. The exchange script is not run: its twin
is asked, ``core/lease_server.py``, which gives the same answers; a test drives both alike.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from hiredis import Reader

from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.redis.layout import SCRIPT, SCRIPT_ID, WRITE_TRIAL_SCRIPT
from wallie_litellm.simulator.settings import HOST

_CHUNK: Final = 65_536  # bytes of one read
_OK: Final = b"+OK\r\n"

Words = list[bytes]


def _text(text: str) -> bytes:
    return f"+{text}\r\n".encode()


def _number(number: int) -> bytes:
    return b":%d\r\n" % number


def _bulk(value: str | bytes | None) -> bytes:
    if value is None:
        return b"$-1\r\n"
    data = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _array(*values: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(values), b"".join(values))


class SimulatedRedis:
    """Listens at ``url`` from :meth:`start` on; from :meth:`leave` to :meth:`come_back` it is away, with its data."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._coming: asyncio.Future[None] | None = None  # kept, or it would be collected
        self._clients: set[asyncio.StreamWriter] = set()
        self._subscribers: dict[bytes, set[asyncio.StreamWriter]] = defaultdict(set)
        self._lease_servers: defaultdict[bytes, LeaseServer] = defaultdict(LeaseServer)
        self._strings: dict[bytes, tuple[bytes, float]] = {}  # with the Unix time at which they expire
        self._hashes: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        self._sets: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._commands: Mapping[bytes, Callable[[Words], bytes]] = {
            b"PING": lambda _: _text("PONG"),
            b"SELECT": lambda _: _OK,
            b"CLIENT": lambda _: _OK,
            b"EXPIRE": lambda _: _number(1),  # a rehearsal is shorter than what it is asked for
            b"EVAL": self._eval,
            b"EVALSHA": self._eval,
            b"PUBLISH": lambda words: _number(self._publish(words[0], words[1])),
            b"SET": self._set,
            b"GET": lambda words: _bulk(self._string(words[0])),
            b"INCR": self._incr,
            b"HSET": self._hset,
            b"HDEL": lambda words: _number(sum(self._hashes[words[0]].pop(one, None) is not None for one in words[1:])),
            b"HKEYS": lambda words: _array(*map(_bulk, self._hashes[words[0]])),
            b"HGETALL": lambda words: _array(*(_bulk(one) for pair in self._hashes[words[0]].items() for one in pair)),
            b"SADD": self._sadd,
            b"SREM": self._srem,
            b"SMEMBERS": lambda words: _array(*map(_bulk, sorted(self._sets[words[0]]))),
        }

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"redis://{HOST}:{self.port}/0"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def leave(self) -> None:
        """Drop all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._clients):
            writer.transport.abort()

    def come_back(self) -> None:
        """Listen again at the same address, with all that there was."""
        self._coming = asyncio.ensure_future(self.start())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        parser = Reader()
        try:
            while data := await reader.read(_CHUNK):
                parser.feed(data)
                while (words := parser.gets()) is not False:
                    writer.write(self._answer(words, writer))
        except ConnectionError:
            pass  # the client is gone, or this server is away
        finally:
            self._clients.discard(writer)
            for subscribed in self._subscribers.values():
                subscribed.discard(writer)
            writer.close()

    def _answer(self, words: Words, writer: asyncio.StreamWriter) -> bytes:
        name = words[0].upper()
        if name == b"SUBSCRIBE":
            self._subscribers[words[1]].add(writer)
            return _array(_bulk(b"subscribe"), _bulk(words[1]), _number(1))
        command = self._commands.get(name)
        return f"-ERR unknown command '{name.decode()}'\r\n".encode() if command is None else command(words[1:])

    def _publish(self, channel: bytes, message: bytes) -> int:
        found = self._subscribers[channel]
        for writer in sorted(found, key=lambda one: one.get_extra_info("peername")):
            writer.write(_array(_bulk(b"message"), _bulk(channel), _bulk(message)))
        return len(found)

    def _eval(self, words: Words) -> bytes:
        """The exchange, or the trial whether a script may write."""
        script, _, key, *arguments = words
        if script.decode() == WRITE_TRIAL_SCRIPT:
            return _OK
        if script.decode() not in (SCRIPT, SCRIPT_ID):
            return b"-NOSCRIPT the simulated Redis has the exchange of limits alone\r\n"
        request = json.loads(arguments[0])
        if "worker" not in request:  # only the version is in question
            return _bulk(json.dumps({"initialised": False}))
        answer: Mapping[str, Any] = self._lease_servers[key].exchange(time.time(), request)
        if answer.get("broadcast"):
            self._publish(arguments[1], f"{request['worker']} {arguments[2].decode()}".encode())
        return _bulk(json.dumps(answer))

    def _string(self, key: bytes) -> bytes | None:
        value, expires_at = self._strings.get(key, (None, 0.0))
        return value if time.time() < expires_at else None

    def _set(self, words: Words) -> bytes:
        """``SET key value [NX] [PX milliseconds]``."""
        key, value, *rest = words
        options = [one.upper() for one in rest]
        if b"NX" in options and self._string(key) is not None:
            return _bulk(None)
        lasts = int(options[options.index(b"PX") + 1]) / 1000 if b"PX" in options else float("inf")
        self._strings[key] = (value, time.time() + lasts)
        return _OK

    def _incr(self, words: Words) -> bytes:
        number = int(self._string(words[0]) or 0) + 1
        self._strings[words[0]] = (b"%d" % number, float("inf"))
        return _number(number)

    def _hset(self, words: Words) -> bytes:
        key, *pairs = words
        added = dict(zip(pairs[::2], pairs[1::2], strict=True))
        new = len(added.keys() - self._hashes[key].keys())
        self._hashes[key].update(added)
        return _number(new)

    def _sadd(self, words: Words) -> bytes:
        new = set(words[1:]) - self._sets[words[0]]
        self._sets[words[0]] |= new
        return _number(len(new))

    def _srem(self, words: Words) -> bytes:
        gone = set(words[1:]) & self._sets[words[0]]
        self._sets[words[0]] -= gone
        return _number(len(gone))
