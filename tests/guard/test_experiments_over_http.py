"""Experiments over real HTTP and with a real ledger: arms of users, fallbacks, restarts, the guardrail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ledger_support import rows
from sqlalchemy import select
from support import assert_nothing_leaked, messages, shipped_config, wait_until

from wallie_litellm import WallieRouter, bootstrap, execute_ai_request, stream_ai_request
from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import parse_config
from wallie_litellm.ledger.schema import attempts, feedback, requests
from wallie_litellm.simulator import SimulatedProviders

ARMS = {"gpt-4o-mini": 0.5, "claude-sonnet-4": 0.5}
USERS = [f"user-{number}" for number in range(12)]
Make = Callable[..., WallieRouter]
Start = Callable[..., Any]


@pytest.fixture
def start(make_router: Make, tmp_path: Path) -> Start:
    """Starts a router as a process would, with the ledger that the ones before it have left."""

    @contextmanager
    def begin(**stated: Any) -> Iterator[WallieRouter]:
        data = shipped_config()
        experiment = {"feature": "chat", "arms": ARMS, "metric": "cost", **stated}
        data["wallie"] |= {
            "ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"},
            "telemetry": {"spool": str(tmp_path / "spool")},
            "features": {"chat": {}},
            "experiments": {"m": experiment},
            "retry": {"max_retries": 0},
            "breaker": {"failures": 1000},
        }
        router = make_router(data=data, guard=open_guard(parse_config(data)))
        try:
            yield router
        finally:
            router.guard.close()

    return begin


def ask(router: WallieRouter, user: str, **arguments: Any) -> Any:
    return execute_ai_request(router, "gpt-4o-mini", messages("hi"), feature="chat", user_id=user, **arguments)


def recorded(tmp_path: Path) -> list[Any]:
    return rows(f"sqlite:///{tmp_path}/wallie.db", select(requests).order_by(requests.c.at))


async def test_users_keep_their_arm_in_calls_streams_and_after_a_restart(
    start: Start, fleet: SimulatedProviders, tmp_path: Path
) -> None:
    with start() as router:
        first = {user: (await ask(router, user)).model for user in USERS}
        assert set(first.values()) == set(ARMS)
        for user in USERS[:4]:
            stream = stream_ai_request(
                router, model="gpt-4o-mini", messages=messages("hi"), feature="chat", user_id=user
            )
            assert "".join([delta async for delta in stream])
            assert stream.result is not None
            assert stream.result.model == first[user]
            plain = await router.acompletion(
                model="gpt-4o-mini", messages=messages("hi"), metadata={"feature": "chat", "user_id": user}
            )
            assert plain._hidden_params["additional_headers"]["x-wallie-model-group"] == first[user]
        assert_nothing_leaked(router)
    with start() as router:
        assert {user: (await ask(router, user)).model for user in USERS} == first
        left_alone = await ask(router, USERS[0], experiment=False)
        assert left_alone.model == "gpt-4o-mini"
    assert all("experiment" not in body for body in fleet["openai"].bodies())
    found = await asyncio.to_thread(recorded, tmp_path)
    assert {(row.experiment, row.arm == row.model, bool(row.unit)) for row in found[:-1]} == {("m", True, True)}
    assert (found[-1].experiment, found[-1].arm) == (None, None)
    assert {row.arm: row.requested for row in found[:-1]} == {"gpt-4o-mini": None, "claude-sonnet-4": "gpt-4o-mini"}
    assert all(row.why == f"arm {row.arm} of m by user" for row in found[:-1])


async def test_who_falls_back_stays_in_the_arm_and_is_answered_by_the_rest_of_the_chain(
    start: Start, fleet: SimulatedProviders, tmp_path: Path
) -> None:
    fleet["anthropic"].fail(status=500)
    with start() as router:
        results = [await ask(router, user) for user in USERS]
        router.guard.feedback(results[0].request_id, 0.5)
    assert {result.model for result in results} == {"gpt-4o-mini"}
    found = await asyncio.to_thread(recorded, tmp_path)
    assert {(row.arm, row.success, row.used_fallback) for row in found} == {
        ("gpt-4o-mini", True, False),
        ("claude-sonnet-4", True, True),
    }
    url = f"sqlite:///{tmp_path}/wallie.db"
    (given,) = await asyncio.to_thread(rows, url, select(feedback))
    assert given.request_id == found[0].request_id
    spent = {row.request_id: row.cost_usd for row in await asyncio.to_thread(rows, url, select(attempts))}
    assert all(row.cost_usd == pytest.approx(spent[row.request_id] or 0.0) for row in found if not row.used_fallback)


async def test_an_arm_that_fails_is_stopped_and_its_users_go_to_the_other(
    start: Start, fleet: SimulatedProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "EXPERIMENTS_EVERY", 0.05)
    fleet["anthropic"].fail(status=500)
    with start(stop_arm_above={"error_rate": 0.1}) as router:
        for number in range(70):
            await ask(router, f"u{number}")
        experiment = router.guard.routing.experiments
        assert experiment is not None
        await asyncio.to_thread(wait_until, lambda: bool(experiment.by_name["m"].standing.stopped), 30.0)
        assert experiment.by_name["m"].standing.stopped == {"claude-sonnet-4"}
        before = len(fleet["anthropic"].bodies())
        for number in range(10):
            await ask(router, f"u{number}")
        assert len(fleet["anthropic"].bodies()) == before
    with start(stop_arm_above={"error_rate": 0.1}) as router:
        await ask(router, "u1")
        assert len(fleet["anthropic"].bodies()) == before


async def test_switched_off_requests_go_where_they_say(start: Start) -> None:
    with start() as router:
        router.guard.switch("experiments", on=False)
        assert {(await ask(router, user)).model for user in USERS} == {"gpt-4o-mini"}
        router.guard.switch("experiments", on=True)
        assert {(await ask(router, user)).model for user in USERS} == set(ARMS)


async def test_a_caller_that_may_not_use_every_arm_is_left_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with start() as router:

        async def may_not(request: Any) -> bool:
            return bool(request.context.route.plan.experiment is None)

        monkeypatch.setitem(vars(router), "_may_have_arms", may_not)
        for user in USERS:
            metadata = {"feature": "chat", "user_id": user}
            answer = await router.acompletion(model="gpt-4o-mini", messages=messages("hi"), metadata=metadata)
            assert answer._hidden_params["additional_headers"]["x-wallie-model-group"] == "gpt-4o-mini"
    found = await asyncio.to_thread(recorded, tmp_path)
    assert {(row.experiment, row.arm) for row in found} == {(None, None)}
    assert not any(row.used_fallback for row in found)
