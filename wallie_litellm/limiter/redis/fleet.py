"""The lender in Redis: one thread that talks to it for all providers of a guard, so that no request has to.

Every provider's state is one key and every exchange one script. Who changes what others should know publishes the
provider's name; who hears it asks again. While Redis does not answer, each process lends to itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from wallie_litellm.limiter.redis.connection import Client, connect, reason_of

if TYPE_CHECKING:
    from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter

logger = logging.getLogger(__name__)

TIMEOUT = 0.25  # seconds that anything waits for Redis
SLICES = 5  # parts of a timeout, of which each has to pass
HEARTBEAT = 2.0  # seconds between two words to Redis about a provider, at most: news comes by itself
RECONNECT = 0.3  # seconds between two attempts
SPARE = 3  # connections besides one a provider
KEEP = 2 * 86_400  # seconds that the state of a provider nobody uses is kept: a day's counts, and a weekend's pause
LONG_AGO = 86_400.0  # seconds; clocks may differ
NEWS = "wallie:news"
WORKERS = "wallie:workers"
TRIAL = "return redis.call('SET', KEYS[1], '', 'PX', ARGV[1])"
_Result = TypeVar("_Result")
SCRIPT = files("wallie_litellm.limiter.redis").joinpath("lua", "exchange.lua").read_text()
SCRIPT_ID = sha1(SCRIPT.encode()).hexdigest()  # noqa: S324 - Redis' own name for a script


def key_of(name: str) -> str:
    """The key of a provider's state; what is in braces decides its place in a cluster."""
    return f"wallie:{{{name}}}:state"


async def within(seconds: float, work: Coroutine[Any, Any, _Result]) -> _Result:
    """What ``work`` returns, within ``seconds`` in which this thread could have taken it in.

    A process that gets no processor for a while finds all its timers due and the answer unread: holding that time
    against Redis would have it go on alone beside workers that Redis serves. So the time passes in parts, and a part
    during which everything stood still is only one of them.

    Raises:
        TimeoutError: there was no answer.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(SLICES):
            done, _ = await asyncio.wait((task,), timeout=seconds / SLICES)
            if done:
                return task.result()
        raise TimeoutError
    finally:
        task.cancel()


def new_worker() -> str:
    """A name for this process that no other has had."""
    return f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"


@dataclass
class _Exchanger:
    """One provider, and whether it is being talked about."""

    limiter: LeasedLimiter
    pending: bool = False
    busy: bool = False
    talked_at: float = float("-inf")


class RedisFleet:
    """All processes that share a Redis, seen from this one. Safe to use from any thread.

    ``on_store_error`` is what holds while Redis is away: ``local``, ``open`` or ``closed``.
    """

    def __init__(self, url: str, on_store_error: str, *, others_announce: bool = False) -> None:
        self.worker = new_worker()
        self.state = "connecting"
        self.error: str | None = None
        self.exchanges: Counter[str] = Counter()  # by provider
        self._url = url
        self._policy = on_store_error
        self._others_announce = others_announce  # nothing is done once by this process
        self._exchangers: dict[str, _Exchanger] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._listener: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()  # Redis has stopped answering
        self._closing = False
        self._inherited: list[Any] = []
        self._since = time.time()
        _fleets.add(self)

    def attach(self, limiter: LeasedLimiter) -> None:
        """Have ``limiter``, whose store is leased, talk to Redis from now on."""
        line = self._exchangers[limiter.name] = _Exchanger(limiter)
        limiter.on_lease_needed(lambda: self._signal(line))
        self._start()
        if self.state == "down":
            limiter.lease_server_lost(self._policy)
        self._signal(line)

    def once(self, key: str, ttl: float, action: Callable[[], object]) -> None:
        """Have ``action`` called unless another process has had it called under this key within ``ttl`` seconds.

        While Redis is away it is called: better twice than not at all.
        """
        if self._others_announce:
            return
        if self._closing or self.state == "down" or not self._schedule(self._once(key, ttl, action)):
            action()

    def status(self) -> dict[str, Any]:
        """What is shown of the store, as plain JSON-ready data."""
        workers = max((line.limiter.fleet_size() for line in list(self._exchangers.values())), default=1)
        return {
            "scope": "redis",
            "state": self.state,
            "error": self.error,
            "on_store_error": self._policy,
            "worker": self.worker,
            "workers": workers,
            "exchanges": dict(self.exchanges),
        }

    def close(self) -> None:
        """Give back what is on loan, and end the thread. Idempotent."""
        if self._closing:
            return
        self._closing = True
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._gone.set)
            thread.join(4 * TIMEOUT)

    def forked(self) -> None:
        """This is a child process now: it is a worker of its own, with nothing on loan."""
        # Kept from being collected: closing them would take the parent's connections out of the epoll that both have.
        self._inherited.append((self._thread, self._loop, self._client, self._listener, self._tasks))
        self.worker = new_worker()
        self.state, self._thread, self._loop, self._client, self._listener = "connecting", None, None, None, None
        self._lock, self._gone, self._tasks = threading.Lock(), asyncio.Event(), set()
        for line in self._exchangers.values():
            line.busy = line.pending = False
            line.limiter.forked(self.worker)

    # The thread

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is not None or self._closing:
                return
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="wallie-redis", daemon=True)
            self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._main())
        finally:
            loop.close()

    def _signal(self, line: _Exchanger) -> None:
        """Talk about ``line`` soon; called from any thread, also with its limiter's lock held."""
        if line.pending:
            return
        line.pending = True
        self._start()  # in a child process there is no thread yet
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: so is the guard
                loop.call_soon_threadsafe(self._kick, line)

    def _schedule(self, work: Coroutine[Any, Any, None]) -> bool:
        loop = self._loop
        try:
            if loop is None:
                raise RuntimeError
            loop.call_soon_threadsafe(self._spawn, work)
        except RuntimeError:
            work.close()
            return False
        return True

    # What follows runs in that thread.

    async def _main(self) -> None:
        while not self._closing:
            self._gone.clear()
            try:
                await within(4 * TIMEOUT if self.state == "down" else TIMEOUT, self._connect())
            except Exception as error:  # noqa: BLE001 - Redis', the network's, and those of a URL that leads nowhere
                self._lost(error)
            else:
                self._found()
                await self._beat()
            await self._disconnect()
            with suppress(TimeoutError):  # by its end, nobody waits for the old connection any more
                await asyncio.wait_for(self._wait_for_end(), RECONNECT * random.uniform(0.9, 1.3))  # noqa: S311
        await self._say_goodbye()

    async def _wait_for_end(self) -> None:
        while not self._closing:  # noqa: ASYNC110 - closing is said by another thread, with the loop perhaps gone
            await asyncio.sleep(0.02)

    async def _connect(self) -> None:
        try:
            self._client = client = connect(self._url, TIMEOUT)
        except ValueError:  # whose text holds a part of it, which may be the password's
            message = "wallie.store.url cannot be read; write special characters of a password as in URLs, / as %2F"
            raise ValueError(message) from None
        await client.ping()  # alone: a cluster's client does not find the servers twice at once
        # All at once, and a few more for what is said besides: connections that are made only when they are needed
        # take so long over a slow link that Redis would be called away.
        spare = (client.ping() for _ in range(SPARE))
        await asyncio.gather(*spare, *(self._try_out(name) for name in list(self._exchangers)))
        self._listener = asyncio.ensure_future(self._listen())

    async def _try_out(self, name: str) -> None:
        """Fail unless a script may write where the state of ``name`` is: a server may answer, and yet refuse that."""
        trial = f"wallie:{{{name}}}:trial"
        await self._command("eval", SCRIPT, 1, f"{trial}:empty", "{}")  # which does nothing, and is known from now on
        await self._command("eval", TRIAL, 1, trial, int(RECONNECT * 1000))

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if self._listener is not None:
            self._listener.cancel()
        if client is not None:
            if self._closing and self.state == "ok":
                self._client = client
                return
            with suppress(Exception):
                await within(TIMEOUT, client.aclose())

    async def _beat(self) -> None:
        """Keep every provider's acquaintance until Redis is gone or the guard closes."""
        last = 0.0
        while not self._gone.is_set() and not self._closing:
            now = time.monotonic()
            for line in list(self._exchangers.values()):
                if now - line.talked_at >= HEARTBEAT * 0.9:
                    line.pending = True
                    self._kick(line)
            if now - last >= 2 * HEARTBEAT:
                self._spawn(self._introduce(tidy_up=not last))
                last = now
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), HEARTBEAT / 4)

    async def _introduce(self, *, tidy_up: bool) -> None:
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": self._since, "seen": time.time()}
        try:
            await within(TIMEOUT, self._command("hset", WORKERS, self.worker, json.dumps(about)))
        except Exception as error:  # noqa: BLE001 - whatever it is, Redis does not serve
            self._lost(error)
        if tidy_up:
            await self._tidy_up()

    async def _tidy_up(self) -> None:
        """Forget workers that were killed long ago."""
        with suppress(Exception):  # the next one that starts will try again
            for name, text in (await self._command("hgetall", WORKERS)).items():
                if time.time() - json.loads(text)["seen"] > LONG_AGO:
                    await self._command("hdel", WORKERS, name)

    async def _command(self, name: str, *arguments: Any, **more: Any) -> Any:
        if self._client is None:
            raise ConnectionError("not connected")
        return await getattr(self._client, name)(*arguments, **more)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _kick(self, line: _Exchanger) -> None:
        if self.state == "ok" and not line.busy:
            line.busy = True
            self._spawn(self._talk(line))

    async def _talk(self, line: _Exchanger) -> None:
        try:
            broke = False
            while line.pending and self.state == "ok":
                line.pending = False
                line.talked_at = sent_at = time.monotonic()
                request = line.limiter.build_renewal()
                try:
                    answer = await within(TIMEOUT, self._exchange(line.limiter.name, request))
                except RedisConnectionError:  # of one connection, perhaps; whether it was heard, the next answer says
                    if broke:
                        raise
                    broke = line.pending = True
                    continue
                broke = False
                if self.state == "ok" and not line.limiter.apply_grant(answer, sent_at):
                    line.pending = True
        except Exception as error:  # noqa: BLE001 - as above
            self._lost(error)
        finally:
            line.busy = False

    async def _exchange(self, name: str, request: Any) -> dict[str, Any]:
        self.exchanges[name] += 1
        arguments = (1, key_of(name), json.dumps(request), NEWS, name, KEEP)
        try:
            reply = await self._command("evalsha", SCRIPT_ID, *arguments)
        except NoScriptError:  # a server that has restarted, or has taken over
            reply = await self._command("eval", SCRIPT, *arguments)
        answer: dict[str, Any] = json.loads(reply)
        return answer

    async def _once(self, key: str, ttl: float, action: Callable[[], object]) -> None:
        first: Any = True
        with suppress(Exception):  # as while it is away
            setting = self._command("set", f"wallie:once:{key}", self.worker, nx=True, px=max(1, int(ttl * 1000)))
            first = await within(TIMEOUT, setting)
        if first:
            action()

    async def _listen(self) -> None:
        """Hear of what other workers have changed."""
        client = connect(self._url, None)
        try:
            await client.ping()  # a cluster's client has to find the servers before it can subscribe
            hearing = client.pubsub()
            await hearing.subscribe(NEWS)
            for line in list(self._exchangers.values()):  # what was said before
                line.pending = True
                self._kick(line)
            while True:
                message = await hearing.get_message(ignore_subscribe_messages=True, timeout=None)
                if message is not None:
                    self._hear(message["data"].decode())
        except Exception as error:  # noqa: BLE001 - as above
            self._lost(error)
        finally:
            with suppress(Exception):
                await client.aclose()

    def _hear(self, news: str) -> None:
        worker, _, name = news.partition(" ")
        line = self._exchangers.get(name)
        if line is not None and worker != self.worker:
            line.pending = True
            self._kick(line)

    def _lost(self, error: BaseException) -> None:
        if self._closing:
            return
        if not self._gone.is_set():  # else it follows from what has been noted
            self.error = reason_of(error)
        self._gone.set()
        if self.state == "down":
            return
        self.state = "down"
        logger.warning("Redis does not serve (%s): on_store_error is %s", self.error, self._policy)
        for line in list(self._exchangers.values()):
            line.limiter.lease_server_lost(self._policy)

    def _found(self) -> None:
        before, self.state, self.error = self.state, "ok", None
        if before == "down":
            logger.warning("Redis serves again")
        for line in list(self._exchangers.values()):
            if before == "down":
                line.limiter.lease_server_found()
            line.pending = True
            self._kick(line)

    async def _say_goodbye(self) -> None:
        if self._client is None or self.state != "ok":
            return
        with suppress(Exception):
            pending = [
                self._exchange(line.limiter.name, line.limiter.build_release()) for line in self._exchangers.values()
            ]
            await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), TIMEOUT)
            await within(TIMEOUT, self._command("hdel", WORKERS, self.worker))
            await within(TIMEOUT, self._client.aclose())


_fleets: weakref.WeakSet[RedisFleet] = weakref.WeakSet()


def _after_fork() -> None:
    for fleet in list(_fleets):
        fleet.forked()


os.register_at_fork(after_in_child=_after_fork)
