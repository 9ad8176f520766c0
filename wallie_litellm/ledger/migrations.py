"""Creates the ledger's tables and converts those of an earlier version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, inspect, select, text, update

from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.schema import VERSION, metadata, schema_version

Step = Callable[[Connection], None]

STEPS: Final[Mapping[int, Step]] = {}  # version → the step that converts its tables to the next version

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
        connection.execute(schema_version.insert().values(version=version))
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
    metadata.create_all(connection)  # tables that were removed
    if found < version:
        connection.execute(update(schema_version).values(version=version))


def version_of(connection: Connection) -> int | None:
    """The version of the tables, or ``None`` where there are none."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.scalar(select(schema_version.c.version))
