"""What a person asks in a request: the last user messages, without what agents put beside them.

Of the wires' prompts: chat and Anthropic messages, Responses items, Gemini contents, and plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

MOST_CHARACTERS: Final = 100_000  # of an ask that are read; more is a document
_BLOCKS: Final = (  # what coding agents put into user messages: Claude Code, Cline and Roo, Codex, Cursor, Copilot
    "system-reminder", "command-name", "command-message", "command-args", "local-command-stdout",
    "environment_details", "environment_context", "user_instructions", "permissions",
    "user_info", "project_layout", "additional_data", "open_and_recently_viewed_files", "git_status",
    "rules", "agent_transcripts", "attachments", "attachment", "editorContext", "context", "reminderInstructions",
    "INSTRUCTIONS",
)  # fmt: skip
_OPENING: Final = re.compile(rf"<({'|'.join(_BLOCKS)})(?:\s[^<>]*)?>")
_AGENTS_FILE: Final = re.compile(r"\A\s*# (?:AGENTS|CLAUDE)\.md instructions[^\n]*\n?")
_WRAPPERS: Final = re.compile(r"</?(?:task|user_message|user_query|userRequest|feedback|answer)>")


def human_ask(prompt: Any) -> str:
    """The text of the last user messages in ``prompt``, without agents' blocks; empty where there is none.

    Messages that are tool results, or agents' blocks alone, are passed over for those before them.
    """
    if isinstance(prompt, str):
        return _without_blocks(prompt)
    if not isinstance(prompt, list | tuple):
        return ""
    if prompt and all(isinstance(part, str) for part in prompt):  # text completions take a list
        return _without_blocks("\n".join(prompt))
    asked: list[str] = []
    for message in reversed(prompt):
        if _is_of_user(message):
            if text := _without_blocks(_text_of(message)).strip():
                asked.append(text)
        elif asked:
            break
    return "\n".join(reversed(asked))


def _is_of_user(message: Any) -> bool:
    if not isinstance(message, Mapping):
        return False
    role = message.get("role")
    return role == "user" or (role is None and "parts" in message)  # Gemini's contents need no role


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content", message.get("parts"))
    return content if isinstance(content, str) else "\n".join(_texts_in(content))


def _texts_in(parts: Any) -> Iterator[str]:
    for part in parts if isinstance(parts, list | tuple) else ():
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str) and part.get("type") != "tool_result":
            yield part["text"]


def _without_blocks(text: str) -> str:
    text = text[:MOST_CHARACTERS]
    if "<" in text:
        text = _WRAPPERS.sub("", "".join(_outside_blocks(text)))
    return _AGENTS_FILE.sub("", text) if "#" in text else text


def _outside_blocks(text: str) -> Iterator[str]:
    """The pieces of ``text`` between blocks; one that is not closed goes to the end."""
    at = 0
    while (opening := _OPENING.search(text, at)) is not None:
        yield text[at : opening.start()]
        closing = f"</{opening[1]}>"
        end = text.find(closing, opening.end())
        if end < 0:
            return
        at = end + len(closing)
    yield text[at:]
