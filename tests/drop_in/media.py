"""Reading any request body, and the answers of endpoints that have no wire format in the simulator."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from wallie_litellm.simulator.wire import Json

_FILE: Final = {"object": "file", "bytes": 2, "created_at": 1, "filename": "f.jsonl", "status": "processed"}


async def read(request: web.Request) -> Json:
    """The body as an object; the parts of a form by name, files by their size in bytes."""
    if request.content_type == "multipart/form-data":
        return {name: await _part(value) for name, value in (await request.post()).items()}
    try:
        body = json.loads(await request.read() or b"{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


async def _part(value: Any) -> Any:
    return len(value.file.read()) if isinstance(value, web.FileField) else value


def answer(path: str, method: str, body: Json, text: str) -> web.Response:
    """What an endpoint answers; 404 for one that is not simulated."""
    if path.endswith("audio/speech"):
        return web.Response(body=text.encode(), content_type="audio/mpeg")
    found = _json(path, method, body, text)
    if found is None:
        return web.json_response({"error": {"message": f"no such endpoint: {method} /{path}"}}, status=404)
    return web.json_response(found)


def _json(path: str, method: str, body: Json, text: str) -> Json | None:
    model = body.get("model")
    if "/responses/" in path:
        return _response(path, method)
    match path.rpartition("/")[2]:
        case "completions":
            return _text_completion(model, text)
        case "generations":
            return {"created": 1, "data": [{"url": f"http://images/{text.replace(' ', '-')}.png"}]}
        case "transcriptions":
            return {"text": text}
        case "rerank":
            results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
            return {"id": "rerank-1", "results": results, "meta": {"billed_units": {"search_units": 1}}}
        case "moderations":
            result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
            return {"id": "modr-1", "model": model, "results": [result]}
        case "files":
            return {"id": "file-1", "purpose": body.get("purpose", "batch"), **_FILE}
        case "batches":
            return _batch(body)
        case "assistants" if method == "GET":
            return {"object": "list", "data": [_assistant(text)], "first_id": "a", "last_id": "a", "has_more": False}
        case "assistants":
            return _assistant(text)
    return None


def _response(path: str, method: str) -> Json:
    identity = path.rpartition("/")[2]
    if method == "DELETE":
        return {"id": identity, "object": "response", "deleted": True}
    usual = {"object": "response", "created_at": 1, "model": "gpt-4o-mini", "status": "completed", "output": []}
    return {"id": identity, **usual, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}


def _text_completion(model: Any, text: str) -> Json:
    usage = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


def _batch(body: Json) -> Json:
    return {
        "id": "batch-1",
        "object": "batch",
        "endpoint": body.get("endpoint"),
        "input_file_id": body.get("input_file_id"),
        "completion_window": "24h",
        "status": "validating",
        "created_at": 1,
    }


def _assistant(text: str) -> Json:
    return {
        "id": "asst-1",
        "object": "assistant",
        "created_at": 1,
        "model": "gpt-4o-mini",
        "name": text,
        "tools": [],
        "metadata": {},
    }
