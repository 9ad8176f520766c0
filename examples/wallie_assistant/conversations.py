"""Conversations in SQLite. The guard's ledger has no text in it: what was said is the application's own to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

import aiosqlite

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS conversations (id INTEGER PRIMARY KEY, user TEXT NOT NULL, summary TEXT);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversations (id),
    role TEXT NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_of ON messages (conversation, id);
"""


class Conversations:
    """The conversations of one application, in one file."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file, creating it where there is none."""
        database = await aiosqlite.connect(path)
        database.row_factory = aiosqlite.Row
        await database.executescript(_SCHEMA)
        return cls(database)

    async def close(self) -> None:
        """Close the file."""
        await self._database.close()

    async def begin(self, user: str) -> int:
        """A new conversation's id."""
        cursor = await self._database.execute("INSERT INTO conversations (user) VALUES (?)", (user,))
        await self._database.commit()
        assert cursor.lastrowid is not None  # noqa: S101 - SQLite has one after an INSERT
        return cursor.lastrowid

    async def add(self, conversation: int, role: str, content: str) -> None:
        """Append a message."""
        await self._database.execute(
            "INSERT INTO messages (conversation, role, content) VALUES (?, ?, ?)", (conversation, role, content)
        )
        await self._database.commit()

    async def history(self, conversation: int) -> list[dict[str, str]]:
        """Its messages, oldest first; empty where there is no such conversation."""
        rows = await self._database.execute_fetchall(
            "SELECT role, content FROM messages WHERE conversation = ? ORDER BY id", (conversation,)
        )
        return [dict(row) for row in rows]

    async def summarised(self, conversation: int, summary: str) -> None:
        """Keep a summary."""
        await self._database.execute("UPDATE conversations SET summary = ? WHERE id = ?", (summary, conversation))
        await self._database.commit()

    async def all(self) -> list[dict[str, Any]]:
        """Every conversation with its ``id``, ``user``, ``summary`` and number of ``messages``, newest first."""
        rows = await self._database.execute_fetchall(
            "SELECT id, user, summary,"
            " (SELECT count(*) FROM messages WHERE conversation = conversations.id) AS messages"
            " FROM conversations ORDER BY id DESC"
        )
        return [dict(row) for row in rows]
