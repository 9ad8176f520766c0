"""Where answers are kept: LiteLLM's cache in memory, LiteLLM's Redis, or files.

LiteLLM's classes of caches are used, not ``litellm.Cache``: making one of these registers LiteLLM's cache for all calls
of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Protocol

from litellm.caching.in_memory_cache import InMemoryCache
from litellm.caching.redis_cache import RedisCache
from litellm.caching.redis_cluster_cache import RedisClusterCache

MOST_ANSWERS: Final = 1_000  # in memory
LARGEST_ANSWER: Final = 256  # KiB of text, in memory
MOST_FILES: Final = 10_000
LOOK_EVERY: Final = 256  # files written between two looks for those that have expired
PART_FOR: Final = 60.0  # seconds after which a part that is being written belongs to a process that was killed
RETRY_AFTER: Final = 5.0  # seconds in which a store that did not answer is not asked

#: The types of LiteLLM's ``cache_params`` that hold exact answers.
TYPES: Final = ("local", "redis", "disk")
# Parameters of ``litellm.Cache`` that are not for Redis' client.
_NOT_REDIS: Final = frozenset(
    {
        "default_in_memory_ttl", "default_in_redis_ttl", "disk_cache_dir", "max_messages", "mode",
        "redis_startup_nodes", "similarity_threshold", "supported_call_types", "ttl", "type",
    }
)  # fmt: skip
_PART: Final = ".part"  # end of the name of a file that is being written
DISK_FOLDER: Final = "wallie-answers"


class AnswerStore(Protocol):
    """Keeps texts by key for a time. ``is_local``: it answers at once, without any waiting."""

    name: str
    is_local: bool

    async def get(self, key: str) -> str | None:
        """The text kept under ``key``."""

    async def put(self, key: str, text: str, ttl: float) -> None:
        """Keep ``text`` for ``ttl`` seconds."""


class MemoryAnswers:
    """LiteLLM's in-memory cache, of this process alone."""

    name = "memory"
    is_local = True

    def __init__(self) -> None:
        self._cache = InMemoryCache(max_size_in_memory=MOST_ANSWERS, max_size_per_item=LARGEST_ANSWER)

    async def get(self, key: str) -> str | None:
        """The text kept under ``key``."""
        found = self._cache.get_cache(key)
        return found[0] if isinstance(found, tuple) else None

    async def put(self, key: str, text: str, ttl: float) -> None:
        """Keep ``text`` for ``ttl`` seconds, unless it is too large."""
        if len(text) <= LARGEST_ANSWER * 1024:
            self._cache.delete_cache(key)  # LiteLLM's cache would keep the time of the older answer
            self._cache.set_cache(key, (text,), ttl=ttl)  # a tuple, which it does not parse


class RedisAnswers:
    """LiteLLM's Redis, with the parameters of its ``cache_params``.

    LiteLLM's connection is opened on a thread, since it waits for Redis for seconds; its client is used, whose errors
    LiteLLM's own methods take for a missing answer.
    """

    name = "redis"
    is_local = False

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        nodes = parameters.get("redis_startup_nodes") or json.loads(os.environ.get("REDIS_CLUSTER_NODES") or "[]")
        self._class = RedisClusterCache if nodes else RedisCache
        self._parameters = {name: value for name, value in parameters.items() if name not in _NOT_REDIS}
        if nodes:
            self._parameters["startup_nodes"] = nodes
        self._cache: Any = None
        self._lock = threading.Lock()
        self._opening: Future[Any] | None = None

    async def get(self, key: str) -> str | None:
        """The text kept under ``key``."""
        cache = await self._opened()
        found = await cache.init_async_client().get(cache.check_and_fix_namespace(key=key))
        return found.decode() if isinstance(found, bytes) else found

    async def put(self, key: str, text: str, ttl: float) -> None:
        """Keep ``text`` for ``ttl`` seconds, at least one."""
        cache = await self._opened()
        name = cache.check_and_fix_namespace(key=key)
        await cache.init_async_client().set(name, text, px=max(1, round(ttl * 1000)))

    async def _opened(self) -> Any:
        if self._cache is None:
            self._cache = await asyncio.shield(asyncio.wrap_future(self._opening_once()))
        return self._cache

    def _opening_once(self) -> Future[Any]:
        with self._lock:
            if self._opening is None:
                self._opening = Future()
                threading.Thread(target=self._open, args=(self._opening,), name="wallie-answers", daemon=True).start()
            return self._opening

    def _open(self, opened: Future[Any]) -> None:
        try:
            opened.set_result(self._class(**self._parameters))
        except Exception as error:  # noqa: BLE001 - of LiteLLM's or Redis' own; another request tries again
            self._opening = None
            opened.set_exception(error)


class DiskAnswers:
    """Files in a folder, one for each answer, that only the process' user may read.

    LiteLLM has no cache on disk since 1.110.
    """

    name = "disk"
    is_local = False

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._written = 0

    async def get(self, key: str) -> str | None:
        """The text kept under ``key``."""
        return await asyncio.to_thread(self._read, self._file(key))

    async def put(self, key: str, text: str, ttl: float) -> None:
        """Keep ``text`` for ``ttl`` seconds."""
        await asyncio.to_thread(self._write, self._file(key), f"{time.time() + ttl:.3f}\n{text}")

    def _file(self, key: str) -> Path:
        return self._folder / f"{key.rpartition(':')[2]}.json"

    @staticmethod
    def _read(file: Path) -> str | None:
        try:
            until, _, text = file.read_text(encoding="utf-8").partition("\n")
            return text if float(until) > time.time() else None
        except (FileNotFoundError, ValueError):  # the second: it holds no answer
            return None

    def _write(self, file: Path, text: str) -> None:
        if self._written % LOOK_EVERY == 0:
            self._clean()
        self._written += 1
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=_PART)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as part:
                part.write(text)
            Path(name).replace(file)
        except BaseException:  # a full disk, which parts that stay would keep full
            Path(name).unlink(missing_ok=True)
            raise

    def _clean(self) -> None:
        """Delete what has expired, the oldest above ``MOST_FILES``, and parts that killed processes have left."""
        left = []
        for file in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError):  # another process deletes too
                with file.open() as text:
                    until = float(text.readline())
                if until > time.time():
                    left.append((until, file))
                else:
                    file.unlink()
        for _, file in sorted(left)[: max(0, len(left) - MOST_FILES)]:
            file.unlink(missing_ok=True)
        for part in self._folder.glob(f"*{_PART}"):
            with contextlib.suppress(OSError):
                if part.stat().st_mtime < time.time() - PART_FOR:
                    part.unlink()


class BoundedStore:
    """A store that is waited for at most ``bound`` seconds, and not asked for a while after it did not answer."""

    def __init__(self, store: AnswerStore, bound: float) -> None:
        self._store = store
        self._bound = bound
        self._away_until = 0.0  # of time.monotonic
        self.failures = 0

    @property
    def name(self) -> str:
        """What the store is."""
        return self._store.name

    @property
    def is_local(self) -> bool:
        """Whether it answers at once."""
        return self._store.is_local

    @property
    def is_away(self) -> bool:
        """Whether it is not asked at present."""
        return time.monotonic() < self._away_until

    async def get(self, key: str) -> str | None:
        """The text kept under ``key``; ``None`` where the store does not answer."""
        if self._store.is_local:
            return await self._store.get(key)
        return None if self.is_away else await self._ask(self._store.get(key))

    async def put(self, key: str, text: str, ttl: float) -> None:
        """Keep ``text``, if the store answers."""
        if self._store.is_local:
            await self._store.put(key, text, ttl)
        elif not self.is_away:
            await self._ask(self._store.put(key, text, ttl))

    async def _ask(self, asked: Any) -> Any:
        try:
            async with asyncio.timeout(self._bound):
                return await asked
        except Exception:  # noqa: BLE001 - of Redis' client, of the file system, or late: a cache is no reason to fail
            self.failures += 1
            self._away_until = time.monotonic() + RETRY_AFTER
            return None


def type_of(parameters: Mapping[str, Any] | None) -> str:
    """The type of store that ``cache_params`` name; one in memory without any."""
    stated = (parameters or {}).get("type")
    return str(getattr(stated, "value", stated) or "local")


def open_store(parameters: Mapping[str, Any] | None, bound: float) -> BoundedStore:
    """The store of LiteLLM's ``cache_params``. It is waited for at most ``bound`` seconds.

    Raises:
        ValueError: its type is none of ``TYPES``.
        OSError: its folder cannot be made.
    """
    given, kind = dict(parameters or {}), type_of(parameters)
    if kind == "local":
        return BoundedStore(MemoryAnswers(), bound)
    if kind == "redis":
        return BoundedStore(RedisAnswers(given), bound)
    if kind == "disk":
        return BoundedStore(DiskAnswers(str(given.get("disk_cache_dir") or DISK_FOLDER)), bound)
    raise ValueError(f"found {kind!r}, expected one of {', '.join(TYPES)}: answers are found by their exact question")
