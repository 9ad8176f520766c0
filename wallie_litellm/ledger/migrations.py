"""Creates the ledger's tables and converts those of an earlier version."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, inspect, select, text, update

from wallie_litellm.clock import DAY
from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.schema import VERSION, metadata, requests, schema_version, usage

Step = Callable[[Connection], None]

# Columns of version 2, with defaults that both databases add without touching a row.
_SECOND: Final = {
    "wallie_schema": ("created INTEGER NOT NULL DEFAULT 1",),
    "wallie_attempts": (
        "first_token_ms FLOAT(53)",
        "cache_write_tokens BIGINT",
        "estimated_input BIGINT",
        "estimated_output BIGINT",
        "scope VARCHAR(200)",
    ),
    "wallie_transitions": ("model VARCHAR(200) NOT NULL DEFAULT ''",),
    "wallie_actions": ("model VARCHAR(200) NOT NULL DEFAULT ''",),
    "wallie_usage": (
        "first_tokens BIGINT NOT NULL DEFAULT 0",
        "first_token_ms FLOAT(53) NOT NULL DEFAULT 0",
        "cache_write_tokens BIGINT NOT NULL DEFAULT 0",
    ),
}


# Columns of version 3.
_THIRD: Final = {
    "wallie_attempts": ("hedge BOOLEAN NOT NULL DEFAULT '0'",),
    "wallie_requests": (
        "cost_usd FLOAT(53)",
        "requested VARCHAR(200)",
        "tier VARCHAR(200)",
        "experiment VARCHAR(200)",
        "arm VARCHAR(200)",
        "unit VARCHAR(16)",
        "auto_tier VARCHAR(200)",
        "auto_saved_usd FLOAT(53)",
        "planned VARCHAR(200)",
        "hedged BOOLEAN NOT NULL DEFAULT '0'",
        "wasted_usd FLOAT(53) NOT NULL DEFAULT 0",
        "cache_hit BOOLEAN NOT NULL DEFAULT '0'",
        "saved_usd FLOAT(53)",
        "why TEXT",
    ),
    "wallie_usage": (
        "hedged BIGINT NOT NULL DEFAULT 0",
        "wasted_usd FLOAT(53) NOT NULL DEFAULT 0",
        "saved_usd FLOAT(53) NOT NULL DEFAULT 0",
        "auto_saved_usd FLOAT(53) NOT NULL DEFAULT 0",
    ),
}

# Columns of version 4.
_FOURTH: Final = {
    "wallie_attempts": ("proxy_key VARCHAR(200) NOT NULL DEFAULT ''",),
    "wallie_requests": ("proxy_key VARCHAR(200) NOT NULL DEFAULT ''",),
}

# Column of version 5.
_FIFTH: Final = {"wallie_schema": ("totals_from BIGINT NOT NULL DEFAULT 0",)}

_ROLLING: Final = 2  # midnights in UTC, the second of which ends an upgrade that goes from process to process


def _to_second(connection: Connection) -> None:
    """Add what version 2 records. The histograms of version 1 stay where they are: queries read them beside the new.

    So the step takes milliseconds whatever the number of rows, and a process of version 1 that is still running writes
    on until it ends.
    """
    _add_columns(connection, _SECOND)


def _to_third(connection: Connection) -> None:
    """Add what version 3 records: what routing decided of a request. No row is touched."""
    _add_columns(connection, _THIRD)
    for index in requests.indexes if inspect(connection).has_table(requests.name) else ():
        index.create(connection, checkfirst=True)


def _to_fourth(connection: Connection) -> None:
    """Add the proxy's virtual key. No row is touched, and sums by key begin with what is written from now on."""
    _add_columns(connection, _FOURTH)


def _to_fifth(connection: Connection) -> None:
    """Begin the coarse views of the sums. No row is touched: until then queries add up those by model, as before.

    They are read from the midnight after the next on, since a process of an earlier version that is still running
    writes none.
    """
    _add_columns(connection, _FIFTH)
    connection.execute(update(schema_version).values(totals_from=(int(time.time()) // DAY + _ROLLING) * DAY))


def _add_columns(connection: Connection, added: Mapping[str, Sequence[str]]) -> None:
    found = inspect(connection)
    tables = found.get_table_names()
    for table, columns in added.items():
        if table not in tables:  # one that was removed is created anew
            continue
        known = {column["name"] for column in found.get_columns(table)}  # of tables that were stated an earlier version
        for column in columns:
            if column.partition(" ")[0] not in known:
                connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {column}"))


# Version → the step that converts its tables to the next version.
STEPS: Final[Mapping[int, Step]] = {1: _to_second, 2: _to_third, 3: _to_fourth, 4: _to_fifth}

_LOCK: Final = 0x57414C4C  # number of an advisory lock on PostgreSQL: arbitrary but constant


def migrate(connection: Connection, steps: Mapping[int, Step] = STEPS, version: int = VERSION) -> None:
    """Bring the tables to ``version``; several processes may do so at once.

    To be called in a transaction begun by ``engine.writing``; ``await connection.run_sync(migrate)`` does.

    Raises:
        ConfigError: a later version of this package wrote the tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    found = version_of(connection)
    if found is None:
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=version, created=version))
        return
    if found > version:
        raise ConfigError(
            [
                f"wallie.ledger.url: the database has version {found} of the ledger's tables and this version of "
                f"wallie-litellm supports version {version}; upgrade wallie-litellm, or name another database"
            ]
        )
    for number in range(found, version):
        steps[number](connection)
    if not inspect(connection).has_table(usage.name):
        connection.execute(update(schema_version).values(created=version, totals_from=0))
    metadata.create_all(connection)  # tables that are new, or were removed
    if found < version:
        connection.execute(update(schema_version).values(version=version))


def version_of(connection: Connection) -> int | None:
    """The version of the tables, or ``None`` where there are none."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.scalar(select(schema_version.c.version))
