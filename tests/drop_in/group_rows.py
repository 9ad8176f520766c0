"""Model groups: names, aliases, wildcards, tags, weights, and the choice among deployments."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from drop_in.actions import at_once, chat, times
from drop_in.observation import Facets
from drop_in.row import Action, Row, Stage, deployment
from drop_in.upstream import failing

ONE: Final = [deployment("m", "a")]
TAGGED: Final = [
    deployment("m", "a", tags=["free"]),
    deployment("m", "b", tags=["paid"]),
    deployment("m", "c", tags=["default"]),
]
BOTH_TAGS: Final = [deployment("m", "a", tags=["free"]), deployment("m", "b", tags=["free", "eu"])]
# A model of its own: LiteLLM keeps what a deployment says of its model for the whole process.
SMALL: Final = deployment("m", "a", "openai/of-five-tokens", {"max_input_tokens": 5})
LONG: Final = [{"role": "user", "content": "word " * 100}]
ALIASES: Final = {"other": "m", "secret": {"model": "m", "hidden": True}}


def shares(count: int, judge: Any, **arguments: Any) -> Action:
    """What ``judge`` says of the number of calls that each account had."""

    async def act(stage: Stage) -> Any:
        await at_once(count, chat(**arguments))(stage)
        return Facets(shares=judge(Counter(request.account for request in stage.upstream.requests)))

    return act


ROWS: Final = [
    Row("a group of one deployment", ONE, chat(), {"answer": "from a", "accounts": ["a"]}),
    Row(
        "a group of two vendors sends each its own model",
        [deployment("m", "a"), deployment("n", "b", "anthropic/claude-sonnet-4-5")],
        chat("n"),
        {"accounts": ["b"]},
    ),
    Row(
        "a deployment without the vendor's prefix",
        [deployment("m", "a", "gpt-4o-mini")],
        chat(),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row("a deployment's id as the model", [*ONE, deployment("m", "b")], chat("m-b"), {"accounts": ["b"]}),
    Row("an alias", ONE, chat("other"), {"accounts": ["a"]}, settings={"model_group_alias": ALIASES}),
    Row("a hidden alias", ONE, chat("secret"), {"accounts": ["a"]}, settings={"model_group_alias": ALIASES}),
    Row(
        "an alias has fallbacks of its own",
        [*ONE, deployment("n", "b")],
        chat("other"),
        {"accounts": ["a", "b"]},
        {"a": [failing()]},
        {"model_group_alias": ALIASES, "fallbacks": [{"other": ["n"]}]},
    ),
    Row(
        "an alias has not the fallbacks of its group",
        [*ONE, deployment("n", "b")],
        chat("other"),
        {"error": ("InternalServerError", 500), "accounts": ["a"]},
        {"a": [failing()]},
        {"model_group_alias": ALIASES, "fallbacks": [{"m": ["n"]}]},
    ),
    Row(
        "a wildcard of a vendor",
        [deployment("openai/*", "a", "openai/*")],
        chat("openai/gpt-zz"),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "a wildcard behind another prefix",
        [deployment("mine/*", "a", "openai/*")],
        chat("mine/gpt-zz"),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "a wildcard of all names, beside a group by name",
        [*ONE, deployment("*", "b", "openai/*")],
        chat(),
        {"accounts": ["a"]},
    ),
    Row(
        "a wildcard of all names, for a name that no group has",
        [*ONE, deployment("*", "b", "openai/*")],
        chat("gpt-4o"),
        {"accounts": ["b"]},
    ),
    Row(
        "the more specific of two wildcards",
        [deployment("openai/*", "a", "openai/*"), deployment("openai/gpt-*", "b", "openai/gpt-*")],
        chat("openai/gpt-zz"),
        {"accounts": ["b"]},
    ),
    Row("an unknown model", ONE, chat("unknown"), {"error": ("BadRequestError", 400), "accounts": []}),
    Row("an empty model list", [], chat(), {"error": ("BadRequestError", 400), "accounts": []}),
    Row(
        "a tag",
        TAGGED,
        chat(metadata={"tags": ["paid"]}),
        {"accounts": ["b"]},
        settings={"enable_tag_filtering": True},
    ),
    Row(
        "no tag goes to the deployment of the tag default",
        TAGGED,
        chat(),
        {"accounts": ["c"]},
        settings={"enable_tag_filtering": True},
    ),
    Row(
        "a tag that no deployment has, beside a default",
        TAGGED,
        chat(metadata={"tags": ["unheard"]}),
        {"accounts": ["c"]},
        settings={"enable_tag_filtering": True},
    ),
    Row(
        "a tag that no deployment has, without a default",
        TAGGED[:2],
        chat(metadata={"tags": ["unheard"]}),
        {"error": ("ValueError", None), "accounts": []},
        settings={"enable_tag_filtering": True},
    ),
    Row(
        "any of several tags",
        TAGGED,
        chat(metadata={"tags": ["paid", "unheard"]}),
        {"accounts": ["b"]},
        settings={"enable_tag_filtering": True, "tag_filtering_match_any": True},
    ),
    Row(
        "all of several tags",
        BOTH_TAGS,
        chat(metadata={"tags": ["free", "eu"]}),
        {"accounts": ["b"]},
        settings={"enable_tag_filtering": True, "tag_filtering_match_any": False},
    ),
    Row(
        "tags without tag filtering choose nothing",
        ONE,
        chat(metadata={"tags": ["paid"]}),
        {"accounts": ["a"]},
    ),
    Row(
        "a weight of nothing",
        [deployment("m", "a", weight=1), deployment("m", "b", weight=0)],
        at_once(8, chat()),
        {"accounts": ["a"] * 8},
        any_order=True,
    ),
    Row(
        "weights of nine and one",
        [deployment("m", "a", weight=9), deployment("m", "b", weight=1)],
        shares(24, lambda calls: calls["a"] >= 15 and calls.total() == 24),
        {"shares": True},
        any_request=True,
    ),
    Row(
        "rpm of 900 and 100 as weights",
        [deployment("m", "a", rpm=900), deployment("m", "b", rpm=100)],
        shares(24, lambda calls: calls["a"] >= 15 and calls.total() == 24),
        {"shares": True},
        any_request=True,
    ),
    Row(
        "no weights: each has its share",
        [deployment("m", "a"), deployment("m", "b")],
        shares(24, lambda calls: min(calls["a"], calls["b"]) >= 4 and calls.total() == 24),
        {"shares": True},
        any_request=True,
    ),
    Row(
        "the lower order first",
        [deployment("m", "a", order=2), deployment("m", "b", order=1)],
        times(4, chat()),
        {"accounts": ["b"] * 4},
    ),
    Row(
        "the next order when the first fails",
        [deployment("m", "a", order=2), deployment("m", "b", order=1)],
        chat(),
        {"answer": "from a", "accounts": ["b", "a"]},
        {"b": [failing()]},
    ),
    Row(
        "the orders before the fallbacks",
        [deployment("m", "a", order=2), deployment("m", "b", order=1), deployment("n", "c")],
        chat(),
        {"answer": "from c", "accounts": ["b", "a", "c"]},
        {"a": [failing()], "b": [failing()]},
        {"fallbacks": [{"m": ["n"]}]},
    ),
    Row(
        "regions: only deployments of an allowed one",
        [deployment("m", "a", region_name="us"), deployment("m", "b", region_name="eu")],
        times(2, chat(allowed_model_region="eu")),
        {"accounts": ["b", "b"]},
        settings={"enable_pre_call_checks": True},
    ),
    Row(
        "pre-call checks leave out what is too small for the prompt",
        [SMALL, deployment("m", "b")],
        times(2, chat(messages=LONG)),
        {"accounts": ["b", "b"]},
        settings={"enable_pre_call_checks": True},
    ),
    Row(
        "pre-call checks refuse what fits nowhere",
        [SMALL],
        chat(messages=LONG),
        {"error": ("BadRequestError", 400), "accounts": []},
        settings={"enable_pre_call_checks": True},
    ),
    Row(
        "pre-call checks, then the fallback for long prompts",
        [SMALL, deployment("n", "b")],
        chat(messages=LONG),
        {"answer": "from b", "accounts": ["b"]},
        settings={"enable_pre_call_checks": True, "context_window_fallbacks": [{"m": ["n"]}]},
    ),
]
