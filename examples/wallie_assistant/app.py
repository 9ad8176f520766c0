"""The web application: four procedures under ``/api``, a page, and the operator's dashboard under ``/wallie``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, StringConstraints

from examples.wallie_assistant.assistant import AI_ERRORS, Assistant, served
from examples.wallie_assistant.conversations import Conversations
from wallie_litellm import RouterConfig, build_router
from wallie_litellm.dashboard.server import dashboard_app

STATIC: Final = Path(__file__).parent / "static"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class Question(BaseModel):
    """A message of a customer."""

    message: Text
    user: Name


class Turn(Question):
    """A message in a conversation; a new one begins where none is named."""

    conversation: int | None = None


class Place(BaseModel):
    """A conversation."""

    conversation: int
    user: Name


def create_app(config: RouterConfig, database: Path, **router_arguments: Any) -> FastAPI:
    """The application; ``router_arguments`` replace arguments of LiteLLM's Router that the file states."""
    router = build_router(config, **router_arguments)
    dashboard, service = dashboard_app(router.guard)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.assistant = Assistant(router)
        app.state.conversations = await Conversations.open(database)
        try:
            yield
        finally:
            service.close()
            await router.guard.aclose()  # calls under way end, and every record is written
            await app.state.conversations.close()

    app = FastAPI(title="Wallie", lifespan=lifespan)
    app.add_api_route("/api/wallie.chat", chat, methods=["POST"])
    app.add_api_route("/api/wallie.chatInConversation", chat_in_conversation, methods=["POST"])
    app.add_api_route("/api/wallieAnalysis.suggestMessage", suggest_message, methods=["POST"])
    app.add_api_route("/api/wallieAnalysis.summarise", summarise, methods=["POST"])
    app.add_api_route("/api/conversations", conversations, methods=["GET"])
    app.add_api_route("/api/conversations/{conversation}", messages, methods=["GET"])
    app.add_api_route("/wallie", to_dashboard, include_in_schema=False)
    app.mount("/wallie", dashboard)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_api_route("/", page, include_in_schema=False)
    for error in AI_ERRORS:
        app.add_exception_handler(error, refused)
    return app


async def chat(request: Request, question: Question) -> StreamingResponse:
    """One question, one answer, streamed."""
    assistant: Assistant = request.app.state.assistant
    history = [{"role": "user", "content": question.message}]
    return _lines(_answer(assistant, history, question.user))


async def chat_in_conversation(request: Request, turn: Turn) -> StreamingResponse:
    """The next answer of a conversation, streamed. What was answered is kept, even when the reader has left."""
    assistant: Assistant = request.app.state.assistant
    kept: Conversations = request.app.state.conversations
    conversation = turn.conversation
    if conversation is None:
        conversation = await kept.begin(turn.user)
    elif not await kept.history(conversation):
        raise HTTPException(404, "there is no such conversation")
    await kept.add(conversation, "user", turn.message)
    return _lines(_answer(assistant, await kept.history(conversation), turn.user, (kept, conversation)))


async def suggest_message(request: Request, place: Place) -> dict[str, Any]:
    """What to write next in a conversation: a suggestion and two alternatives."""
    suggestion = await request.app.state.assistant.suggest(await _history(request, place.conversation), place.user)
    return {"suggestion": suggestion.text, "alternatives": suggestion.alternatives, "served": suggestion.served}


async def summarise(request: Request) -> dict[str, int]:
    """The nightly batch: a summary of every conversation, at the lowest priority. Call it from cron."""
    kept: Conversations = request.app.state.conversations

    async def one(conversation: int, user: str) -> None:
        summary = await request.app.state.assistant.summarise(await kept.history(conversation), user)
        await kept.summarised(conversation, summary)

    rows = await kept.all()
    results = await asyncio.gather(*(one(row["id"], row["user"]) for row in rows), return_exceptions=True)
    failed = sum(isinstance(result, BaseException) for result in results)
    return {"summarised": len(rows) - failed, "failed": failed}


async def conversations(request: Request) -> list[dict[str, Any]]:
    """All conversations, newest first."""
    rows: list[dict[str, Any]] = await request.app.state.conversations.all()
    return rows


async def messages(request: Request, conversation: int) -> list[dict[str, str]]:
    """The messages of one."""
    return await _history(request, conversation)


async def page() -> FileResponse:
    """The page."""
    return FileResponse(STATIC / "index.html")


async def to_dashboard() -> RedirectResponse:
    """The dashboard's own address ends with a slash."""
    return RedirectResponse("/wallie/")


async def refused(_request: Request, error: Exception) -> JSONResponse:
    """A refusal of the guard, or a provider's error, with the time after which to try again."""
    problem = _problem(error)
    after = problem["retry_after"]
    headers = {"Retry-After": str(max(1, round(after)))} if after is not None else None
    return JSONResponse({"error": problem}, getattr(error, "status_code", 503), headers)


async def _history(request: Request, conversation: int) -> list[dict[str, str]]:
    history: list[dict[str, str]] = await request.app.state.conversations.history(conversation)
    if not history:
        raise HTTPException(404, "there is no such conversation")
    return history


async def _answer(
    assistant: Assistant,
    history: list[dict[str, str]],
    user: str,
    kept_in: tuple[Conversations, int] | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Pieces of text, then how they were served; an error, where there is one, is the last line."""
    conversation = kept_in[1] if kept_in is not None else None
    text = ""
    try:
        async with assistant.chat(history, user, conversation) as stream:
            async for piece in stream:
                text += piece
                yield {"text": piece}
    except AI_ERRORS as error:
        yield {"error": _problem(error)}
        return
    finally:
        if kept_in is not None and text:
            await asyncio.shield(kept_in[0].add(kept_in[1], "assistant", text))
    if stream.result is not None:
        yield {"done": {**served(stream.result), "conversation": conversation}}


def _problem(error: Exception) -> dict[str, Any]:
    code = getattr(error, "code", None) or "provider_error"
    return {"message": str(error), "code": code, "retry_after": getattr(error, "retry_after", None)}


def _lines(values: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async for value in values:
            yield json.dumps(value) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
