"""A ledger whose database cannot be written: requests go on, one line is logged, and the records are spooled."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_support import PostgresServer, assert_sums_are_right, fetch, rows
from sqlalchemy import select
from support import messages, shipped_config

from wallie_litellm.bootstrap import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.ledger.schema import attempts, requests
from wallie_litellm.ledger.writer import LedgerSink

SCRIPT = """
import asyncio, os, resource
{before}
from wallie_litellm import build_router
router = build_router("router_config.yaml")
async def main():
    for _ in range(3):
        await router.acompletion("gpt-4o-mini", [{{"role": "user", "content": "Hello there"}}])
asyncio.run(main())
print("served")
"""
# Root may write everywhere, as long as it has its capabilities: this gives all of them up.
WITHOUT_RIGHTS = """
import ctypes
if os.geteuid() == 0:
    ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
"""


def complaints(home) -> list[str]:
    return [line for line in home.output.splitlines() if "cannot be written to" in line]


def serve(home, before: str) -> None:
    assert home.run(SCRIPT.format(before=before)) == 0, home.output
    assert "served" in home.output, home.output
    assert len(complaints(home)) == 1, home.output
    assert "the ledger at sqlite:///" in complaints(home)[0]


def a_folder_without_write_permission(folder: Path) -> str:
    (folder / "database").mkdir(mode=0o555)
    return WITHOUT_RIGHTS


def a_file_without_write_permission(folder: Path) -> str:
    (folder / "database").mkdir()
    (folder / "database" / "wallie.db").touch(mode=0o444)
    (folder / "database").chmod(0o555)
    return WITHOUT_RIGHTS


def a_file_in_place_of_the_folder(folder: Path) -> str:
    (folder / "database").write_text("not a folder")
    return ""


def a_disk_without_room(folder: Path) -> str:
    return "resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))"


PREPARATIONS = [
    a_folder_without_write_permission,
    a_file_without_write_permission,
    a_file_in_place_of_the_folder,
    a_disk_without_room,
]


@pytest.mark.parametrize("prepare", PREPARATIONS)
def test_requests_go_on_where_the_ledger_cannot_be_written(home, fleet, prepare) -> None:
    home.configure(fleet, ledger={"url": "sqlite:///database/wallie.db"})
    serve(home, prepare(home.folder))
    assert fleet["openai"].counts().received == 3
    assert "lost" not in home.output
    _mend(home.folder)
    url = f"sqlite:///{home.folder}/database/wallie.db"
    LedgerSink(url, next((home.folder / "wallie-spool").glob("ledger-*")), worker="next", retention=86_400.0).close(30)
    assert len(rows(url, select(attempts.c.id))) == len(rows(url, select(requests.c.id))) == 3
    assert_sums_are_right(url)


def _mend(folder: Path) -> None:
    database = folder / "database"
    if database.is_file():
        database.unlink()
    elif database.exists():
        database.chmod(0o700)
        for file in database.iterdir():
            file.chmod(0o600)


async def test_a_router_writes_its_ledger_in_postgresql(postgres: PostgresServer, fleet, tmp_path) -> None:
    data = shipped_config()
    url = postgres.new_database()
    data["wallie"] |= {
        "ledger": {"url": url},
        "telemetry": {"spool": str(tmp_path / "spool")},
        "retry": {"max_retries": 0},
    }
    config = parse_config(data)
    router = build_router(config, model_list=fleet.point(config.model_list))
    fleet["openai"].fail(500, times=1)
    asked = {"feature": "wallie-chat", "user_id": "u1", "conversationId": "123"}
    for _ in range(2):
        await router.acompletion("gpt-4o-mini", messages(), metadata=dict(asked))
    async for _ in await router.acompletion("gpt-4o-mini", messages(), stream=True, metadata=dict(asked)):
        pass
    await router.guard.aclose()
    found = await fetch(url, select(attempts).order_by(attempts.c.id))
    outcomes = [(row.provider, row.outcome, row.stream) for row in found]
    assert outcomes == [
        ("openai", "rejected", False),
        ("anthropic", "success", False),
        ("openai", "success", False),
        ("openai", "success", True),
    ]
    ended = await fetch(url, select(requests))
    assert [row.success for row in ended] == [True, True, True]
    assert {row.request_id for row in found} == {row.request_id for row in ended}
    for row in (*found, *ended):
        assert (row.feature, row.user_id, row.metadata) == ("wallie-chat", "u1", {"conversationId": "123"})
    assert router.guard.status()["sinks"]["ledger"]["delivered"] >= len(found) + len(ended)
