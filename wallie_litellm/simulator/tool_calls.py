"""Calls of tools, and answers in a JSON schema, as a model makes them: filled with samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool that the request offers."""

    id: str
    name: str
    arguments: Json

    @property
    def text(self) -> str:
        """The arguments as JSON."""
        return json.dumps(self.arguments)

    @property
    def pieces(self) -> list[str]:
        """The same in two parts, as a stream delivers it."""
        half = math.ceil(len(self.text) / 2)
        return [self.text[:half], self.text[half:]]


def tool_call(body: Json, serial: int) -> ToolCall | None:
    """A call of the tool that ``body`` asks for, else of the first it offers; None once it brings a result."""
    tools = dict(_offered(body))
    if not tools or body.get("tool_choice") == "none" or _has_result(body):
        return None
    name = _chosen(body)
    if name not in tools:
        name = next(iter(tools))
    arguments = sample(tools[name])
    return ToolCall(f"call_sim{serial:08d}", name, arguments if isinstance(arguments, dict) else {})


def structured_text(body: Json) -> str | None:
    """An answer in the JSON schema that ``body`` asks for; None where it asks for none."""
    chat = (body.get("response_format") or {}).get("json_schema") or {}
    responses = (body.get("text") or {}).get("format") or {}
    gemini = body.get("generationConfig") or {}
    found = [chat.get("schema"), responses.get("schema"), gemini.get("responseJsonSchema")]
    schema = next((one for one in found if isinstance(one, dict)), None)
    return None if schema is None else json.dumps(sample(schema))


def sample(schema: Json, whole: Json | None = None) -> Any:
    """A value that ``schema`` allows; ``whole`` is the document that its references are about."""
    whole = schema if whole is None else whole
    if "$ref" in schema:
        return sample(_resolved(str(schema["$ref"]), whole), whole)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return sample(schema[key][0], whole)
    match str(schema.get("type", "object")).lower():
        case "object":
            return {name: sample(one, whole) for name, one in (schema.get("properties") or {}).items()}
        case "array":
            return [sample(schema.get("items") or {"type": "string"}, whole)]
        case "integer" | "number":
            return max(7, schema.get("minimum", 7))
        case "boolean":
            return True
        case "null":
            return None
    return "simulated"


def _resolved(reference: str, whole: Json) -> Json:
    found: Any = whole
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def _offered(body: Json) -> Iterator[tuple[str, Json]]:
    """Name and schema of each tool, in OpenAI's two formats, Anthropic's and Gemini's."""
    for tool in body.get("tools") or []:
        if "functionDeclarations" in tool or "function_declarations" in tool:
            declared = tool.get("functionDeclarations") or tool.get("function_declarations") or []
        else:
            declared = [tool.get("function", tool)]
        for one in declared:
            schemas = (one.get(key) for key in ("parameters", "input_schema", "parametersJsonSchema"))
            schema = next((found for found in schemas if isinstance(found, dict)), {})
            if isinstance(one.get("name"), str):
                yield one["name"], schema


def _chosen(body: Json) -> str:
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return ""
    return str((choice.get("function") or choice).get("name", ""))


def _has_result(body: Json) -> bool:
    """Whether the last turn is the result of a tool."""
    turns = body.get("messages") or body.get("input") or body.get("contents")
    last = turns[-1] if isinstance(turns, list) and turns else None
    if not isinstance(last, dict):
        return False
    if last.get("role") == "tool" or last.get("type") == "function_call_output":
        return True
    parts = last.get("content") or last.get("parts") or []
    return isinstance(parts, list) and any(isinstance(part, dict) and _is_result(part) for part in parts)


def _is_result(part: Json) -> bool:
    return part.get("type") == "tool_result" or not part.keys().isdisjoint({"functionResponse", "function_response"})
