"""What coding agents send: requests in the shape in which they reach a proxy, with texts of our own."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_COMMAND: Json = {
    "type": "object",
    "properties": {"command": {"type": "string", "description": "what the shell is to run"}},
    "required": ["command"],
    "additionalProperties": False,
}
_FILE: Json = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
    "required": ["path"],
}
_SYSTEM = "You are a coding agent. Answer in few words, and use the tools that you are given."
_REMINDER = "<system-reminder>The working directory is /work. Today is a Friday.</system-reminder>"
_TASK = "List the files of this directory and say which of them is the longest."
_EPHEMERAL = {"type": "ephemeral"}

CLAUDE_CODE_PATH = "/v1/messages?beta=true"
CLAUDE_CODE_HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,fine-grained-tool-streaming-2025-05-14",
    "anthropic-dangerous-direct-browser-access": "true",
    "user-agent": "claude-cli/2.0.0 (external, cli)",
    "x-app": "cli",
    "x-stainless-lang": "js",
    "x-stainless-retry-count": "0",
}


def claude_code(model: str) -> Json:
    """A turn of Claude Code: blocks marked for the cache, tools, the session in the user's id."""
    return {
        "model": model,
        "max_tokens": 32000,
        "temperature": 1,
        "stream": True,
        "metadata": {"user_id": "user_0a1b2c_account_11111111-2222-3333_session_44444444-5555-6666"},
        "system": [
            {"type": "text", "text": "You are a command-line agent.", "cache_control": _EPHEMERAL},
            {"type": "text", "text": _SYSTEM, "cache_control": _EPHEMERAL},
        ],
        "tools": [
            {"name": "Bash", "description": "Runs a command.", "input_schema": _COMMAND},
            {"name": "Read", "description": "Reads a file.", "input_schema": _FILE, "cache_control": _EPHEMERAL},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": _REMINDER},
                    {"type": "text", "text": _TASK, "cache_control": _EPHEMERAL},
                ],
            }
        ],
    }


CODEX_PATH = "/v1/responses"
CODEX_HEADERS = {
    "accept": "text/event-stream",
    "originator": "codex_cli_rs",
    "session_id": "44444444-5555-6666",
    "user-agent": "codex_cli_rs/0.50.0",
}


def codex(model: str) -> Json:
    """A turn of Codex: instructions, function tools, reasoning that it asks to get back encrypted, nothing stored."""

    def message(role: str, text: str) -> Json:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}

    shell = {"type": "function", "name": "shell", "description": "Runs a command.", "strict": False}
    return {
        "model": model,
        "instructions": _SYSTEM,
        "input": [message("user", _REMINDER), message("user", _TASK)],
        "tools": [{**shell, "parameters": _COMMAND}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "44444444-5555-6666",
    }


GEMINI_CLI_HEADERS = {
    "user-agent": "GeminiCLI/v0.10.0 (linux; x64)",
    "x-goog-api-client": "google-genai-sdk/1.16.0 gl-node",
}


def gemini_cli_path(model: str) -> str:
    """The method of a stream; the model is in the path."""
    return f"/v1beta/models/{model}:streamGenerateContent?alt=sse"


def gemini_cli() -> Json:
    """A turn of Gemini CLI: system instruction, function declarations by JSON schema, thoughts included."""
    declared = {"name": "run_shell_command", "description": "Runs a command.", "parametersJsonSchema": _COMMAND}
    return {
        "contents": [
            {"role": "user", "parts": [{"text": _REMINDER}]},
            {"role": "model", "parts": [{"text": "Got it."}]},
            {"role": "user", "parts": [{"text": _TASK}]},
        ],
        "systemInstruction": {"role": "user", "parts": [{"text": _SYSTEM}]},
        "tools": [{"functionDeclarations": [declared]}],
        "generationConfig": {
            "temperature": 0,
            "topP": 1,
            "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 8192},
        },
    }
