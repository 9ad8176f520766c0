"""Connections to the ledger's database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from math import log
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from wallie_litellm.config.values import mask_url
from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.forks import BARRIER

CONNECT_TIMEOUT: Final = 5.0  # seconds, to connect to PostgreSQL
COMMAND_TIMEOUT: Final = 30.0  # seconds, of a single statement
BUSY_TIMEOUT: Final = 5.0  # seconds that SQLite waits for another connection's lock

_MAGIC: Final = b"SQLite format 3\0"  # the first bytes of a SQLite database
_WRITES: Final = "wallie_writes"  # execution option of a transaction that writes


def open_engine(url: str, *, pool_size: int = 5, busy_timeout: float = BUSY_TIMEOUT) -> AsyncEngine:
    """An engine for ``sqlite:///file`` or ``postgresql://...``; nothing is connected yet. Dispose of it when done.

    An engine belongs to the event loop that it is first used in. ``busy_timeout`` is in seconds.

    Raises:
        ConfigError: the URL is invalid, or the driver is not installed.
    """
    parsed = _parsed(url)
    if parsed.drivername == "sqlite":
        return _sqlite(parsed, pool_size, busy_timeout)
    if parsed.drivername == "postgresql":
        return _postgresql(url, pool_size)
    raise ConfigError(
        [f"wallie.ledger.url: found {mask_url(url)!r}, expected a URL that begins with sqlite:/// or postgresql://"]
    )


def file_of(url: str) -> Path | None:
    """The file of a SQLite database; ``None`` for a server's."""
    parsed = _parsed(url)
    return Path(parsed.database).resolve() if parsed.drivername == "sqlite" and parsed.database else None


def missing_file(url: str) -> Path | None:
    """The file of a SQLite database that does not exist yet; ``None`` for one that does, or a server's database."""
    file = file_of(url)
    return None if file is None or file.exists() else file


def require_no_folder(url: str) -> None:
    """Refuse the URL of a SQLite database whose file is a folder; the driver would say so in a thread's traceback.

    Raises:
        ConfigError: it is one.
    """
    file = file_of(url)
    if file is not None and file.is_dir():
        raise ConfigError([f"wallie.ledger.url: {_parsed(url).database} is a folder, expected a file, or none yet"])


def is_other_file(file: Path) -> bool:
    """Whether ``file`` has content that does not begin as a SQLite database does."""
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(_MAGIC))
    except OSError:
        return False
    return bool(begins) and begins != _MAGIC


def inode_of(file: Path | None) -> tuple[int, int] | None:
    """Device and inode of ``file``; ``None`` for a server's database, and for a file that does not exist."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def identity_of(url: str) -> str:
    """A database's file, or its server, user and name; without a password."""
    return str(file_of(url) or _parsed(url).set(password=None))


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        _ = urlsplit(url).port  # the driver reads the port in this way
    except (ArgumentError, ValueError):
        raise ConfigError(
            [
                f"wallie.ledger.url: found {mask_url(url)!r}, expected a database URL; a / or : or @ in a password is "
                "written %2F, %3A, %40"
            ]
        ) from None
    return parsed


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes: SQLite takes its write lock at the beginning, so no later statement waits for it."""
    with BARRIER.transaction():
        async with engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                yield connection


def _sqlite(url: URL, pool_size: int, busy_timeout: float) -> AsyncEngine:
    if url.database in (None, "", ":memory:"):
        raise ConfigError(
            [
                "wallie.ledger.url: a database in memory is not shared between connections and gone with the process; "
                "name a file, such as sqlite:///wallie.db, or set 'ledger: null' to keep none"
            ]
        )
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=pool_size,
        hide_parameters=True,  # an error's text may end up in a log
        connect_args={"timeout": busy_timeout},
    )
    event.listen(engine.sync_engine, "do_connect", _prepare_place)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_place(_dialect: Any, _record: Any, arguments: list[Any], _keywords: dict[str, Any]) -> None:
    require_no_folder(f"sqlite:///{arguments[0]}")
    Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions itself, and not with the write lock
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")  # durable against crashes of this process
    cursor.close()
    connection.create_function("ln", 1, log, deterministic=True)  # not every SQLite has it, and PostgreSQL does


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _postgresql(url: str, pool_size: int) -> AsyncEngine:
    if find_spec("asyncpg") is None:
        raise ConfigError(["wallie.ledger.url: PostgreSQL needs a driver: pip install 'wallie-litellm[postgres]'"])

    async def connect(**_: Any) -> Any:
        import asyncpg  # type: ignore[import-untyped] # it has no stubs

        # The driver reads the URL as libpq would, sslmode and several hosts included, which SQLAlchemy does not.
        return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT, command_timeout=COMMAND_TIMEOUT)

    return create_async_engine(
        "postgresql+asyncpg://",
        pool_size=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"async_creator_fn": connect},
    )
