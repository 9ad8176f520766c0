"""The lease server in Redis: one thread that makes the exchanges of all providers of a guard.

Every provider's state is one key, and every exchange one script. A worker whose exchange changes what others need at
once broadcasts the provider's name, and the others renew at once. While Redis does not answer, each worker has a lease
server of its own. No request waits for Redis.
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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from wallie_litellm.config.models import StoreSettings
from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.lease_exchange import VERSION, LeaseAnswer, RenewalRequest, Uninitialised
from wallie_litellm.core.scopes import model_in
from wallie_litellm.limiter.redis.connection import Client, connect, reason_of
from wallie_litellm.limiter.redis.layout import (
    CHANNEL,
    SCRIPT,
    SCRIPT_ID,
    STATE_TTL,
    WORKERS,
    WRITE_TRIAL_SCRIPT,
    key_of,
    once_key_of,
    trial_key_of,
)
from wallie_litellm.limiter.redis.paused_models import announce, list_troubled, listed_models
from wallie_litellm.limiter.redis.shared_switches import CHANGED, SharedSwitches
from wallie_litellm.limiter.redis.waiting import run_to_end, within
from wallie_litellm.limiter.redis.workers import register, remove_dead

if TYPE_CHECKING:
    from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter

logger = logging.getLogger(__name__)

CLOSING: Final = 0.25  # seconds for one step of the end
HEARTBEAT: Final = 2.0  # seconds between two exchanges about a provider, at most: broadcasts cause earlier ones
RECONNECT: Final = 0.3  # seconds between two attempts
CONFIRMED_AFTER: Final = 4  # timeouts without an answer after which an outage is one, whatever this process was doing
SPARE_CONNECTIONS: Final = 3  # besides one a provider


class VersionMismatch(Exception):  # noqa: N818 - names the condition
    """This worker and the state in Redis are of different versions."""

    def __init__(self, error: str) -> None:
        super().__init__(
            f"this worker and the state in Redis are of different versions ({error}); "
            "upgrade all workers to the same release"
        )


def _answer(reply: str) -> LeaseAnswer | Uninitialised:
    answer: LeaseAnswer | Uninitialised = json.loads(reply)
    if not answer["initialised"] and "error" in answer:
        raise VersionMismatch(answer["error"])
    return answer


def new_worker() -> str:
    """A name for this process that no other has had."""
    return f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"


class _ModelCallbacks(NamedTuple):
    """What is called with the scope of a model: see :meth:`RedisFleet.on_model`."""

    join: Callable[[str], object] = lambda _scope: None
    answered: Callable[[str], object] = lambda _scope: None


@dataclass
class _Exchanger:
    """One provider's exchanges: at most one at a time."""

    limiter: LeasedLimiter
    is_due: bool = False
    is_busy: bool = False
    last_at: float = float("-inf")  # seconds of the monotonic clock


class RedisFleet:
    """This process as a worker of the fleet that shares a Redis. Safe to use from any thread.

    With ``others_announce``, :meth:`once` leaves its actions to other workers.
    """

    def __init__(self, settings: StoreSettings, *, others_announce: bool = False) -> None:
        self.worker = new_worker()
        self.state = "connecting"
        self.error: str | None = None
        self.exchanges: Counter[str] = Counter()  # by provider
        self._settings = settings
        self._others_announce = others_announce  # what is done once in the fleet is left to other workers
        self._exchangers: dict[str, _Exchanger] = {}
        self._of_models = _ModelCallbacks()
        self.switches = SharedSwitches(self._send_switches)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._subscription: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection_lost = asyncio.Event()
        self._unconfirmed: asyncio.TimerHandle | None = None  # an outage that may be this process' own slowness
        self._closing = False
        self._parents_objects: list[Any] = []
        self._started_at = time.time()
        _fleets.add(self)

    def attach(self, limiter: LeasedLimiter) -> None:
        """Have ``limiter`` lease from Redis from now on."""
        exchanger = self._exchangers[limiter.name] = _Exchanger(limiter)
        limiter.on_lease_needed(lambda: self._signal(exchanger))
        self._start()
        if self.state == "down":
            limiter.lease_server_lost(self._settings.on_store_error, confirmed=self._unconfirmed is None)
        self._signal(exchanger)

    def detach(self, name: str) -> bool:
        """Make no more exchanges about a limiter without limits; ``False``, and without effect, while one is due."""
        exchanger = self._exchangers.get(name)
        if exchanger is not None and (exchanger.is_due or exchanger.is_busy):
            return False
        self._exchangers.pop(name, None)
        self.exchanges.pop(name, None)
        return True

    def once(self, key: str, ttl: float, action: Callable[[], object]) -> None:
        """Have ``action`` called unless another process has had it called under this key within ``ttl`` seconds.

        While Redis is away every process calls it: better twice than not at all.
        """
        if self._others_announce:
            return
        if self._closing or self.state == "down" or not self._schedule(self._once(key, ttl, action)):
            action()

    def on_model(self, join: Callable[[str], object], answered: Callable[[str], object]) -> None:
        """Have ``join`` called with the scope of each model that is in trouble at other workers, to attach its limiter.

        ``answered`` is called with that of each model about which the lease server has answered.
        """
        self._of_models = _ModelCallbacks(join, answered)

    def list_model(self, scope: str, *, is_troubled: bool) -> None:
        """Let workers that start later know whether a model's breaker is not closed."""
        if not self._closing and self.state != "down":
            self._schedule(self._list_model(scope, is_troubled=is_troubled))

    def announce_pause(self, scope: str, seconds: float) -> None:
        """Let the other workers know, and those that start later, that a model is paused for so long."""
        if not self._closing and self.state != "down":
            self._schedule(self._announce_pause(scope, time.time() + seconds))

    def status(self) -> dict[str, Any]:
        """The store's part of the guard's status, ready for JSON."""
        workers = max((exchanger.limiter.fleet_size() for exchanger in list(self._exchangers.values())), default=1)
        return {
            "scope": "redis",
            "state": self.state,
            "error": self.error,
            "on_store_error": self._settings.on_store_error,
            "worker": self.worker,
            "workers": workers,
            "exchanges": dict(self.exchanges),
        }

    def close(self) -> None:
        """Return all leases, and end the thread. Idempotent."""
        if self._closing:
            return
        self._closing = True
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._connection_lost.set)
            thread.join(4 * CLOSING)

    def forked(self) -> None:
        """This is a child process now: it is a worker of its own, without leases."""
        # Kept from being collected: closing them would take the parent's connections out of the epoll that both have.
        self._parents_objects.append((self._thread, self._loop, self._client, self._subscription, self._tasks))
        self.worker = new_worker()
        self.state, self._thread, self._loop, self._client, self._subscription = "connecting", None, None, None, None
        self._lock, self._connection_lost, self._tasks = threading.Lock(), asyncio.Event(), set()
        self._unconfirmed = None
        for exchanger in self._exchangers.values():
            exchanger.is_busy = exchanger.is_due = False
            exchanger.limiter.forked(self.worker)

    # The thread that talks to Redis

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
        run_to_end(loop, self._main(), CLOSING)

    def _signal(self, exchanger: _Exchanger) -> None:
        """Make an exchange soon; called from any thread, also with the limiter's lock held."""
        if exchanger.is_due:
            return
        exchanger.is_due = True
        self._start()  # in a child process there is no thread yet
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: so is the guard
                loop.call_soon_threadsafe(self._kick, exchanger)

    def _send_switches(self) -> None:
        self._start()
        self._schedule(self.switches.exchange(self._command, self.worker))

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
            self._connection_lost.clear()
            try:
                await within(self._settings.timeout * (4 if self.state == "down" else 1), self._connect())
            except Exception as error:  # noqa: BLE001 - Redis', the network's, and those of a URL that leads nowhere
                self._on_lost(error)
            else:
                self._on_found()
                await self._heartbeat()
            await self._disconnect()
            with suppress(TimeoutError):  # by its end, the old connection has no reader any more
                await asyncio.wait_for(self._wait_for_end(), RECONNECT * random.uniform(0.9, 1.3))  # noqa: S311
        await self._leave()

    async def _wait_for_end(self) -> None:
        while not self._closing:  # noqa: ASYNC110 - another thread closes, perhaps with the loop gone
            await asyncio.sleep(0.02)

    async def _connect(self) -> None:
        try:
            self._client = client = connect(self._settings.url, self._settings.timeout)
        except ValueError:  # whose text holds a part of it, which may be the password's
            message = "wallie.store.url cannot be read; write special characters of a password as in URLs, / as %2F"
            raise ValueError(message) from None
        await client.ping()  # alone: a cluster's client does not find the servers twice at once
        # All at once, and a few more for other commands: connections that are made only when they are needed take so
        # long over a slow link that Redis would count as away.
        spare = (client.ping() for _ in range(SPARE_CONNECTIONS))
        await asyncio.gather(*spare, *(self._try_out(name) for name in list(self._exchangers)))
        await self._find_models()
        self._subscription = asyncio.ensure_future(self._subscribe())

    async def _find_models(self) -> None:
        for name, exchanger in list(self._exchangers.items()):  # a server that has lost its state lacks the lists, too
            if model_in(name) and exchanger.limiter.breaker_state()[0] is not BreakerState.CLOSED:
                await list_troubled(self._command, name, is_troubled=True)
                await self._command("publish", CHANNEL, f"{self.worker} {name}")
        await self.switches.exchange(self._command, self.worker)
        for scope in await listed_models(self._command, time.time()):
            self._of_models.join(scope)

    async def _try_out(self, name: str) -> None:
        """Load the script, and fail unless the state of ``name`` is of its version and a script may write beside it."""
        _answer(await self._command("eval", SCRIPT, 1, key_of(name), json.dumps({"version": VERSION})))
        await self._command("eval", WRITE_TRIAL_SCRIPT, 1, trial_key_of(name), int(RECONNECT * 1000))

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if self._subscription is not None:
            self._subscription.cancel()
        if client is not None:
            if self._closing and self.state == "ok":
                self._client = client
                return
            with suppress(Exception):
                await within(CLOSING, client.aclose())

    async def _heartbeat(self) -> None:
        """Renew every provider's leases until the connection is lost or the guard closes."""
        last = 0.0
        while not self._connection_lost.is_set() and not self._closing:
            now = time.monotonic()
            for exchanger in list(self._exchangers.values()):
                if now - exchanger.last_at >= HEARTBEAT * 0.9:
                    exchanger.is_due = True
                    self._kick(exchanger)
            if now - last >= 2 * HEARTBEAT:
                self._spawn(self._register(first=not last))
                last = now
            with suppress(TimeoutError):
                await asyncio.wait_for(self._connection_lost.wait(), HEARTBEAT / 4)

    async def _register(self, *, first: bool) -> None:
        try:
            await within(self._settings.timeout, register(self._command, self.worker, self._started_at))
        except Exception as error:  # noqa: BLE001 - any error: Redis does not serve
            self._on_lost(error)
        if first:
            await remove_dead(self._command)
        await self.switches.exchange(self._command, self.worker)

    async def _command(self, name: str, *arguments: Any, **more: Any) -> Any:
        if self._client is None:
            raise ConnectionError("not connected")
        return await getattr(self._client, name)(*arguments, **more)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _kick(self, exchanger: _Exchanger) -> None:
        if self.state == "ok" and not exchanger.is_busy:
            exchanger.is_busy = True
            self._spawn(self._exchange_while_due(exchanger))

    async def _exchange_while_due(self, exchanger: _Exchanger) -> None:
        try:
            broken = 0
            while exchanger.is_due and self.state == "ok":
                exchanger.is_due = False
                exchanger.last_at = sent_at = time.monotonic()
                request = exchanger.limiter.build_renewal()
                try:
                    answer = await within(self._settings.timeout, self._exchange(exchanger.limiter.name, request))
                except RedisConnectionError:  # of one connection, perhaps; the next answer acknowledges what arrived
                    broken += 1
                    if broken > SPARE_CONNECTIONS + len(self._exchangers):  # all that there were
                        raise
                    exchanger.is_due = True
                    continue
                broken = 0
                if self.state == "ok" and not exchanger.limiter.apply_grant(answer, sent_at):
                    exchanger.is_due = True
        except Exception as error:  # noqa: BLE001 - as above
            self._on_lost(error)
        finally:
            exchanger.is_busy = False
        if model_in(exchanger.limiter.name):
            self._of_models.answered(exchanger.limiter.name)

    async def _exchange(self, name: str, request: RenewalRequest) -> LeaseAnswer | Uninitialised:
        self.exchanges[name] += 1
        arguments = (1, key_of(name), json.dumps(request), CHANNEL, name, STATE_TTL)
        try:
            reply = await self._command("evalsha", SCRIPT_ID, *arguments)
        except NoScriptError:  # a server that has restarted, or has taken over
            reply = await self._command("eval", SCRIPT, *arguments)
        return _answer(reply)

    async def _once(self, key: str, ttl: float, action: Callable[[], object]) -> None:
        first: Any = True
        with suppress(Exception):  # as while Redis is away
            setting = self._command("set", once_key_of(key), self.worker, nx=True, px=max(1, int(ttl * 1000)))
            first = await within(self._settings.timeout, setting)
        if first:
            action()

    async def _list_model(self, scope: str, *, is_troubled: bool) -> None:
        with suppress(Exception):  # as while Redis is away: a worker that starts then finds out by itself
            await within(self._settings.timeout, list_troubled(self._command, scope, is_troubled=is_troubled))

    async def _announce_pause(self, scope: str, until: float) -> None:
        with suppress(Exception):  # as while Redis is away: other workers meet the provider's refusal themselves
            await within(self._settings.timeout, announce(self._command, self.worker, scope, until))

    async def _subscribe(self) -> None:
        """Renew where other workers broadcast a change."""
        client = connect(self._settings.url, None)
        try:
            await client.ping()  # a cluster's client has to find the servers before it can subscribe
            channel = client.pubsub()
            await channel.subscribe(CHANNEL)
            await self._find_models()
            for exchanger in list(self._exchangers.values()):  # broadcasts from before
                exchanger.is_due = True
                self._kick(exchanger)
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=None)
                if message is not None:
                    self._on_broadcast(message["data"].decode())
        except Exception as error:  # noqa: BLE001 - as above
            self._on_lost(error)
        finally:
            with suppress(Exception):
                await client.aclose()

    def _on_broadcast(self, message: str) -> None:
        worker, _, name = message.partition(" ")
        if worker == self.worker:
            return
        exchanger = self._exchangers.get(name)
        if exchanger is not None:
            exchanger.is_due = True
            self._kick(exchanger)
        elif name == CHANGED:
            self._spawn(self.switches.exchange(self._command, self.worker))
        elif model_in(name):
            self._of_models.join(name)

    def _on_lost(self, error: BaseException) -> None:
        if self._closing:
            return
        if not self._connection_lost.is_set():  # else it follows from an error that is noted already
            self.error = str(error) if isinstance(error, VersionMismatch) else reason_of(error)
        self._connection_lost.set()
        confirmed = not isinstance(error, TimeoutError | RedisTimeoutError)
        if self.state == "down":
            if confirmed:
                self._confirm_outage()
            return
        self.state = "down"
        logger.warning("Redis does not serve (%s): on_store_error is %s", self.error, self._settings.on_store_error)
        if not confirmed:
            seconds = CONFIRMED_AFTER * self._settings.timeout
            self._unconfirmed = asyncio.get_running_loop().call_later(seconds, self._confirm_outage)
        for exchanger in list(self._exchangers.values()):
            exchanger.limiter.lease_server_lost(self._settings.on_store_error, confirmed=confirmed)

    def _confirm_outage(self) -> None:
        timer, self._unconfirmed = self._unconfirmed, None
        if timer is not None:
            timer.cancel()
            for exchanger in list(self._exchangers.values()):
                exchanger.limiter.confirm_outage()

    def _on_found(self) -> None:
        before, self.state, self.error = self.state, "ok", None
        if self._unconfirmed is not None:
            self._unconfirmed.cancel()
            self._unconfirmed = None
        if before == "down":
            logger.warning("Redis serves again")
        for exchanger in list(self._exchangers.values()):
            if before == "down":
                exchanger.limiter.lease_server_found()
            exchanger.is_due = True
            self._kick(exchanger)

    async def _leave(self) -> None:
        if self._client is None or self.state != "ok":
            return
        with suppress(Exception):
            releases = [
                self._exchange(exchanger.limiter.name, exchanger.limiter.build_release())
                for exchanger in list(self._exchangers.values())
            ]
            await asyncio.wait_for(asyncio.gather(*releases, return_exceptions=True), CLOSING)
            await within(CLOSING, self._command("hdel", WORKERS, self.worker))
            await within(CLOSING, self._client.aclose())


_fleets: weakref.WeakSet[RedisFleet] = weakref.WeakSet()


def _after_fork() -> None:
    for fleet in list(_fleets):
        fleet.forked()


os.register_at_fork(after_in_child=_after_fork)
