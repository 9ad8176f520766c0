"""The estimate of the tokens that a request will use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.token_estimate import count_characters, estimate


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(("characters", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_four_characters_are_a_token_rounded_up(characters: int, tokens: int) -> None:
    assert estimate(user("x" * characters), 10) == Demand(1, tokens + 10, tokens, 10)
    assert estimate("x" * characters, 10) == Demand(1, tokens + 10, tokens, 10)


@pytest.mark.parametrize(("max_tokens", "tokens"), [(None, 150), (0, 0), (7, 7), (-3, 0)])
def test_the_output_is_max_tokens_or_150(max_tokens: int | None, tokens: int) -> None:
    assert estimate("", max_tokens) == Demand(1, tokens, 0, tokens)


def test_an_operation_that_generates_nothing_has_no_output() -> None:
    assert estimate("abcd", None, generates=False) == Demand(1, 1, 1, 0)


def test_the_characters_of_all_messages_are_rounded_once() -> None:
    assert estimate([*user("x"), *user("xx"), *user("x")], 0).input == 1


def test_roles_and_names_are_not_counted() -> None:
    assert estimate([{"role": "system", "name": "a" * 100, "content": "abcd"}], 0).input == 1


def test_the_text_of_nested_parts_is_counted() -> None:
    content = [
        {"type": "text", "text": "x" * 8},
        {"type": "tool_result", "content": [{"type": "text", "text": "x" * 12}]},
    ]
    assert estimate(user(content), 0).input == 5


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}},
        {"type": "image", "source": {"type": "base64", "data": "A" * 10_000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 10_000, "format": "wav"}},
        {"type": "file", "file": {"file_data": "A" * 10_000}},
        {"inline_data": {"data": "A" * 10_000}},
    ],
)
def test_images_audio_and_files_are_not_text(part: dict[str, Any]) -> None:
    assert estimate(user([part, {"type": "text", "text": "abcd"}]), 0).input == 1


def test_an_input_of_strings_is_counted() -> None:
    assert estimate(["abcd", "efgh"], 0, generates=False).input == 2
    assert estimate(("abcd", "efgh"), 0, generates=False).input == 2


def test_tokens_are_counted_as_tokens() -> None:
    assert estimate([101, 7592, 102], None, generates=False) == Demand(1, 3, 3, 0)
    assert estimate([[1, 2, 3], [4, 5]], None, generates=False) == Demand(1, 5, 5, 0)


@pytest.mark.parametrize("prompt", [None, [], "", (), [{}], [{"role": "user", "content": None}], user([]), 5])
def test_an_empty_prompt_has_no_tokens(prompt: Any) -> None:
    assert estimate(prompt, 0) == Demand(1, 0, 0, 0)


def test_bytes_are_not_text() -> None:
    assert count_characters(b"abcd") == 0


@given(st.recursive(st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
@settings(deadline=None)
def test_characters_are_counted_however_deep_they_are(content: Any) -> None:
    def text(node: Any) -> str:
        return node if isinstance(node, str) else "".join(map(text, node))

    assert count_characters(content) == len(text(content))
