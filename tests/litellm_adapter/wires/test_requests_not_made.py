"""A request that LiteLLM cannot make of the caller's arguments is the caller's: no provider has seen it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from wire_scripts import WIRES

from wallie_litellm.events import Ended, Settled

# Models break such arguments off, and agents send them back with the conversation.
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Par'}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather like?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "no such city"},
]


@pytest.mark.parametrize("wire", ["messages", "generate content"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_arguments_of_a_tool_call_that_are_no_json_are_no_failure_of_the_providers(
    open_router, bus, wire, stream
):
    router = open_router({"group": WIRES[wire].model})
    with pytest.raises(openai.APIError):
        await router.acompletion("group", CONVERSATION, stream=stream)
    (record,) = bus.of(Settled)
    assert (record.error, record.status_code, record.outcome) == ("not sent: JSONDecodeError", 400, "not_sent")
    assert [ended.by_caller for ended in bus.of(Ended)] == [True]
    (state,) = [
        state["breaker"] for name, state in router.guard.status()["providers"].items() if name == record.provider
    ]
    assert state["consecutive_failures"] == 0
