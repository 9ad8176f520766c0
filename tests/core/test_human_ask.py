"""What a person asks is found in the prompts of all wires, without what agents put beside it."""

from __future__ import annotations

from typing import Any

import pytest

from wallie_litellm.core.human_ask import MOST_CHARACTERS, human_ask


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


REMINDER = "<system-reminder>\nPlan mode is active: reason step by step about the architecture.\n</system-reminder>"
TURNS = [
    {"role": "system", "content": "You are an expert in distributed systems. Think step by step."},
    user("Explain the proof."),
    {"role": "assistant", "content": "Which one?"},
    user("Never mind, what time is it?"),
]


@pytest.mark.parametrize(
    ("prompt", "ask"),
    [
        ("Tell me a joke.", "Tell me a joke."),
        (["Tell me", "a joke."], "Tell me\na joke."),
        (TURNS, "Never mind, what time is it?"),
        ([user("First this."), user("Then that.")], "First this.\nThen that."),
        ([user([{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {}}])], "Look:"),
        ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], "Hi"),
        ([{"role": "user", "parts": [{"text": "Hallo"}]}, {"role": "model", "parts": [{"text": "Ja?"}]}], "Hallo"),
        ([{"parts": [{"text": "Hallo"}]}], "Hallo"),
        (
            [
                user("Fix the test."),
                {"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]},
                user([{"type": "tool_result", "tool_use_id": "1", "content": "class Kafka: ..."}]),
                user(REMINDER),
            ],
            "Fix the test.",
        ),
        ([user([{"type": "text", "text": REMINDER}, {"type": "text", "text": "hi"}])], "hi"),
        ([user("<task>\nRename it.\n</task>\n<environment_details>\n# VSCode\n</environment_details>")], "Rename it."),
        ([user("# AGENTS.md instructions for /repo\n\n<INSTRUCTIONS>\nUse algorithms.\n</INSTRUCTIONS>")], ""),
        ([user("hello <system-reminder>never closed, think step by step")], "hello"),
        ([user("is <b>this</b> bold? # yes")], "is <b>this</b> bold? # yes"),
        ([{"role": "system", "content": "alone"}], ""),
        ([], ""),
        (None, ""),
        ({"role": "user"}, ""),
        ([user(None), "text", 7], ""),
    ],
)
def test_the_ask_is_the_last_user_messages_without_agents_blocks(prompt: Any, ask: str) -> None:
    assert human_ask(prompt) == ask


def test_a_document_is_read_to_a_bound() -> None:
    assert len(human_ask("x" * (2 * MOST_CHARACTERS))) == MOST_CHARACTERS


def test_many_opened_blocks_take_no_quadratic_time() -> None:
    assert human_ask("<rules>" * 14_000).strip() == ""
