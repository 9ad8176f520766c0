"""Engines and database URLs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from ledger_support import PostgresServer, fetch
from sqlalchemy import text

from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.engine import missing_file, open_engine


async def test_a_missing_directory_is_created_when_the_database_is_first_used(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/not/yet/wallie.db"
    engine = open_engine(url)
    assert not (tmp_path / "not").exists()
    await engine.dispose()
    assert [tuple(row) for row in await fetch(url, text("PRAGMA journal_mode"))] == [("wal",)]
    assert (tmp_path / "not" / "yet" / "wallie.db").exists()


def test_only_a_file_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "wallie.db"
    assert missing_file(f"sqlite:///{file}") == file
    file.touch()
    assert missing_file(f"sqlite:///{file}") is None
    assert missing_file("postgresql://localhost/db") is None


async def test_a_folder_in_the_place_of_the_file_is_refused_when_the_database_is_used(tmp_path: Path) -> None:
    (tmp_path / "wallie.db").mkdir()
    with pytest.raises(ConfigError, match="is a folder, expected a file, or none yet"):
        await fetch(f"sqlite:///{tmp_path}/wallie.db", text("SELECT 1"))


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"pip install 'wallie-litellm\[postgres\]'"):
        open_engine("postgresql://localhost/db")


def test_a_url_with_libpqs_parameters_is_accepted(postgres: PostgresServer) -> None:
    """What hosting services hand out; the server speaks no TLS, so only some modes can work."""
    url = postgres.new_database()
    (row,) = asyncio.run(fetch(f"{url}?sslmode=prefer&application_name=wallie", text("SHOW application_name")))
    assert tuple(row) == ("wallie",)
