"""Where answers are kept, with LiteLLM's cache, a real Redis and real files."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path
from typing import Any

import litellm
import pytest
from ports import free_port
from redis_support import RedisServer

from wallie_litellm.litellm_adapter import answer_store
from wallie_litellm.litellm_adapter.answer_store import PART_FOR, BoundedStore, DiskAnswers, MemoryAnswers, open_store

BOUND = 10.0  # seconds: a busy machine is no reason to find nothing


@pytest.fixture(scope="module")
def redis() -> Any:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["local", "redis", "disk"])
def parameters(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "redis":
        server = request.getfixturevalue("redis")
        return {"type": "redis", "host": "127.0.0.1", "port": server.port, "namespace": "ns", "mode": "default_off"}
    return {"type": request.param, "disk_cache_dir": str(tmp_path / "answers")}


def registered() -> tuple[Any, ...]:
    return litellm.cache, *map(tuple, (litellm.input_callback, litellm.success_callback, litellm.callbacks))


async def test_a_text_is_found_until_its_time_is_over_and_litellm_has_no_cache_of_its_own(
    parameters: dict[str, Any],
) -> None:
    before = registered()
    store = open_store(parameters, BOUND)
    assert await store.get("wallie:answer:a") is None
    await store.put("wallie:answer:a", '{"x": "Größe"}', 60)
    await store.put("wallie:answer:b", "b", 0.05)
    assert await store.get("wallie:answer:a") == '{"x": "Größe"}'
    assert await open_store(parameters, BOUND).get("wallie:answer:a") == (
        None if parameters["type"] == "local" else '{"x": "Größe"}'
    )
    await asyncio.sleep(0.1)
    assert await store.get("wallie:answer:b") is None
    await store.put("wallie:answer:a", "new", 60)
    assert await store.get("wallie:answer:a") == "new"
    assert store.failures == 0
    assert registered() == before


async def test_a_redis_that_is_away_is_waited_for_within_the_bound_and_then_not_asked() -> None:
    store = open_store({"type": "redis", "host": "127.0.0.1", "port": free_port()}, 0.05)
    assert await store.get("a") is None
    assert (store.is_away, store.failures) == (True, 1)
    await store.put("a", "x", 60)
    assert await store.get("a") is None
    assert store.failures == 1


async def test_a_store_that_hangs_costs_the_bound_once() -> None:
    class Hanging(MemoryAnswers):
        is_local = False
        asked = 0

        async def get(self, key: str) -> str | None:
            self.asked += 1
            await asyncio.sleep(3600)
            return None

    inner = Hanging()
    store = BoundedStore(inner, 0.01)
    for _ in range(3):
        assert await store.get("a") is None
    assert inner.asked == 1


async def test_answers_in_memory_are_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_store, "MOST_ANSWERS", 3)
    store = MemoryAnswers()
    for number in range(5):
        await store.put(str(number), "x", 60)
    assert sum([await store.get(str(number)) is not None for number in range(5)]) == 3
    await store.put("large", "x" * (answer_store.LARGEST_ANSWER * 1024 + 1), 60)
    assert await store.get("large") is None


async def test_files_are_the_users_alone_and_go_when_they_have_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "LOOK_EVERY", 1)
    monkeypatch.setattr(answer_store, "MOST_FILES", 2)
    folder = tmp_path / "answers"
    store = DiskAnswers(str(folder))
    await store.put("wallie:answer:old", "x", -1)
    for number in range(4):
        await store.put(f"wallie:answer:{number}", "x", 60 + number)
    assert sorted(file.name for file in folder.iterdir()) == ["1.json", "2.json", "3.json"]
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())


async def test_a_file_that_cannot_be_read_is_no_answer_and_one_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BoundedStore(DiskAnswers(str(tmp_path)), BOUND)
    for name, content in (("text", b"no time\n{}"), ("bytes", b"\xff\xfe")):
        (tmp_path / f"{name}.json").write_bytes(content)
        assert await store.get(f"wallie:answer:{name}") is None
    assert not store.is_away

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    await store.put("wallie:answer:new", "x", 60)
    assert store.is_away
    assert sorted(os.listdir(tmp_path)) == ["bytes.json", "text.json"]


@pytest.mark.parametrize("kind", ["qdrant-semantic", "redis-semantic", "s3"])
def test_a_cache_that_does_not_find_answers_by_their_exact_question_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=f"found '{kind}', expected one of local, redis, disk"):
        open_store({"type": kind}, BOUND)


async def test_parts_that_a_killed_process_has_left_are_deleted_but_none_that_is_being_written(tmp_path: Path) -> None:
    left, young = tmp_path / "left.part", tmp_path / "young.part"
    for part in (left, young):
        part.write_text("half an ans")
    os.utime(left, (time.time() - PART_FOR - 1,) * 2)
    await open_store({"type": "disk", "disk_cache_dir": str(tmp_path)}, BOUND).put("wallie:answer:a", "a", 60)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "young.part"]


def test_without_parameters_answers_are_kept_in_memory() -> None:
    assert open_store(None, BOUND).name == "memory"
