"""Admits a second on one hot key of a shared Redis: other libraries, and the plain way, one EVALSHA an admit.

``python benchmarks/rivals.py --url redis://127.0.0.1:PORT [--json FILE]``, in any environment that has some of
``redis``, ``hiredis``, ``limits``, ``throttled-py``, ``pyrate-limiter`` and ``token-throttle`` (which needs Python
3.12); ours is not needed. Only keys of the run's own are written, and they are removed at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import multiprocessing
import os
import platform
import random
import statistics
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

_PER_MINUTE = 10_000_000  # requests: nothing ever waits
_TOKENS_PER_MINUTE = 1000 * _PER_MINUTE
_PER_DAY = 1440 * _PER_MINUTE
_TOKENS = 190  # of a request
_PROCESSES = (1, 2, 4)
_IN_FLIGHT = (1, 50)
_WARM_UP = 0.3  # seconds, and an admit of each worker: that opens the connections and loads the scripts
_START = 60.0  # seconds for all processes to get ready
_GRACE = 10.0  # seconds for what is in flight at the end
_DISTRIBUTIONS = ("redis", "hiredis", "limits", "throttled-py", "pyrate-limiter", "token-throttle")

AsyncAdmit = Callable[[], Awaitable[None]]
SyncAdmit = Callable[[], None]

_ONE = "rpm"
_THREE = "rpm, tpm, rpd"

# Three buckets in one hash. A bucket's ARGV: its limit, what it gains a second, what is asked of it.
_BUCKETS = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local had = redis.call('HMGET', KEYS[1], 'at', '1', '2', '3')
local past = math.max(0, now - (tonumber(had[1]) or now))
local left, wait = {}, 0
for i = 1, 3 do
    local limit, gain, asked = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
    left[i] = math.min(limit, (tonumber(had[i + 1]) or limit) + past * gain) - asked
    if left[i] < 0 then
        wait = math.max(wait, -left[i] / gain)
    end
end
if wait > 0 then
    return math.ceil(wait * 1000)
end
redis.call('HSET', KEYS[1], 'at', now, '1', left[1], '2', left[2], '3', left[3])
redis.call('PEXPIRE', KEYS[1], 172800000)
return 0
"""
_ASKED = (
    *(_PER_MINUTE, _PER_MINUTE / 60, 1),
    *(_TOKENS_PER_MINUTE, _TOKENS_PER_MINUTE / 60, _TOKENS),
    *(_PER_DAY, _PER_DAY / 86_400, 1),
)


class _RefusedError(RuntimeError):
    """Raised for a request that was not admitted: then the figure would not be of admits."""


def _admitted(answer: object) -> None:
    if not answer:
        raise _RefusedError("a request was refused")


@contextlib.asynccontextmanager
async def _evalsha(url: str, key: str) -> AsyncIterator[AsyncAdmit]:
    import redis.asyncio

    async with redis.asyncio.Redis.from_url(url) as client:
        script = await client.script_load(_BUCKETS)

        async def admit() -> None:
            _admitted(await client.evalsha(script, 1, key, *_ASKED) == 0)

        yield admit


@contextlib.contextmanager
def _evalsha_sync(url: str, key: str) -> Iterator[SyncAdmit]:
    import redis

    with redis.Redis.from_url(url) as client:
        script = client.script_load(_BUCKETS)

        def admit() -> None:
            _admitted(client.evalsha(script, 1, key, *_ASKED) == 0)

        yield admit


def _limits(strategy: str) -> Callable[[str, str], AbstractAsyncContextManager[AsyncAdmit]]:
    @contextlib.asynccontextmanager
    async def opened(url: str, key: str) -> AsyncIterator[AsyncAdmit]:
        from limits import RateLimitItemPerMinute
        from limits.aio import strategies
        from limits.aio.storage import RedisStorage

        storage = RedisStorage(f"async+{url}", implementation="redispy", key_prefix=key)
        limiter, item = getattr(strategies, strategy)(storage), RateLimitItemPerMinute(_PER_MINUTE)

        async def admit() -> None:
            _admitted(await limiter.hit(item, "openai"))

        yield admit
        await storage.bridge.get_connection().aclose()

    return opened


def _limits_sync(strategy: str) -> Callable[[str, str], AbstractContextManager[SyncAdmit]]:
    @contextlib.contextmanager
    def opened(url: str, key: str) -> Iterator[SyncAdmit]:
        from limits import RateLimitItemPerMinute, strategies
        from limits.storage import RedisStorage

        limiter = getattr(strategies, strategy)(RedisStorage(url, key_prefix=key))
        item = RateLimitItemPerMinute(_PER_MINUTE)

        def admit() -> None:
            _admitted(limiter.hit(item, "openai"))

        yield admit

    return opened


def _throttled(algorithm: str) -> Callable[[str, str], AbstractAsyncContextManager[AsyncAdmit]]:
    @contextlib.asynccontextmanager
    async def opened(url: str, key: str) -> AsyncIterator[AsyncAdmit]:
        from throttled.asyncio import RedisStore, Throttled, per_min

        quota, store = per_min(_PER_MINUTE), RedisStore(server=url)
        throttle = Throttled(key="openai", using=algorithm, quota=quota, store=store, key_prefix=key)

        async def admit() -> None:
            _admitted(not (await throttle.limit()).limited)

        yield admit

    return opened


def _pyrate(constant_state: bool) -> Callable[[str, str], AbstractAsyncContextManager[AsyncAdmit]]:
    @contextlib.asynccontextmanager
    async def opened(url: str, key: str) -> AsyncIterator[AsyncAdmit]:
        import redis.asyncio
        from pyrate_limiter import Duration, Limiter, Rate, RedisBucket, RedisStateStore, StateBucket, TokenBucket

        rates = [Rate(_PER_MINUTE, Duration.MINUTE)]
        async with redis.asyncio.Redis.from_url(url) as client:
            if constant_state:
                bucket = StateBucket(rates, TokenBucket(), RedisStateStore(client, key))
            else:
                bucket = await RedisBucket.init(rates, client, key)
            with Limiter(bucket) as limiter:

                async def admit() -> None:
                    # not try_acquire_async: that lets one through at a time
                    _admitted(await limiter.try_acquire("openai"))

                yield admit

    return opened


def _token_throttle(enforced: str) -> Callable[[str, str], AbstractAsyncContextManager[AsyncAdmit]]:
    @contextlib.asynccontextmanager
    async def opened(url: str, key: str) -> AsyncIterator[AsyncAdmit]:
        import redis.asyncio
        from token_throttle import PerModelConfig, Quota, RateLimiter, RedisBackendBuilder, UsageQuotas

        quotas, usage = [Quota(metric="requests", limit=_PER_MINUTE, per_seconds=60)], {"requests": 1}
        if enforced == _THREE:
            quotas.append(Quota(metric="tokens", limit=_TOKENS_PER_MINUTE, per_seconds=60))
            quotas.append(Quota(metric="requests", limit=_PER_DAY, per_seconds=86_400))
            usage["tokens"] = _TOKENS
        async with redis.asyncio.Redis.from_url(url) as client:
            # polling its lock more often than every 50 ms is slower: 50 waiters then keep the server busy
            backend = RedisBackendBuilder(client, key_prefix=key)
            config = PerModelConfig(quotas=UsageQuotas(quotas), model_family="openai")
            limiter = RateLimiter(config, backend=backend, max_in_flight_reservations=_PER_MINUTE)

            async def admit() -> None:
                await limiter.acquire_capacity(usage, "openai")  # which waits, and never refuses

            yield admit
            await limiter.aclose()

    return opened


@dataclass(frozen=True, slots=True)
class Rival:
    """A way to admit a request; ``opened`` is given the URL and a key that all processes share."""

    name: str
    needs: str
    enforces: str
    opened: Callable[[str, str], AbstractAsyncContextManager[AsyncAdmit]] | None = None
    opened_sync: Callable[[str, str], AbstractContextManager[SyncAdmit]] | None = None

    @property
    def in_flight(self) -> tuple[int, ...]:
        """How many admits can be in flight in a process; a synchronous one blocks the event loop, so only one."""
        return _IN_FLIGHT if self.opened is not None else _IN_FLIGHT[:1]

    @property
    def installed(self) -> bool:
        """Whether its modules can be found here."""
        return all(importlib.util.find_spec(module) is not None for module in ("redis", self.needs))


_FIXED, _SLIDING, _MOVING = "FixedWindowRateLimiter", "SlidingWindowCounterRateLimiter", "MovingWindowRateLimiter"

RIVALS = (
    Rival("one EVALSHA an admit", "redis", _THREE, _evalsha),
    Rival("one EVALSHA an admit, sync", "redis", _THREE, opened_sync=_evalsha_sync),
    Rival("limits: fixed window", "limits", _ONE, _limits(_FIXED)),
    Rival("limits: fixed window, sync", "limits", _ONE, opened_sync=_limits_sync(_FIXED)),
    Rival("limits: sliding window counter", "limits", _ONE, _limits(_SLIDING)),
    Rival("limits: moving window", "limits", _ONE, _limits(_MOVING)),
    Rival("throttled-py: fixed window", "throttled", _ONE, _throttled("fixed_window")),
    Rival("throttled-py: token bucket", "throttled", _ONE, _throttled("token_bucket")),
    Rival("throttled-py: GCRA", "throttled", _ONE, _throttled("gcra")),
    Rival("pyrate-limiter: token bucket", "pyrate_limiter", _ONE, _pyrate(constant_state=True)),
    Rival("pyrate-limiter: sliding log", "pyrate_limiter", _ONE, _pyrate(constant_state=False)),
    Rival("token-throttle", "token_throttle", _ONE, _token_throttle(_ONE)),
    Rival("token-throttle", "token_throttle", _THREE, _token_throttle(_THREE)),
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The arguments of a process: which rival, where, and for how many seconds."""

    rival: int
    url: str
    key: str
    seconds: float


def _process(plan: _Plan, barrier: Barrier, results: Connection) -> None:
    """Send the admits of each number in flight, or the text of what went wrong."""
    logging.disable(logging.CRITICAL)
    rival = RIVALS[plan.rival]
    try:
        if rival.opened is not None:
            results.send(asyncio.run(_in_flight(rival, rival.opened, plan, barrier)))
        else:
            assert rival.opened_sync is not None
            results.send(_in_sequence(rival.opened_sync, plan, barrier))
    except threading.BrokenBarrierError:
        results.send("another process failed, or was late")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown in the table
        barrier.abort()
        results.send(f"{type(error).__name__}: {error}")


async def _in_flight(
    rival: Rival, opened: Callable[[str, str], AbstractAsyncContextManager[AsyncAdmit]], plan: _Plan, barrier: Barrier
) -> list[int]:
    admits: list[int] = []
    async with opened(plan.url, plan.key) as admit:
        for workers in rival.in_flight:
            await _work(admit, workers, time.perf_counter() + _WARM_UP)
            barrier.wait(_START)  # blocks the loop, on which nothing is left to run
            admits.append(await _work(admit, workers, time.perf_counter() + plan.seconds))
            barrier.wait(_START)
    return admits


async def _work(admit: AsyncAdmit, workers: int, until: float) -> int:
    """Admit with ``workers`` in flight; the count is of the admits done in time."""
    done = 0

    async def work() -> None:
        nonlocal done
        while True:
            await admit()
            if time.perf_counter() > until:
                return
            done += 1

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    finished, late = await asyncio.wait(tasks, timeout=until - time.perf_counter() + _GRACE)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in finished:
        task.result()
    return done


def _in_sequence(
    opened: Callable[[str, str], AbstractContextManager[SyncAdmit]], plan: _Plan, barrier: Barrier
) -> list[int]:
    def work(until: float) -> int:
        done = 0
        while True:
            admit()
            if time.perf_counter() > until:
                return done
            done += 1

    with opened(plan.url, plan.key) as admit:
        work(time.perf_counter() + _WARM_UP)
        barrier.wait(_START)
        done = work(time.perf_counter() + plan.seconds)
        barrier.wait(_START)
    return [done]


@dataclass(frozen=True, slots=True)
class _Figure:
    """One measurement of all processes together."""

    rate: float
    server: float  # seconds of the server's CPU time an admit


def _measure(rival: int, url: str, processes: int, seconds: float, prefix: str) -> list[_Figure] | str:
    """A figure for each number in flight, or what went wrong."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    plan = _Plan(rival, url, f"{prefix}-{uuid.uuid4().hex[:8]}", seconds)
    pipes, running = [], []
    for _ in range(processes):
        ours, theirs = context.Pipe(duplex=False)
        running.append(context.Process(target=_process, args=(plan, barrier, theirs), daemon=True))
        running[-1].start()
        theirs.close()
        pipes.append(ours)
    spent: list[float] = []
    try:
        for _ in RIVALS[rival].in_flight:
            barrier.wait(_START)
            before = _server_cpu(url)
            barrier.wait(_START)
            spent.append(_server_cpu(url) - before)
    except threading.BrokenBarrierError:
        pass
    results: list[list[int] | str] = []
    for pipe, process in zip(pipes, running, strict=True):
        try:
            results.append(pipe.recv() if pipe.poll(_START) else "no result")
        except EOFError:
            results.append("the process died")
        process.join(_START)
        process.kill()
    counts = [result for result in results if not isinstance(result, str)]
    if len(counts) < processes:
        wrong = [result for result in results if isinstance(result, str)]
        return next((text for text in wrong if not text.startswith("another process")), wrong[0])
    totals = [sum(count) for count in zip(*counts, strict=True)]
    return [_Figure(total / seconds, cpu / max(total, 1)) for total, cpu in zip(totals, spent, strict=True)]


def _server_cpu(url: str) -> float:
    import redis

    with redis.Redis.from_url(url) as client:
        info: Any = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _remove(url: str, prefix: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"*{prefix}*", count=1000):
            client.unlink(key)


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _data(rival: Rival, measured: dict[int, list[list[_Figure]]], failed: str | None) -> dict[str, Any]:
    status = "failed" if failed else "measured" if rival.installed else "not installed"
    data: dict[str, Any] = {"name": rival.name, "enforces": rival.enforces, "status": status}
    if failed:
        data["error"] = failed
    data["figures"] = [
        {
            "processes": processes,
            "in_flight": in_flight,
            "admits_per_second": statistics.median(figures[number].rate for figures in rounds),
            "rounds": [figures[number].rate for figures in rounds],
            "server_us_per_admit": statistics.median(figures[number].server for figures in rounds) * 1e6,
        }
        for processes, rounds in measured.items()
        for number, in_flight in enumerate(rival.in_flight)
        if rounds
    ]
    return data


def _table(rivals: list[dict[str, Any]]) -> str:
    columns = [(processes, in_flight) for in_flight in _IN_FLIGHT for processes in _PROCESSES]
    rows = [["admits/s", "enforces", *(f"{p}p x {n}" for p, n in columns), "server µs"]]
    for rival in rivals:
        figures = {(figure["processes"], figure["in_flight"]): figure for figure in rival["figures"]}
        row = [rival["name"], rival["enforces"]]
        if rival["status"] == "measured":
            row += [f"{figures[at]['admits_per_second']:,.0f}" if at in figures else "—" for at in columns]
            row.append(f"{figures[1, 1]['server_us_per_admit']:.0f}")
        else:
            row += [rival["status"], *[""] * len(columns)]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    notes = [
        "`2p x 50`: two processes with 50 in flight in each; x 1 is in sequence. `server µs`: the server's CPU time an "
        "admit, 1p x 1. A synchronous client blocks the event loop, so it is measured in sequence only (—).",
        *(f"{rival['name']} ({rival['enforces']}) failed: {rival['error']}" for rival in rivals if "error" in rival),
    ]
    return "\n".join([*lines, "", *notes])


def main() -> None:
    parser = argparse.ArgumentParser(description="Admits a second of other libraries on a shared Redis.")
    parser.add_argument("--url", required=True, help="the Redis, as redis://127.0.0.1:PORT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: 2)")
    parser.add_argument("--rounds", type=int, default=1, help="each in a new order; medians are shown (default: 1)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only those with TEXT in their name")
    options = parser.parse_args()
    chosen = [number for number, rival in enumerate(RIVALS) if options.only in rival.name]
    measured: dict[int, dict[int, list[list[_Figure]]]] = {rival: {n: [] for n in _PROCESSES} for rival in chosen}
    failed: dict[int, str] = {}
    runs = [(rival, n) for rival in chosen if RIVALS[rival].installed for n in _PROCESSES]
    prefix = f"rivals-{uuid.uuid4().hex[:8]}"
    for _ in range(options.rounds):
        random.shuffle(runs)
        for rival, processes in runs:
            if rival in failed:
                continue
            figures = _measure(rival, options.url, processes, options.seconds, prefix)
            if isinstance(figures, str):
                failed[rival] = figures
            else:
                measured[rival][processes].append(figures)
    if runs:
        _remove(options.url, prefix)
    rivals = [_data(RIVALS[rival], measured[rival], failed.get(rival)) for rival in chosen]
    versions = _versions()
    print(_table(rivals))
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores,", end=" ")
    print(", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items()), flush=True)
    if options.json is not None:
        data = {"python": platform.python_version(), "cores": os.cpu_count(), "versions": versions, "rivals": rivals}
        options.json.write_text(json.dumps(data, indent=2) + "\n")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
