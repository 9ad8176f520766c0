"""Facts about LiteLLM that the request loop rests on, by public means alone and on every supported release.

A release that changes one fails here first: a plain ``litellm.Router`` makes one call at a time, and is asked to pick.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.router import Router
from support import messages, until

from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.litellm_adapter.errors import Special, classify_error, special_of
from wallie_litellm.litellm_adapter.responses import response_headers
from wallie_litellm.litellm_adapter.wires.translated import chat_was_ended

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "groq": "groq/openai/gpt-oss-20b",
    "deepseek": "deepseek/deepseek-chat",
}
ONCE = {"num_retries": 0, "disable_fallbacks": True}  # what makes a call by id a single one
AT_ONCE = 3.0  # seconds; LiteLLM's own waits between retries, and before a fallback, would be longer in sum
CALLS = {
    "acompletion": {"messages": messages()},
    "aresponses": {"input": "Hello"},
    "aanthropic_messages": {"messages": messages(), "max_tokens": 20},
    "aembedding": {"input": ["Hello"]},
}


def deployment(group: str, model: str, key: str, **params: object) -> dict:
    return {"model_name": group, "litellm_params": {"model": model, **params}, "model_info": {"id": key}}


@pytest.fixture
def make_plain(fleet):
    """Builds plain Routers for the simulated providers; each provider is a group, with the id ``id-of-PROVIDER``."""
    made = []

    def make(*more: dict, **arguments: object) -> Router:
        listed = [deployment(name, model, f"id-of-{name}") for name, model in MODELS.items()]
        arguments = {"disable_cooldowns": True, "num_retries": 0, **arguments}
        made.append(Router(model_list=fleet.point([*listed, *more]), **arguments))
        return made[-1]

    yield make
    for router in made:
        retire(router)


def retire(router: Router) -> None:
    (router.retire if hasattr(router, "retire") else router.discard)()


async def pick(router: Router, group: str, request: dict | None = None) -> dict:
    request = {} if request is None else request
    if hasattr(router, "select"):
        return await router.select(group, request, messages=messages())
    return await router.async_get_available_deployment(group, request, messages=messages())


async def read(stream: AsyncIterator) -> tuple[list, Exception | None]:
    received: list = []
    try:
        async for chunk in stream:
            received.append(chunk)
    except Exception as error:  # noqa: BLE001 - LiteLLM has several names for it
        return received, error
    return received, None


# One call to one deployment


@pytest.mark.parametrize("provider", MODELS)
async def test_a_call_by_id_is_one_request_to_that_deployment(make_plain, fleet, provider):
    twin = deployment(provider, MODELS[provider], "twin")
    answer = await make_plain(twin).acompletion(f"id-of-{provider}", messages(), **ONCE)
    assert answer._hidden_params["model_id"] == f"id-of-{provider}"
    assert sum(fleet[name].counts().received for name in MODELS) == fleet[provider].counts().received == 1


@pytest.mark.parametrize("method", CALLS)
async def test_every_kind_of_call_can_be_made_by_id(make_plain, fleet, method):
    await getattr(make_plain(), method)(model="id-of-openai", **CALLS[method], **ONCE)
    assert fleet["openai"].counts().received == 1


@pytest.mark.parametrize("status", [400, 429, 500, 503])
@pytest.mark.parametrize("provider", MODELS)
async def test_a_providers_error_comes_at_once_after_one_request(make_plain, fleet, turns, provider, status):
    router = make_plain()
    fleet[provider].fail(status, retry_after=7)
    began = turns.now()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - LiteLLM has a name for each status
        await router.acompletion(f"id-of-{provider}", messages(), **ONCE)
    assert turns.now() - began < AT_ONCE
    assert classify_error(raised.value).status_code == status
    assert {name.lower(): value for name, value in response_headers(raised.value).items()}["retry-after"] == "7"
    assert fleet[provider].counts().received == 1


@pytest.mark.parametrize("provider", ["openai", "anthropic", "groq", "deepseek"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_content_policy_refusal_is_one_whatever_its_exception_is_called(make_plain, fleet, provider, stream):
    """With version 3 of OpenAI's client LiteLLM calls it a bad request: the code is only in the body."""
    router = make_plain()
    fleet[provider].content_policy()
    with pytest.raises(litellm.BadRequestError) as raised:
        await router.acompletion(f"id-of-{provider}", messages(), stream=stream, **ONCE)
    assert special_of(raised.value) is Special.CONTENT_POLICY


async def test_an_empty_account_is_one_by_the_code_alone(make_plain, fleet):
    router = make_plain()
    fleet["openai"].fail(429, body={"error": {"message": "No.", "type": "x", "code": "insufficient_quota"}})
    with pytest.raises(litellm.RateLimitError) as raised:
        await router.acompletion("id-of-openai", messages(), **ONCE)
    assert classify_error(raised.value).verdict is Verdict.FAILURE


@pytest.mark.parametrize("body", [{"error": {"message": "overloaded", "code": 502}}, {"id": "x"}, [], "text"])
async def test_geminis_answer_of_no_known_shape_is_unreadable(make_plain, fleet, body):
    router = make_plain()
    fleet["gemini"].fail(200, body=body)
    with pytest.raises(litellm.BadRequestError) as raised:
        await router.acompletion("id-of-gemini", messages(), **ONCE)
    assert classify_error(raised.value).reason == "unreadable answer"


@pytest.mark.parametrize("provider", MODELS)
async def test_a_streams_beginning_fails_at_once_too(make_plain, fleet, turns, provider):
    router = make_plain()
    fleet[provider].fail(503)
    began = turns.now()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - LiteLLM has a name for each status
        async for _ in await router.acompletion(f"id-of-{provider}", messages(), stream=True, **ONCE):
            pass
    assert turns.now() - began < AT_ONCE
    assert classify_error(raised.value).verdict is Verdict.FAILURE
    assert fleet[provider].counts().received == 1


@pytest.mark.parametrize("provider", MODELS)
async def test_a_cut_stream_is_an_error_or_can_be_seen_to_have_no_end(make_plain, fleet, provider):
    """LiteLLM 1.106 makes up a finish reason; 1.110 raises."""
    router = make_plain()
    fleet[provider].cut_stream(after_chunks=2)
    stream = await router.acompletion(f"id-of-{provider}", messages(), stream=True, **ONCE)
    received, error = await read(stream)
    seen = not chat_was_ended(stream) if error is None else classify_error(error).verdict is Verdict.FAILURE
    assert seen, error
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in received)
    assert fleet[provider].counts().received == 1


async def test_a_streams_answer_says_which_deployment_it_is_from(make_plain):
    stream = await make_plain().acompletion("id-of-openai", messages(), stream=True, **ONCE)
    assert stream._hidden_params["model_id"] == "id-of-openai"
    assert [chunk async for chunk in stream]


def test_a_synchronous_call_by_id_is_one_request(make_plain, fleet):
    router = make_plain()
    assert router.completion("id-of-openai", messages(), **ONCE)._hidden_params["model_id"] == "id-of-openai"
    fleet["openai"].fail(500)
    with pytest.raises(litellm.InternalServerError):
        router.completion("id-of-openai", messages(), **ONCE)
    assert fleet["openai"].counts().received == 2


async def test_a_cancelled_call_leaves_the_provider(make_plain, fleet):
    router = make_plain()
    fleet["openai"].hang()
    call = asyncio.create_task(router.acompletion("id-of-openai", messages(), **ONCE))
    await until(lambda: fleet["openai"].counts().in_flight == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: fleet["openai"].counts().disconnected == 1)


class TrueZero(int):
    def __bool__(self) -> bool:
        return True


@pytest.mark.parametrize(("stated", "requests"), [(TrueZero(0), 1), (1, 2)])
async def test_openais_client_retries_embeddings_unless_a_true_zero_is_stated(make_plain, fleet, stated, requests):
    """LiteLLM takes a false ``max_retries`` for "not set", and the client's own default is 2."""
    router = make_plain()
    fleet["openai"].fail(500)
    with pytest.raises(litellm.InternalServerError):
        await router.aembedding(model="id-of-openai", input=["Hello"], max_retries=stated, **ONCE)
    assert fleet["openai"].counts().received == requests


# The pick


async def test_a_pick_is_an_entry_of_the_model_list_and_calls_nothing(make_plain, fleet):
    picked = await pick(make_plain(), "openai")
    assert picked["model_info"]["id"] == "id-of-openai"
    assert picked["litellm_params"]["model"] == MODELS["openai"]
    assert picked["litellm_params"]["api_base"] == fleet["openai"].api_base
    assert not fleet["openai"].counts().received


async def test_a_pick_by_the_default_strategy_does_not_wait(make_plain):
    """A synchronous call can pick so without an event loop of its own."""
    work = pick(make_plain(), "openai")
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    assert ended.value.value["model_info"]["id"] == "id-of-openai"


async def test_a_pick_follows_aliases(make_plain):
    router = make_plain(model_group_alias={"fast": "groq"})
    assert (await pick(router, "fast"))["model_info"]["id"] == "id-of-groq"


async def test_a_pick_of_a_wildcard_has_the_name_filled_in_and_a_call_by_id_has_not(make_plain, fleet):
    router = make_plain(deployment("deepseek/*", "deepseek/*", "wild"))
    picked = await pick(router, "deepseek/some-model")
    assert (picked["litellm_params"]["model"], picked["model_info"]["id"]) == ("deepseek/some-model", "wild")
    await router.acompletion("wild", messages(), **ONCE)
    assert fleet["deepseek"].counts().by_model == {"*": 1}


async def test_a_pick_keeps_to_the_tags_of_the_request(make_plain):
    tagged = [deployment("g", MODELS[name], name, tags=[name]) for name in ("openai", "groq")]
    router = make_plain(*tagged, enable_tag_filtering=True)
    for name in ("openai", "groq"):
        assert (await pick(router, "g", {"metadata": {"tags": [name]}}))["model_info"]["id"] == name


async def test_a_pick_of_an_unknown_group_is_a_bad_request(make_plain):
    with pytest.raises(litellm.BadRequestError):
        await pick(make_plain(), "no-such-group")


place: ContextVar[str | None] = ContextVar("place", default=None)


class Filter(CustomLogger):
    """Keeps all deployments, or the one that the context names; records what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, set[str], str | None]] = []

    async def async_filter_deployments(
        self, model, healthy_deployments, messages, request_kwargs=None, parent_otel_span=None
    ):
        keys = {entry["model_info"]["id"] for entry in healthy_deployments}
        self.seen.append((model, keys, place.get()))
        kept = [entry for entry in healthy_deployments if entry["model_info"]["id"] == place.get()]
        return kept or healthy_deployments


@pytest.fixture
def recorded(monkeypatch):
    one = Filter()
    monkeypatch.setattr(litellm, "callbacks", [*litellm.callbacks, one])
    return one


async def test_the_filter_is_called_for_a_pick_in_the_callers_context_and_decides(make_plain, recorded):
    router = make_plain(deployment("openai", MODELS["openai"], "twin"))
    for key in ("twin", "id-of-openai", "twin"):
        place.set(key)
        assert (await pick(router, "openai"))["model_info"]["id"] == key
    assert recorded.seen == [("openai", {"id-of-openai", "twin"}, key) for key in ("twin", "id-of-openai", "twin")]


async def test_the_filter_is_not_called_for_a_call_by_id(make_plain, recorded):
    await make_plain().acompletion("id-of-openai", messages(), **ONCE)
    assert not recorded.seen


# What a Router leaves behind


async def test_a_retired_router_leaves_no_callback(make_plain):
    def callbacks() -> list[str]:
        names = ("callbacks", "success_callback", "failure_callback", "input_callback", "service_callback")
        return [repr(one) for name in names for one in getattr(litellm, name)]

    before = callbacks()
    router = make_plain()
    await router.acompletion("id-of-openai", messages(), **ONCE)
    retire(router)
    retire(router)
    assert callbacks() == before


# What its errors and prices say


async def test_a_model_without_a_price_costs_nothing_on_the_router(make_plain):
    """The reason why ``check`` reports unpriced models and a result's cost is ``None`` for them."""
    router = make_plain(deployment("unknown", "openai/no-such-model", "unknown"))
    response = await router.acompletion("unknown", messages())
    assert not response._hidden_params["response_cost"]


async def test_a_refused_connection_is_called_an_internal_server_error(make_plain, fleet):
    """The reason why the classification looks at the causes."""
    router = make_plain()
    fleet["openai"].refuse()
    with pytest.raises(litellm.InternalServerError):
        await router.acompletion("id-of-openai", messages(), **ONCE)
