"""Where LiteLLM's pick can only be one deployment it is asked for once, and everywhere else for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.types.router import Deployment
from support import messages

from wallie_litellm import Guard, WallieRouter
from wallie_litellm.litellm_adapter.inner_router import InnerRouter

CALLS: Final = 3


def deployment(key: str = "a", name: str = "m", info: Mapping[str, Any] | None = None, **params: Any) -> dict:
    params = {"model": "openai/gpt-4o-mini", "api_key": "sk-a", "mock_response": f"from {key}", **params}
    return {"model_name": name, "litellm_params": params, "model_info": {"id": key, **(info or {})}}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WallieRouter]]:
    monkeypatch.setattr(litellm, "callbacks", [])
    made: list[WallieRouter] = []

    def build(*models: dict, **settings: Any) -> WallieRouter:
        made.append(WallieRouter(model_list=[*models], guard=Guard(), **settings))
        return made[-1]

    yield build
    for router in made:
        router.guard.close()


@pytest.fixture
def picks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The groups for which LiteLLM's Router has been asked for a pick."""
    asked: list[str] = []
    pick = InnerRouter.pick

    async def counted(self: InnerRouter, group: str, *rest: Any) -> Any:
        asked.append(group)
        return await pick(self, group, *rest)

    monkeypatch.setattr(InnerRouter, "pick", counted)
    return asked


async def answers(router: WallieRouter, group: str = "m", **arguments: Any) -> set[str]:
    found = [await router.acompletion(group, messages(), **arguments) for _ in range(CALLS)]
    return {answer.choices[0].message.content for answer in found}


SOLE: Final = {
    "one deployment": [deployment()],
    "with a weight and an order": [deployment(weight=3, order=2)],
    "with a price of its own": [deployment(info={"input_cost_per_token": 1e-6, "base_model": "gpt-4o"})],
    "beside other groups and a wildcard": [deployment(), deployment("b", "n"), deployment("c", "openai/*")],
}


@pytest.mark.parametrize("models", SOLE.values(), ids=SOLE)
async def test_the_only_deployment_of_a_group_is_picked_once(make, picks: list[str], models: list[dict]) -> None:
    router = make(*models)
    assert await answers(router, metadata={"feature": "chat"}, user="u1") == {"from a"}
    assert picks == ["m"]


async def test_blocking_calls_and_streams_take_it_too(make, picks: list[str]) -> None:
    router = make(deployment())
    router.completion("m", messages())
    router.completion("m", messages())
    async for _ in await router.acompletion("m", messages(), stream=True):
        pass
    assert picks == ["m"]


AUTO_ROUTER: Final = {
    "model_name": "auto",
    "litellm_params": {
        "model": "auto_router/complexity_router",
        "complexity_router_config": {"tiers": dict.fromkeys(("SIMPLE", "MEDIUM", "COMPLEX", "REASONING"), "m")},
        "complexity_router_default_model": "m",
    },
    "model_info": {"id": "marker"},
}
# What LiteLLM's pick may go by: the deployments, the Router's settings, the request.
ASKED: Final[dict[str, tuple[list[dict], dict[str, Any], dict[str, Any]]]] = {
    "two deployments": ([deployment(), deployment("b", mock_response="from a")], {}, {}),
    "a wildcard": ([deployment(name="openai/*", model="openai/*")], {}, {"group": "openai/gpt-4o"}),
    "an alias": ([deployment()], {"model_group_alias": {"other": "m"}}, {"group": "other"}),
    "a group behind which LiteLLM chooses others": ([AUTO_ROUTER, deployment()], {}, {"group": "auto"}),
    "a limit in the parameters": ([deployment(rpm=100)], {}, {}),
    "at most so many at a time": ([deployment(max_parallel_requests=2)], {}, {}),
    "tags of the deployment": ([deployment(tags=["free"])], {}, {}),
    "a deployment that can be blocked": ([deployment(info={"blocked": False})], {}, {}),
    "a deployment of a team": ([deployment(info={"access_groups": ["beta"]})], {}, {}),
    "filtering by tags": ([deployment()], {"enable_tag_filtering": True}, {}),
    "checks of the context window": ([deployment()], {"enable_pre_call_checks": True}, {}),
    "optional checks": ([deployment()], {"optional_pre_call_checks": ["prompt_caching"]}, {}),
    "cooldowns": ([deployment()], {"disable_cooldowns": False}, {}),
    "least-busy": ([deployment()], {"routing_strategy": "least-busy"}, {}),
    "latency-based-routing": ([deployment()], {"routing_strategy": "latency-based-routing"}, {}),
    "a request of the proxy's": ([deployment()], {}, {"metadata": {"user_api_key_team_id": "t"}}),
    "a request with its HTTP headers": ([deployment()], {}, {"proxy_server_request": {"headers": {}}}),
    "a request with metadata of LiteLLM's": ([deployment()], {}, {"litellm_metadata": {"a": 1}}),
}


@pytest.mark.parametrize(("models", "settings", "arguments"), ASKED.values(), ids=ASKED)
async def test_litellm_is_asked_wherever_it_may_choose(
    make, picks: list[str], models: list[dict], settings: dict[str, Any], arguments: dict[str, Any]
) -> None:
    router = make(*models, **settings)
    arguments = {"group": "m", **arguments}
    assert await answers(router, **arguments) == {"from a"}
    assert picks == [arguments["group"]] * CALLS


class Refusing(CustomLogger):
    """An application's filter that leaves no deployment."""

    async def async_filter_deployments(self, *_: Any, **__: Any) -> list[dict]:
        return []


async def test_an_applications_filter_is_asked_as_soon_as_it_is_there(make, picks: list[str]) -> None:
    router = make(deployment())
    await answers(router)
    litellm.callbacks.append(Refusing())
    with pytest.raises(Exception, match="No deployments available"):
        await router.acompletion("m", messages())
    assert len(picks) > 1


async def test_a_callback_that_only_watches_sees_the_pick_being_made(make, picks: list[str]) -> None:
    router = make(deployment())
    litellm.callbacks.append(CustomLogger())
    await answers(router)
    assert picks == ["m"] * CALLS


def joined(router: WallieRouter) -> None:
    router.add_deployment(Deployment(**deployment("b", mock_response="from a")))


def filtered_by_tags(router: WallieRouter) -> None:
    router.enable_tag_filtering = True


def picked_by_load(router: WallieRouter) -> None:
    router.update_settings(routing_strategy="least-busy")


@pytest.mark.parametrize("change", [joined, filtered_by_tags, picked_by_load], ids=lambda change: change.__name__)
async def test_litellm_is_asked_again_after_a_change(
    make, picks: list[str], change: Callable[[WallieRouter], None]
) -> None:
    router = make(deployment())
    await answers(router)
    change(router)
    assert await answers(router) == {"from a"}
    assert picks == ["m"] * (1 + CALLS)


async def test_a_deployment_that_is_replaced_is_not_called_any_more(make, picks: list[str]) -> None:
    router = make(deployment())
    assert await answers(router) == {"from a"}
    router.upsert_deployment(Deployment(**deployment(mock_response="from b")))
    assert await answers(router) == {"from b"}
    assert picks == ["m", "m"]


async def test_a_deployment_that_is_replaced_while_a_pick_ends_is_not_kept(
    make, picks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread replaces it between what the pick has read of the router and what it keeps."""
    router = make(deployment())
    inner: InnerRouter = router.__dict__["_inner"]
    read = inner.alias_target

    def replaced(group: str) -> str | None:
        monkeypatch.setattr(inner, "alias_target", read)
        router.upsert_deployment(Deployment(**deployment(mock_response="from b")))
        return read(group)

    monkeypatch.setattr(inner, "alias_target", replaced)
    router.__dict__["_picks"].learn("m", await inner.pick("m", {"messages": messages()}, messages(), None))
    assert await answers(router) == {"from b"}


async def test_litellms_pick_is_the_kept_one_and_leaves_the_request_as_it_is(make) -> None:
    router = make(deployment())
    await answers(router)
    request: dict[str, Any] = {"messages": messages(), "metadata": {"feature": "chat"}, "stream": False}
    before = {**request, "metadata": dict(request["metadata"])}
    inner: InnerRouter = router.__dict__["_inner"]
    assert await inner.pick("m", request, request["messages"], None) == router.__dict__["_picks"].of("m", request)
    assert request == before
