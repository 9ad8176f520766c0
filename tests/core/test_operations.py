from __future__ import annotations

import pytest

from wallie_litellm.core.operations import COUNTED, EXECUTE, GENERATING, operation_of


def named(name: str) -> object:
    def function() -> None: ...

    function.__name__ = name
    return function


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("_acompletion", "chat"),
        ("aembedding", "embedding"),
        ("atext_completion", "text_completion"),
        ("aresponses", "responses"),
        ("anthropic_messages", "messages"),
        ("aimage_generation", "aimage_generation"),
        ("attempt", "attempt"),
    ],
)
def test_the_operation_of_a_function_of_litellms(name: str, operation: str) -> None:
    assert operation_of(named(name), {}) == operation


def test_a_generic_call_is_named_after_the_function_it_passes_on() -> None:
    assert operation_of(named("_ageneric_api_call"), {"original_generic_function": named("aresponses")}) == "responses"


def test_a_function_without_a_name_is_a_call() -> None:
    assert operation_of(object(), {}) == "call"


def test_an_applications_own_call_is_counted_in_tokens() -> None:
    assert EXECUTE in GENERATING
    assert GENERATING < COUNTED
