"""Faulty providers, and routers whose defaults are ten times as fast."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import litellm
import pytest
from failover_rows import (
    BACKUPS,
    MESSAGES,
    MODELS,
    SCALE,
    SLACK,
    TEXT,
    Received,
    Row,
    configuration,
    kinds,
    pick,
    several,
)
from support import assert_nothing_leaked, until
from turns import Turns

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.guard import Guard
from wallie_litellm.simulator import SimulatedProviders

UNLIMITED: dict[str, Any] = {"rpm": None, "tpm": None, "rpd": None}
TO_OPEN = 5  # failures that open a circuit
PROVIDERS = ("openai", "anthropic", "gemini", "groq", "deepseek")


@pytest.fixture(scope="session", autouse=True)
def quiet_litellm() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litellm, "suppress_debug_info", True)
        # Without it LiteLLM blocks its event loop for 23 s per llama stream, trying to download a tokenizer.
        patch.setattr(litellm, "disable_hf_tokenizer_download", True)
        yield


@pytest.fixture(scope="session")
def running_fleet(quiet_litellm: None) -> Iterator[SimulatedProviders]:
    with SimulatedProviders(dict.fromkeys(PROVIDERS, UNLIMITED), text=TEXT) as fleet:
        asyncio.run(_call_each(fleet))
        yield fleet


async def _call_each(fleet: SimulatedProviders) -> None:
    """LiteLLM imports much with a vendor's first call, which no row is to wait for."""
    fleet["openai"].fail(400, times=1)  # what it needs for an error, too
    for model in ("openai/gpt-4o-mini", *MODELS.values()):
        where = {"api_base": fleet[model.partition("/")[0]].api_base, "api_key": "sk-simulated", "num_retries": 0}
        for stream in (False, True):
            with contextlib.suppress(litellm.BadRequestError):
                answer = await litellm.acompletion(model, MESSAGES, stream=stream, **where)
                if stream:
                    async for _ in answer:
                        pass


@pytest.fixture(scope="session")
def clock() -> Iterator[Turns]:
    with Turns() as clock:
        yield clock


@pytest.fixture
def open_router() -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Routers over the addresses that a configuration names."""
    made: list[Any] = []

    def make(data: dict[str, Any], bus: Any = None) -> Any:
        config = parse_config(data)
        router = build_router(config, guard=Guard(config.wallie, bus=bus))
        made.append(router)
        return router

    yield make
    for router in made:
        router.guard.close()


@pytest.fixture
def judge(make_router: Any, fleet: SimulatedProviders, clock: Turns) -> Callable[..., Awaitable[None]]:
    """Makes the requests of a row, and checks everything that the row says."""

    async def run(row: Row, *, at_once: bool, whole: bool = False, stream: bool = False) -> None:
        router = make_router(data=configuration(row))
        asked = kinds(whole=whole, stream=stream, at_once=at_once)
        row.fault(fleet)
        answers = await several(router, row, asked, at_once=at_once, clock=clock)
        _check_answers(row, answers)
        _check_calls(row, fleet, len(asked), at_once)
        assert max(answer.seconds for answer in answers) <= pick(row.within, at_once) / SCALE + SLACK
        await _check_rest(row, router, fleet, at_once)

    return run


def _check_answers(row: Row, answers: list[Received]) -> None:
    """Each caller has the whole answer, or one clean error."""
    for answer in answers:
        if row.error is None:
            assert (answer.error, answer.text) == (None, TEXT)
        else:
            assert isinstance(answer.error, row.error), f"{answer.error!r} after {answer.text!r}"
            assert row.delivered.startswith(answer.text)
            assert bool(answer.text) == bool(row.delivered)  # a cut may overtake the last words
            assert row.status is None or getattr(answer.error, "status_code", None) == row.status


def _check_calls(row: Row, fleet: SimulatedProviders, requests: int, at_once: bool) -> None:
    """Each provider was asked as often as the row says, those that it does not name never."""
    expected = {"openai": row.primary, **{BACKUPS[group]: calls for group, calls in row.others.items()}}
    for name in fleet:
        calls, received = pick(expected.get(name, 0), at_once), fleet[name].counts().received
        if callable(calls):
            calls = calls(requests)
        if at_once and name == "openai" and row.circuit == "open" and isinstance(calls, int):
            calls = range(min(calls, TO_OPEN), calls + 1)  # on a busy machine the last may find the circuit open
        assert received in calls if isinstance(calls, range) else received == calls, f"{name}: {received} calls"


async def _check_rest(row: Row, router: Any, fleet: SimulatedProviders, at_once: bool) -> None:
    """The breaker says what happened, and neither a reservation nor a connection is left over."""
    if at_once:
        assert router.guard.status()["providers"]["openai"]["breaker"]["state"] == row.circuit
    assert_nothing_leaked(router)
    await until(lambda: not any(fleet[name].counts().in_flight for name in fleet))
