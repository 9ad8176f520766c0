"""What a call sends and what it asks for, by LiteLLM's arguments and the vendors' own bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from support import messages

from wallie_litellm.core.learned_estimates import Wish
from wallie_litellm.litellm_adapter.requests import SizeReader, output_limit, wish_of

TOOLS = [
    {"type": "function", "function": {"name": f"tool_{n}", "description": "x" * 1000, "parameters": {"type": "object"}}}
    for n in range(40)
]
JSON = len(json.dumps(TOOLS))


class Answer(BaseModel):
    """An answer's form."""

    heading: str
    paragraphs: list[str]


def size(name: str = "messages", **arguments: Any) -> Any:
    return SizeReader().size_of(arguments, name)


@pytest.mark.parametrize(
    ("name", "arguments", "characters"),
    [
        ("messages", {"messages": messages("x" * 400)}, 400),
        ("messages", {"messages": messages("x" * 400), "tools": TOOLS}, 400 + JSON),
        ("messages", {"messages": messages("x" * 400), "functions": TOOLS}, 400 + JSON),
        ("messages", {"messages": messages("x" * 400), "response_format": {"json_schema": {"schema": TOOLS}}},
         400 + JSON),
        ("messages", {"messages": messages("x" * 400), "response_format": Answer}, 400 + 240),
        ("messages", {"messages": messages("x" * 400), "system": "y" * 9000}, 9400),
        ("messages", {"messages": messages("x" * 400), "system": [{"type": "text", "text": "y" * 9000}]}, 9400),
        ("input", {"input": "x" * 400, "instructions": "y" * 9000, "tools": TOOLS}, 9400 + JSON),
        ("input", {"input": [{"type": "function_call_output", "output": "x" * 100_000}]}, 100_000),
        ("input", {"input": "x" * 400, "text": {"format": {"type": "json_schema", "schema": TOOLS}}}, 400 + JSON),
        ("contents", {"contents": [{"parts": [{"text": "x" * 400}]}],
                      "config": {"systemInstruction": {"parts": [{"text": "y" * 9000}]}, "tools": TOOLS}}, 9400 + JSON),
        ("contents", {"contents": "x" * 400, "systemInstruction": {"parts": [{"text": "y" * 9000}]}}, 9400),
        ("prompt", {"prompt": ["x" * 400, "y" * 600]}, 1000),
        ("documents", {"documents": ["x" * 400, "y" * 600], "query": "z" * 100}, 1100),
        ("json", {"json": {"system": [{"text": "y" * 9000}], "messages": [{"content": [{"text": "x" * 400}]}],
                           "toolConfig": {"tools": TOOLS}}}, 9400 + JSON),
        ("messages", {"messages": messages("x" * 400), "documents": [{"title": "ab", "text": "y" * 9000}]}, 9402),
        ("input", {"input": ["x" * 40, "y" * 60] * 500_000}, 50_000_000),
        ("documents", {"documents": [{"text": "x" * 40}] * 100_000, "query": "z"}, 4_000_001),
        ("", {"file": b"x" * 9000}, 0),
    ],
)  # fmt: skip
def test_all_that_is_sent_counts_whatever_the_argument(name: str, arguments: dict[str, Any], characters: int) -> None:
    found = size(name, **arguments)
    assert found.text + found.structured == pytest.approx(characters, rel=0.05)


def test_tokens_are_taken_as_they_are() -> None:
    assert size("input", input=[101, 7592, 102]).tokens == 3


def test_the_same_tools_have_the_same_size_again_and_other_tools_theirs() -> None:
    reader, prompt = SizeReader(), messages("x")
    tools = list(TOOLS)
    first = reader.size_of({"messages": prompt, "tools": tools}, "messages")
    assert reader.size_of({"messages": prompt, "tools": tools}, "messages") == first
    tools.pop()
    fewer = reader.size_of({"messages": prompt, "tools": tools}, "messages")
    tools[0] = {"type": "function"}
    smaller = reader.size_of({"messages": prompt, "tools": tools}, "messages")
    assert first.structured > fewer.structured > smaller.structured


def test_what_is_changed_deep_in_a_list_of_tools_is_seen_after_some_calls() -> None:
    reader, tools = SizeReader(), [{"function": {"description": "x"}}]
    before = reader.size_of({"messages": [], "tools": tools}, "messages").structured
    tools[0]["function"]["description"] = "x" * 1000
    sizes = [reader.size_of({"messages": [], "tools": tools}, "messages").structured for _ in range(100)]
    assert sizes[-1] == before + 999


def test_lists_of_tools_that_come_and_go_are_not_kept() -> None:
    reader = SizeReader()
    for length in range(100):
        tools = [{"function": {"description": "x" * length}}]
        found = reader.size_of({"messages": [], "tools": tools}, "messages")
        assert found.structured == SizeReader().size_of({"messages": [], "tools": tools}, "messages").structured
    assert len(reader._kept) <= 8


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({}, None),
        ({"max_tokens": 100}, 100),
        ({"max_tokens": 100, "max_completion_tokens": 300}, 300),
        ({"max_output_tokens": 100, "n": 3}, 300),
        ({"max_tokens": 100, "n": 2, "best_of": 4}, 400),
        ({"max_tokens": "100"}, None),
        ({"config": {"maxOutputTokens": 70}}, 70),
        ({"generationConfig": {"max_output_tokens": 70}}, 70),
        ({"json": {"inferenceConfig": {"maxTokens": 70}}}, 70),
        ({"json": {"max_tokens": 70}}, 70),
        ({"config": "x", "json": None}, None),
    ],
)
def test_the_output_is_limited_where_the_wire_says_it(params: dict[str, Any], limit: int | None) -> None:
    assert output_limit(params) == limit


@pytest.mark.parametrize(
    ("operation", "arguments", "parameters", "prompt", "wish"),
    [
        ("chat", {}, {}, [], Wish()),
        ("chat", {"max_tokens": 5}, {"max_tokens": 900}, [], Wish(5)),
        ("chat", {}, {"max_tokens": 900}, [], Wish(900)),
        ("chat", {"n": 3}, {}, [], Wish(None, 3)),
        ("text_completion", {"max_tokens": 5}, {}, ["a", "b", "c"], Wish(15, 3)),
        ("text_completion", {"max_tokens": 5}, {}, [1, 2, 3], Wish(5)),
        ("embedding", {"max_tokens": 5}, {}, ["a", "b"], Wish(generates=False)),
        ("aspeech", {}, {}, "a", Wish(generates=False)),
    ],
)
def test_a_call_asks_for_what_it_says_or_its_deployment_does(
    operation: str, arguments: dict[str, Any], parameters: dict[str, Any], prompt: Any, wish: Wish
) -> None:
    assert wish_of(arguments, parameters, prompt, operation) == wish


@given(
    st.dictionaries(
        st.sampled_from(["messages", "system", "tools", "response_format", "config", "json", "text", "instructions"]),
        st.recursive(
            st.none() | st.text(max_size=5) | st.integers() | st.floats() | st.just(Answer) | st.builds(object),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
    st.sampled_from(["messages", "json", "input", ""]),
)
@settings(deadline=None)
def test_no_arguments_whatever_raise(arguments: dict[str, Any], name: str) -> None:
    found = SizeReader().size_of(arguments, name)
    assert 0 <= found.estimate() < 10**7
    limit = output_limit(arguments)
    assert limit is None or isinstance(limit, int)
