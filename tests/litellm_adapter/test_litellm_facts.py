"""Facts about LiteLLM that ``router.py`` rests on: an upgrade that changes one fails here first."""

from __future__ import annotations

import inspect

import litellm
import pytest
from support import messages

from wallie_litellm.guard.router import WallieRouter

OVERRIDES = (
    "async_function_with_fallbacks",
    "async_function_with_fallbacks_common_utils",
    "async_function_with_retries",
    "should_retry_this_error",
    "_time_to_sleep_before_retry",
    "_update_kwargs_before_fallbacks",
    "make_call",
    "async_get_available_deployment",
    "get_available_deployment",
    "_filter_blocked_deployments",
    "_acompletion_streaming_iterator",
    "_completion_streaming_iterator",
    "_aresponses_streaming_iterator",
    "_aanthropic_messages_streaming_iterator",
    "_anthropic_messages_stream_can_retry",
    "increment_deployment_usage_for_response",
    "_increment_deployment_usage",
)


@pytest.mark.parametrize("name", OVERRIDES)
def test_every_overridden_method_still_exists(name):
    assert callable(getattr(litellm.Router, name))
    assert getattr(WallieRouter, name) is not getattr(litellm.Router, name)


def plain_router(fleet, **arguments):
    deployments = fleet.point(
        [
            {"model_name": "a", "litellm_params": {"model": "groq/openai/gpt-oss-20b"}},
            {"model_name": "b", "litellm_params": {"model": "deepseek/deepseek-v4-flash"}},
            {"model_name": "c", "litellm_params": {"model": "openai/gpt-4o-mini"}},
        ]
    )
    return deployments, arguments


class Recorder(litellm.Router):
    """A bare Router that records its steps."""

    def __init__(self, *args, **kwargs):
        self.steps = []
        super().__init__(*args, **kwargs)

    async def make_call(self, original_function, *args, **kwargs):
        self.steps.append(("attempt", kwargs["model"]))
        return await super().make_call(original_function, *args, **kwargs)

    def _filter_blocked_deployments(self, healthy_deployments):
        self.steps.append(("filter", len(healthy_deployments)))
        return super()._filter_blocked_deployments(healthy_deployments)

    def _time_to_sleep_before_retry(self, e, remaining_retries, *args, **kwargs):
        self.steps.append(("sleep", remaining_retries))
        return 0


@pytest.fixture
def bare(fleet):
    deployments, _ = plain_router(fleet)
    router = Recorder(model_list=deployments, num_retries=1, fallbacks=[{"a": ["b", "c"]}, {"b": ["c"]}])
    yield router
    router.discard()


async def test_an_attempt_is_one_make_call_and_routing_happens_inside_it(bare):
    await bare.acompletion("c", messages())
    assert bare.steps == [("attempt", "c"), ("filter", 1)]


def test_a_synchronous_call_takes_the_same_steps(bare):
    bare.completion("c", messages())
    assert bare.steps == [("attempt", "c"), ("filter", 1)]


async def test_the_retry_loop_sleeps_once_more_after_the_last_retry(bare, fleet):
    fleet["openai"].fail(500)
    with pytest.raises(litellm.InternalServerError):
        await bare.acompletion("c", messages())
    assert [step[1] for step in bare.steps if step[0] == "sleep"] == [1, 0]


async def test_a_fallbacks_own_fallbacks_come_before_the_rest_of_the_chain(bare, fleet):
    """The reason why WallieRouter removes them: a member's chain would replace the order of the first group's."""
    fleet["groq"].fail(400)
    fleet["deepseek"].fail(400)
    await bare.acompletion("a", messages(), num_retries=0)
    assert [step[1] for step in bare.steps if step[0] == "attempt"] == ["a", "b", "c"]
    assert "disable_fallbacks" in inspect.getsource(litellm.Router.async_function_with_fallbacks)


async def test_a_model_without_a_price_costs_nothing_on_the_router(fleet):
    """The reason why ``check`` reports unpriced models and a result's cost is ``None`` for them."""
    deployments = fleet.point([{"model_name": "a", "litellm_params": {"model": "openai/no-such-model"}}])
    router = litellm.Router(model_list=deployments)
    response = await router.acompletion("a", messages())
    router.discard()
    assert not response._hidden_params["response_cost"]


async def test_a_refused_connection_is_called_an_internal_server_error(fleet):
    """The reason why the classification looks at the causes."""
    deployments, _ = plain_router(fleet)
    fleet["openai"].refuse()
    with pytest.raises(litellm.InternalServerError):
        await litellm.acompletion(**deployments[2]["litellm_params"], messages=messages(), max_retries=0)


async def test_litellms_openai_client_does_not_retry_by_itself_on_the_router(make_router, fleet):
    router = make_router(retry={"max_retries": 0})
    for name, group in (("openai", "gpt-4o-mini"), ("groq", "llama-3.1-8b"), ("anthropic", "claude-sonnet-4")):
        fleet[name].fail(500)
        with pytest.raises(Exception):  # noqa: B017, PT011 - which error is another test's business
            await router.acompletion(group, messages(), fallbacks=[])
        assert fleet[name].counts().received == 1, name
