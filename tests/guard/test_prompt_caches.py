"""The vendors' caches of prompts, over real HTTP: which vendor is sent marks, and who stays with a warm one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from drop_in.actions import PROMPT
from drop_in.routers import our_router
from drop_in.upstream import Fault, Upstream, failing
from litellm import ServiceUnavailableError

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.simulator import SimulatedProvider

MESSAGES = [{"role": "system", "content": "s" * 40}, {"role": "user", "content": "hi"}]
CHAT = {"metadata": {"feature": "chat"}}
MARK = {"type": "ephemeral"}
LIMITED = Fault(429, "rate_limited", headers={"retry-after": "20"})


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, SimulatedProvider]]:
    with SimulatedProvider("openai") as openai, SimulatedProvider("anthropic") as anthropic:
        yield {"openai": openai, "anthropic": anthropic}


@pytest.fixture
def router(providers: dict[str, SimulatedProvider]) -> Iterator[Any]:
    for provider in providers.values():
        provider.restore()
    models = {"o": "openai/gpt-4o-mini", "c": "anthropic/claude-sonnet-4-5"}
    config = parse_config(
        {
            "model_list": [
                {
                    "model_name": group,
                    "litellm_params": {
                        "model": model, "api_base": providers[model.partition("/")[0]].api_base, "api_key": "sk-x"
                    },
                }
                for group, model in models.items()
            ],
            "router_settings": {"fallbacks": [{"o": ["c"]}]},
            "wallie": {
                "features": {
                    "chat": {"prompt_cache": True},
                    "last": {"prompt_cache": [{"location": "message", "index": -1}]},
                },
                "retry": {"max_retries": 0},
                "ledger": None,
            },
        }
    )  # fmt: skip
    router = build_router(config)
    yield router
    router.guard.close()


async def test_the_systems_message_is_marked_where_the_vendor_goes_by_marks_and_nowhere_else(
    router: Any, providers: dict[str, SimulatedProvider]
) -> None:
    sent = [dict(message) for message in MESSAGES]
    await router.acompletion("o", sent, **CHAT)
    await router.acompletion("c", sent, **CHAT)
    await router.acompletion("c", sent, stream=True, **CHAT)
    await router.acompletion("c", sent)
    assert providers["openai"].bodies()[0]["messages"] == MESSAGES
    marked, streamed, plain = providers["anthropic"].bodies()
    for body in (marked, streamed):
        assert body["system"] == [{"type": "text", "text": "s" * 40, "cache_control": MARK}]
        assert "cache_control" not in str(body["messages"])
    assert "cache_control" not in str(plain)
    assert sent == MESSAGES


async def test_the_places_are_the_files_on_both_of_anthropics_ways(
    router: Any, providers: dict[str, SimulatedProvider]
) -> None:
    await router.acompletion("c", MESSAGES, metadata={"feature": "last"})
    await router.aanthropic_messages(
        model="c", system="s", messages=[{"role": "user", "content": "hi"}], max_tokens=9,
        litellm_metadata={"feature": "chat"},
    )  # fmt: skip
    last, native = providers["anthropic"].bodies()
    assert last["messages"][-1]["content"] == [{"type": "text", "text": "hi", "cache_control": MARK}]
    assert native["system"] == [{"type": "text", "text": "s", "cache_control": MARK}]


async def test_a_fallback_is_marked_as_its_own_vendor_wants_it(
    router: Any, providers: dict[str, SimulatedProvider]
) -> None:
    providers["openai"].fail(times=1)
    await router.acompletion("o", MESSAGES, **CHAT)
    assert "cache_control" not in str(providers["openai"].bodies()[0])
    assert providers["anthropic"].bodies()[0]["system"][0]["cache_control"] == MARK


async def test_what_the_caller_marks_itself_goes_before_the_file(
    router: Any, providers: dict[str, SimulatedProvider]
) -> None:
    points = [{"location": "message", "index": -1}]
    await router.acompletion("c", MESSAGES, cache_control_injection_points=points, **CHAT)
    [body] = providers["anthropic"].bodies()
    assert "cache_control" not in str(body["system"])
    assert body["messages"][-1]["content"][0]["cache_control"] == MARK


def two_keys(upstream: Upstream) -> list[dict[str, Any]]:
    return [
        {
            "model_name": "m",
            "litellm_params": {
                "model": "openai/gpt-4o", "api_base": upstream.base(account) + "/v1", "api_key": f"sk-{account}"
            },
            "model_info": {"id": account},
        }
        for account in ("a", "b")
    ]  # fmt: skip


async def ask(router: Any, session: str) -> str:
    answer = await router.acompletion("m", PROMPT, metadata={"session_id": session})
    return str(answer.choices[0].message.content)


async def test_a_session_stays_with_the_key_whose_vendor_has_its_prompt(upstream: Upstream) -> None:
    upstream.prepare({})
    async with our_router(two_keys(upstream), 0, {"routing": {"warm_prefix": True}}) as router:
        served = {session: {await ask(router, session) for _ in range(5)} for session in map(str, range(8))}
        figures = router.guard.status()["routing"]["warm_prefix"]
    assert all(len(by) == 1 for by in served.values())
    assert figures == {"prefixes": 8, "kept": 32, "moved": 0}


async def test_a_pause_goes_before_a_warm_prompt(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED, ...]})
    async with our_router(two_keys(upstream), 3, {"routing": {"warm_prefix": True}}) as router:
        assert {await ask(router, str(session)) for session in range(8)} == {"from b"}
        assert {await ask(router, str(session)) for session in range(8)} == {"from b"}
    assert [request.account for request in upstream.requests].count("a") == 1


async def test_a_breaker_goes_before_a_warm_prompt_and_the_session_stays_where_it_went(upstream: Upstream) -> None:
    upstream.prepare({})
    async with our_router(
        two_keys(upstream), 0, {"routing": {"warm_prefix": True}, "breaker": {"failures": 1}}
    ) as router:
        first = await ask(router, "s")
        upstream.prepare({first.removeprefix("from "): [failing(503), ...]})
        with pytest.raises(ServiceUnavailableError):
            await router.acompletion("m", PROMPT, metadata={"session_id": "s"}, num_retries=0)
        others = {await ask(router, "s") for _ in range(5)}
        assert len(others) == 1
        assert first not in others
        assert router.guard.status()["routing"]["warm_prefix"]["moved"] == 1
