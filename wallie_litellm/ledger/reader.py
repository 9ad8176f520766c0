"""Opens an existing ledger for reading: creates nothing, and reports every failure in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.config.values import mask_url
from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.engine import missing_file, open_engine, require_no_folder
from wallie_litellm.ledger.migrations import version_of
from wallie_litellm.ledger.schema import VERSION


@asynccontextmanager
async def open_reader(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine for the ledger at ``url``, which is reachable and has the tables of this version.

    Raises:
        ConfigError: the ledger does not exist, cannot be reached, or was written by another version.
    """
    engine = open_engine(url)
    try:
        _require_file(url)
        _require_version(await _version(engine, url))
        yield engine
    finally:
        await engine.dispose()


def reason(error: BaseException) -> str:
    """The first line of a driver's error without SQLAlchemy's additions; of other errors the class.

    The text of other errors may quote a part of the URL, and so of a password.
    """
    if not isinstance(error, DBAPIError) or error.orig is None:
        return type(error).__name__
    cause = error.orig
    lines = str(cause.__cause__ or cause).splitlines()
    return lines[0] if lines else type(cause).__name__


def _require_file(url: str) -> None:
    require_no_folder(url)
    if missing_file(url):
        raise _problem(
            f"there is no file {make_url(url).database} yet; it is created when an application or the proxy starts "
            "(a relative path is looked up in the working directory)"
        )


async def _version(engine: AsyncEngine, url: str) -> int | None:
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(version_of)
    except Exception as error:
        shown = url if url.startswith("sqlite") else mask_url(url)
        raise _problem(f"{shown} cannot be read: {reason(error)}") from error


def _require_version(found: int | None) -> None:
    if found is None:
        raise _problem(
            "the database has no ledger in it yet; its tables are created when an application or the proxy starts"
        )
    if found > VERSION:
        raise _problem(
            f"the database has version {found} of the ledger's tables and this version of wallie-litellm supports "
            f"version {VERSION}; upgrade wallie-litellm, or name another database"
        )
    if found < VERSION:
        raise _problem(
            f"the database has version {found} of the ledger's tables, which are brought to version {VERSION} when a "
            "router or proxy of this version writes its first record"
        )


def _problem(text: str) -> ConfigError:
    return ConfigError([f"wallie.ledger.url: {text}"])
