"""What a router knows of its deployments and settings, and changes of them at run time."""

from __future__ import annotations

from typing import Any, Final

import litellm
from litellm.types.router import Deployment

from drop_in.actions import away_from_minutes_end, chat, outcome_of, reading, times
from drop_in.observation import Facets, plain_data
from drop_in.routers import pointed
from drop_in.row import Action, Difference, Row, Stage, deployment
from drop_in.upstream import TOO_LONG, failing

ONE: Final = [deployment("m", "a")]
TWO: Final = [*ONE, deployment("n", "b")]
PRICED: Final = [
    deployment(
        "m",
        "a",
        "openai/known-model",
        {"max_input_tokens": 900, "mode": "chat"},
        input_cost_per_token=0.5,
        output_cost_per_token=1.0,
        rpm=60,
        tpm=1000,
    )
]
SETTINGS: Final[dict[str, Any]] = {"fallbacks": [{"m": ["n"]}], "timeout": 7.0, "allowed_fails": 4}


def added(action: Action, change: str = "add_deployment") -> Action:
    """A deployment added at run time, and a call after that."""

    async def act(stage: Stage) -> Any:
        (entry,) = pointed(stage.upstream, [deployment("n", "b")])
        getattr(stage.router, change)(deployment=Deployment(**entry))
        return Facets(names=sorted(stage.router.get_model_names()), answer=plain_data(await action(stage)))

    return act


def replaced(action: Action) -> Action:
    """A deployment whose account is another from now on."""

    async def act(stage: Stage) -> Any:
        await action(stage)
        (entry,) = pointed(stage.upstream, [deployment("m", "b", info={"id": "m-a"})])
        stage.router.upsert_deployment(deployment=Deployment(**entry))
        return await action(stage)

    return act


def deleted(action: Action) -> Action:
    """A deployment deleted at run time."""

    async def act(stage: Stage) -> Any:
        stage.router.delete_deployment(id="m-a")
        return Facets(ids=stage.router.get_model_ids(), error=plain_data(await outcome_of(action(stage))))

    return act


def relisted(action: Action) -> Action:
    """Another model list at run time."""

    async def act(stage: Stage) -> Any:
        stage.router.set_model_list(pointed(stage.upstream, [deployment("n", "b")]))
        return Facets(names=stage.router.get_model_names(), answer=plain_data(await action(stage)))

    return act


def updated(action: Action, **settings: Any) -> Action:
    """Settings changed at run time."""

    async def act(stage: Stage) -> Any:
        stage.router.update_settings(**settings)
        return await action(stage)

    return act


def availability(**arguments: Any) -> Action:
    """The pick of a deployment, without a call."""

    async def act(stage: Stage) -> Any:
        picked = await stage.router.async_get_available_deployment(
            model="m", request_kwargs={}, messages=[{"role": "user", "content": "Hello"}], **arguments
        )
        return Facets(found=picked["model_info"]["id"])

    return act


def by_position() -> Action:
    """The pick with positional arguments."""

    async def act(stage: Stage) -> Any:
        messages = [{"role": "user", "content": "Hello"}]
        picked = await stage.router.async_get_available_deployment("m", {}, messages, None, False)
        return Facets(found=picked["model_info"]["id"])

    return act


def assigned(action: Action, **settings: Any) -> Action:
    """Settings assigned at run time."""

    async def act(stage: Stage) -> Any:
        for name, value in settings.items():
            setattr(stage.router, name, value)
        return await action(stage)

    return act


def usage_of_group() -> Action:
    """The use of a group's limits after a call."""

    async def act(stage: Stage) -> Any:
        await away_from_minutes_end()
        await times(2, chat())(stage)
        return Facets(found=await stage.router.get_model_group_usage("m"))

    return act


def _entry(entry: Any) -> Any:
    data = plain_data(entry)
    return [data["model_name"], data["litellm_params"]["model"], data["model_info"]["id"]]


def _settings(router: Any) -> Any:
    found = router.get_settings()
    return {name: found.get(name) for name in ("fallbacks", "timeout", "allowed_fails")}


def _group_info(router: Any) -> Any:
    info = router.get_model_group_info(model_group="m")
    return [
        info.model_group,
        info.providers,
        info.max_input_tokens,
        info.input_cost_per_token,
        info.output_cost_per_token,
        info.rpm,
        info.tpm,
    ]


ROWS: Final = [
    Row(
        "isinstance",
        ONE,
        reading(lambda router: isinstance(router, litellm.Router)),
        {"answer": True},
    ),
    Row(
        "get_model_list",
        TWO,
        reading(lambda router: list(map(_entry, router.get_model_list()))),
        {"answer": [["m", "openai/gpt-4o-mini", "m-a"], ["n", "openai/gpt-4o-mini", "n-b"]]},
    ),
    Row(
        "get_model_list of one group",
        TWO,
        reading(lambda router: list(map(_entry, router.get_model_list(model_name="n")))),
        {"answer": [["n", "openai/gpt-4o-mini", "n-b"]]},
    ),
    Row(
        "get_model_list of an alias",
        ONE,
        reading(lambda router: list(map(_entry, router.get_model_list(model_name="other")))),
        {"answer": [["other", "openai/gpt-4o-mini", "m-a"]]},
        settings={"model_group_alias": {"other": "m"}},
    ),
    Row("model_list", TWO, reading(lambda router: list(map(_entry, router.model_list))), {}),
    Row("get_model_names", TWO, reading(lambda router: sorted(router.get_model_names())), {"answer": ["m", "n"]}),
    Row(
        "get_model_names with aliases, one of them hidden",
        ONE,
        reading(lambda router: sorted(router.get_model_names())),
        {"answer": ["m", "other"]},
        settings={"model_group_alias": {"other": "m", "secret": {"model": "m", "hidden": True}}},
    ),
    Row("model_names", TWO, reading(lambda router: sorted(router.model_names)), {"answer": ["m", "n"]}),
    Row("get_model_ids", TWO, reading(lambda router: sorted(router.get_model_ids())), {"answer": ["m-a", "n-b"]}),
    Row(
        "get_model_ids of one group",
        TWO,
        reading(lambda router: router.get_model_ids(model_name="n")),
        {"answer": ["n-b"]},
    ),
    Row(
        "get_deployment",
        TWO,
        reading(lambda router: _entry(router.get_deployment(model_id="n-b"))),
        {"answer": ["n", "openai/gpt-4o-mini", "n-b"]},
    ),
    Row(
        "get_deployment of an unknown id",
        TWO,
        reading(lambda router: router.get_deployment(model_id="unknown")),
        {"answer": None},
    ),
    Row("has_model_id", TWO, reading(lambda router: router.has_model_id("m-a")), {"answer": True}),
    Row(
        "get_model_group_info",
        PRICED,
        reading(_group_info),
        {"answer": ["m", ["openai"], 900, 0.5, 1.0, 60, 1000]},
    ),
    Row(
        "get_model_access_groups",
        [deployment("m", "a", info={"access_groups": ["beta"]}), deployment("n", "b")],
        reading(lambda router: dict(router.get_model_access_groups())),
        {"answer": {"beta": ["m"]}},
    ),
    Row(
        "get_settings",
        TWO,
        reading(_settings),
        {"answer": SETTINGS},
        settings=SETTINGS,
    ),
    Row("an async pick", ONE, availability(), {"found": "m-a"}),
    Row("an async pick by position", ONE, by_position(), {"found": "m-a"}),
    Row(
        "get_available_deployment",
        ONE,
        reading(lambda router: router.get_available_deployment(model="m", request_kwargs={})["model_info"]["id"]),
        {"answer": "m-a"},
    ),
    Row("get_model_group_usage", PRICED, usage_of_group(), {"found": (10, 2)}),
    Row("add_deployment", ONE, added(chat("n")), {"names": ["m", "n"], "accounts": ["b"]}),
    Row(
        "upsert_deployment, a new one",
        ONE,
        added(chat("n"), "upsert_deployment"),
        {"names": ["m", "n"], "accounts": ["b"]},
    ),
    Row("upsert_deployment, another account", ONE, replaced(chat()), {"answer": "from b", "accounts": ["a", "b"]}),
    Row("delete_deployment", TWO, deleted(chat()), {"ids": ["n-b"], "error": ("BadRequestError", 400), "accounts": []}),
    Row("set_model_list", ONE, relisted(chat("n")), {"names": ["n"], "accounts": ["b"]}),
    Row(
        "update_settings, fallbacks",
        TWO,
        updated(chat(), fallbacks=[{"m": ["n"]}]),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [failing()]},
    ),
    Row(
        "fallbacks assigned",
        TWO,
        assigned(chat(), fallbacks=[{"m": ["n"]}]),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [failing()]},
    ),
    Row(
        "context_window_fallbacks assigned",
        TWO,
        assigned(chat(), context_window_fallbacks=[{"m": ["n"]}]),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [TOO_LONG]},
    ),
    Row(
        "update_settings, num_retries",
        [deployment("m", "a"), deployment("m", "a", info={"id": "twin"})],
        updated(chat(), num_retries=0),
        {"error": ("InternalServerError", 500), "accounts": ["a"]},
        {"a": [failing()] * 3},
        retries=2,
        difference=Difference("retries-are-ours", {"accounts": ["a", "a", "a"]}),
    ),
    Row(
        "update_settings, timeout",
        ONE,
        updated(reading(lambda router: router.get_settings()["timeout"]), timeout=3.0),
        {"answer": 3.0},
    ),
]
