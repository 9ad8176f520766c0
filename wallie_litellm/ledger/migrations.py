"""Creating the ledger's tables and moving those of an earlier version forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, inspect, select, text, update

from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.schema import VERSION, metadata, schema_version

Step = Callable[[Connection], None]

STEPS: Mapping[int, Step] = {}
"""What moves the tables from the version that is the key to the next one."""

_LOCK = 0x57414C4C  # an advisory lock's number on PostgreSQL: any, as long as it stays the same


def migrate(connection: Connection, steps: Mapping[int, Step] = STEPS, version: int = VERSION) -> None:
    """Bring the tables to ``version``, by several processes at once if need be.

    To be called in a transaction begun by ``engine.writing``; ``await connection.run_sync(migrate)`` does.

    Raises:
        ConfigError: a later version of this package has been here.
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
                f"wallie-litellm knows version {version}; upgrade wallie-litellm, or name another database"
            ]
        )
    for number in range(found, version):
        steps[number](connection)
    metadata.create_all(connection)  # what somebody has removed
    if found < version:
        connection.execute(update(schema_version).values(version=version))


def version_of(connection: Connection) -> int | None:
    """The version of the tables, or ``None`` where there are none."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.scalar(select(schema_version.c.version))
