"""Endpoints other than chat, the calls for threads, and calls of several models or prompts at once."""

from __future__ import annotations

import asyncio
import io
from typing import Any, Final

from drop_in.actions import PROMPT, blocking, call, outcome_of, until
from drop_in.observation import Facets, plain_data
from drop_in.row import Action, Difference, Row, Stage, deployment
from drop_in.upstream import LONGEST, Fault, failing

ONE: Final = [deployment("m", "a")]
TWO: Final = [*ONE, deployment("n", "b")]
CLAUDE: Final = [deployment("m", "a", "anthropic/claude-sonnet-4-5")]
VECTORS: Final = [deployment("m", "a", "openai/text-embedding-3-small")]
ONWARD: Final[dict[str, Any]] = {"fallbacks": [{"m": ["n"]}]}
DOWN: Final = {"a": [failing()] * 4}
FAILED: Final = ("InternalServerError", 500)
# OpenAI's client itself asks again, at once where the provider says so.
SHORTLY: Final = {"retry_after_ms": "1"}
SEVERAL: Final = [[{"role": "user", "content": "one"}], [{"role": "user", "content": "two"}]]


def audio() -> io.BytesIO:
    """A file to be written down."""
    file = io.BytesIO(b"RIFF")
    file.name = "speech.wav"
    return file


def transcribed(**arguments: Any) -> Action:
    """The text of a file."""

    async def act(stage: Stage) -> Any:
        return await stage.router.atranscription(model="m", file=audio(), **arguments)

    return act


def spoken() -> Action:
    """The bytes of a text that is read out."""

    async def act(stage: Stage) -> Any:
        answer = await stage.router.aspeech(model="m", input="Hello", voice="alloy")
        return Facets(answer=answer.content)

    return act


def file_created() -> Action:
    """A file for one deployment."""

    async def act(stage: Stage) -> Any:
        file = ("lines.jsonl", b"{}", "application/jsonl")
        answer = await stage.router.acreate_file(model="m", file=file, purpose="batch")
        return Facets(answer=plain_data(answer)["object"])

    return act


def assistants() -> Action:
    """The vendor's assistants, which belong to no model group."""

    async def act(stage: Stage) -> Any:
        base = stage.upstream.base("a") + "/v1"
        answer = await stage.router.aget_assistants(custom_llm_provider="openai", api_key="sk-a", api_base=base)
        return Facets(answer=[assistant.id for assistant in answer.data])

    return act


def batch_created() -> Action:
    """A batch of one deployment."""

    async def act(stage: Stage) -> Any:
        answer = await stage.router.acreate_batch(
            model="m", completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-1"
        )
        return Facets(answer=plain_data(answer)["status"])

    return act


def texts(method: str, **arguments: Any) -> Action:
    """The texts and errors of a call that gives several answers."""

    async def act(stage: Stage) -> Any:
        answers = await getattr(stage.router, method)(**arguments)
        return Facets(answer=_texts(answers))

    return act


def _texts(answers: Any) -> Any:
    if isinstance(answers, list):
        return [_texts(each) for each in answers]
    return plain_data(answers) if isinstance(answers, Exception) else answers.choices[0].message.content


def by_position(method: str, *arguments: Any, **more: Any) -> Action:
    """One call with positional arguments."""

    async def act(stage: Stage) -> Any:
        return await getattr(stage.router, method)(*arguments, **more)

    return act


def blocking_by_position(method: str, *arguments: Any) -> Action:
    """The same of a call for threads."""

    async def act(stage: Stage) -> Any:
        return await asyncio.to_thread(getattr(stage.router, method), *arguments)

    return act


def followed(count: int) -> Action:
    """Responses each of which names the one before."""

    async def act(stage: Stage) -> Any:
        answer = await stage.router.aresponses(model="m", input="Hello")
        for _ in range(count):
            answer = await stage.router.aresponses(model="m", input="Go on", previous_response_id=answer.id)
        return Facets(accounts_used=len({request.account for request in stage.upstream.requests}))

    return act


def read_again(method: str) -> Action:
    """A response, and another call about it."""

    async def act(stage: Stage) -> Any:
        answer = await stage.router.aresponses(model="m", input="Hello")
        return await getattr(stage.router, method)(response_id=answer.id)

    return act


def abandoned(method: str, **arguments: Any) -> Action:
    """A call that is cancelled while the provider is silent."""

    async def act(stage: Stage) -> Any:
        task = asyncio.create_task(getattr(stage.router, method)(**arguments))
        await until(lambda: stage.upstream.requests)
        await asyncio.sleep(0.02)
        task.cancel()
        error = await outcome_of(_cancelled(task))
        await until(lambda: stage.upstream.left["a"])
        return Facets(cancelled=error, left=stage.upstream.left["a"])

    return act


async def _cancelled(task: asyncio.Task[Any]) -> bool:
    await asyncio.wait([task])
    return task.cancelled()


def through(*path: str, **arguments: Any) -> Action:
    """The way of OpenAI's client: ``router.chat.completions.create``."""

    async def act(stage: Stage) -> Any:
        found = stage.router
        for name in path:
            found = getattr(found, name)
        return await asyncio.to_thread(found, **arguments)

    return act


ROWS: Final = [
    Row("a text completion", ONE, call("atext_completion", model="m", prompt="Hello"), {"answer": "from a"}),
    Row(
        "a text completion of the vendor's own endpoint",
        [deployment("m", "a", "text-completion-openai/gpt-3.5-turbo-instruct")],
        call("atext_completion", model="m", prompt="Hello"),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "a fallback of a text completion",
        TWO,
        call("atext_completion", model="m", prompt="Hello"),
        {"answer": "from b", "accounts": ["a", "b"]},
        DOWN,
        ONWARD,
    ),
    Row("embeddings", VECTORS, call("aembedding", model="m", input=["one", "two"]), {"accounts": ["a"]}),
    Row(
        "a fallback of embeddings",
        [*VECTORS, deployment("n", "b", "openai/text-embedding-3-small")],
        call("aembedding", model="m", input="one"),
        {"accounts": ["a", "a", "a", "b"]},
        {"a": [failing(500, **SHORTLY)] * 4},
        ONWARD,
        difference=Difference("retries-of-the-client", {"accounts": ["a", "b"]}),
    ),
    Row("responses", ONE, call("aresponses", model="m", input="Hello"), {"answer": "from a", "accounts": ["a"]}),
    Row(
        "responses that follow one another stay with their deployment",
        [deployment("m", "a"), deployment("m", "b")],
        followed(5),
        {"accounts_used": 1},
        settings={"optional_pre_call_checks": ["responses_api_deployment_check"]},
        any_request=True,
    ),
    Row("a response that is read again", ONE, read_again("aget_responses"), {"accounts": ["a", "a"]}),
    Row("a response that is deleted", ONE, read_again("adelete_responses"), {"accounts": ["a", "a"]}),
    Row(
        "a fallback of responses",
        TWO,
        call("aresponses", model="m", input="Hello"),
        {"answer": "from b", "accounts": ["a", "b"]},
        DOWN,
        ONWARD,
    ),
    Row(
        "responses of a vendor that has no such endpoint",
        CLAUDE,
        call("aresponses", model="m", input="Hello"),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "messages",
        CLAUDE,
        call("aanthropic_messages", model="m", messages=PROMPT, max_tokens=20),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "messages of OpenAI",
        ONE,
        call("aanthropic_messages", model="m", messages=PROMPT, max_tokens=20),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "a fallback of messages",
        [*CLAUDE, deployment("n", "b", "anthropic/claude-sonnet-4-5")],
        call("aanthropic_messages", model="m", messages=PROMPT, max_tokens=20),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [failing(529)]},
        ONWARD,
    ),
    Row(
        "an image",
        [deployment("m", "a", "openai/dall-e-3")],
        call("aimage_generation", model="m", prompt="a cat"),
        {"accounts": ["a"]},
    ),
    Row(
        "a transcription",
        [deployment("m", "a", "openai/whisper-1")],
        transcribed(language="en"),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row("speech", [deployment("m", "a", "openai/tts-1")], spoken(), {"answer": b"from a", "accounts": ["a"]}),
    Row(
        "a reranking",
        [deployment("m", "a", "cohere/rerank-v3.5")],
        call("arerank", model="m", query="q", documents=["one", "two"]),
        {"accounts": ["a"]},
    ),
    Row(
        "a moderation",
        [deployment("m", "a", "openai/omni-moderation-latest")],
        call("amoderation", model="m", input="Hello"),
        {"accounts": ["a"]},
    ),
    Row("a file", ONE, file_created(), {"answer": "file", "accounts": ["a"]}),
    Row("a batch", ONE, batch_created(), {"answer": "validating", "accounts": ["a"]}),
    Row("assistants", ONE, assistants(), {"accounts": ["a"]}),
    Row(
        "a chat completion in a thread",
        ONE,
        blocking("completion", model="m", messages=PROMPT),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "a fallback in a thread",
        TWO,
        blocking("completion", model="m", messages=PROMPT),
        {"answer": "from b", "accounts": ["a", "b"]},
        DOWN,
        ONWARD,
    ),
    Row(
        "an error in a thread",
        ONE,
        blocking("completion", model="m", messages=PROMPT),
        {"error": FAILED, "accounts": ["a"]},
        DOWN,
    ),
    Row(
        "embeddings in a thread",
        VECTORS,
        blocking("embedding", model="m", input="one"),
        {"accounts": ["a"]},
    ),
    Row(
        "responses in a thread",
        ONE,
        blocking("responses", model="m", input="Hello"),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "an image in a thread",
        [deployment("m", "a", "openai/dall-e-3")],
        blocking("image_generation", model="m", prompt="a cat"),
        {"accounts": ["a"]},
    ),
    Row(
        "router.chat.completions.create",
        ONE,
        through("chat", "completions", "create", model="m", messages=PROMPT),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row(
        "schedule_acompletion",
        ONE,
        call("schedule_acompletion", model="m", messages=PROMPT, priority=0),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row("acompletion by position", ONE, by_position("acompletion", "m", PROMPT), {"answer": "from a"}),
    Row("completion by position", ONE, blocking_by_position("completion", "m", PROMPT), {"answer": "from a"}),
    Row("atext_completion by position", ONE, by_position("atext_completion", "m", "Hello"), {"answer": "from a"}),
    Row("aembedding by position", VECTORS, by_position("aembedding", "m", "one"), {"accounts": ["a"]}),
    Row("embedding by position", VECTORS, blocking_by_position("embedding", "m", "one"), {"accounts": ["a"]}),
    Row(
        "aimage_generation by position",
        [deployment("m", "a", "openai/dall-e-3")],
        by_position("aimage_generation", "a cat", "m"),
        {"accounts": ["a"]},
    ),
    Row(
        "arerank by position",
        [deployment("m", "a", "cohere/rerank-v3.5")],
        by_position("arerank", "m", query="q", documents=["one", "two"]),
        {"accounts": ["a"]},
    ),
    Row(
        "several models at once",
        TWO,
        texts("abatch_completion", models=["m", "n"], messages=PROMPT),
        {"answer": ["from a", "from b"]},
        any_order=True,
    ),
    Row(
        "several models and several prompts at once",
        TWO,
        texts("abatch_completion", models=["m", "n"], messages=SEVERAL),
        {"answer": [["from a", "from b"], ["from a", "from b"]]},
        any_order=True,
    ),
    Row(
        "the fastest of several models",
        TWO,
        texts("abatch_completion_fastest_response", model="m, n", messages=PROMPT),
        {"answer": "from b"},
        {
            "a": [Fault(delay=LONGEST), ...]
        },  # the plain router's cancelled call may come in while this package's is made
        any_request=True,
    ),
    Row(
        "several requests of one model at once",
        ONE,
        texts("abatch_completion_one_model_multiple_requests", model="m", messages=SEVERAL),
        {"answer": ["from a", "from a"]},
        any_order=True,
    ),
    Row(
        "a cancelled call",
        ONE,
        abandoned("acompletion", model="m", messages=PROMPT),
        {"cancelled": True, "left": 1, "accounts": ["a"]},
        {"a": [Fault(delay=LONGEST)]},
    ),
    Row(
        "a cancelled call of responses",
        ONE,
        abandoned("aresponses", model="m", input="Hello"),
        {"cancelled": True, "left": 1, "accounts": ["a"]},
        {"a": [Fault(delay=LONGEST)]},
        ONWARD,
    ),
]
