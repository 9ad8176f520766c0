"""The error table, against answers that a server really sends, in the form in which LiteLLM hands them on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, Final

import litellm
import pytest
from aiohttp import web
from litellm_adapter.error_shapes import DAY, SHAPES, Shape
from support import messages

from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.daily_quota import next_midnight
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.core.http_status import FAULTS
from wallie_litellm.core.limit_texts import sightings_in_answer
from wallie_litellm.litellm_adapter.error_table import ROWS, find_row
from wallie_litellm.litellm_adapter.errors import classify_error
from wallie_litellm.litellm_adapter.limit_signs import REFUSALS, refusal_in
from wallie_litellm.simulator.loopback_server import LoopbackServer

GOOGLES: Final = ("gemini", "google-openai")  # whose days begin at midnight in California
FAILING: Final = (FaultDomain.PROVIDER, FaultDomain.ACCOUNT)  # what the breaker counts
MODELS: Final = {
    "openai": "openai/gpt-4o-mini",
    "azure": "azure/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "google-openai": "openai/gemini-2.5-flash",
    # LiteLLM's vertex_ai asks Google for a token first; both are read by the same code.
    "vertex-ai": "gemini/gemini-2.5-flash",
    "groq": "groq/llama-3.3-70b-versatile",
    "deepseek": "deepseek/deepseek-chat",
    "mistral": "mistral/mistral-small-latest",
    "openrouter": "openrouter/meta-llama/llama-3.3-70b",
    "together-ai": "together_ai/deepseek-ai/DeepSeek-R1",
    "fireworks-ai": "fireworks_ai/llama-v3p1-8b",
    "cohere": "cohere/command-r-plus",
    "xai": "xai/grok-3",
    "bedrock": "bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}
PATHS: Final = {"openai": "/v1", "google-openai": "/v1beta/openai"}  # of LiteLLM's api_base, after the host
# One of each vendor's: how a stream begins is read by other code of LiteLLM's.
STREAMED: Final = tuple({shape.vendor: shape for shape in reversed(SHAPES)}.values())
UNREADABLE: Final = (b"", b"<html>Bad gateway</html>", b"{}", b"[]", b'{"choices": null}', b'{"choices": [', b'"text"')


class Answering:
    """A server that gives every request the same answer."""

    def __init__(self) -> None:
        self.server = LoopbackServer("error shapes", self._handle, 2**20)
        self.answer: tuple[int, bytes, dict[str, str]] = (200, b"{}", {})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        status, body, headers = self.answer
        return web.Response(status=status, body=body, headers=headers, content_type="application/json")


@pytest.fixture(scope="module")
def answering() -> Iterator[Answering]:
    found = Answering()
    found.server.start()
    yield found
    found.server.stop()


def call_of(vendor: str, port: int) -> dict[str, Any]:
    base = f"http://127.0.0.1:{port}{PATHS.get(vendor, '')}"
    call = {"model": MODELS[vendor], "messages": messages(), "max_retries": 0, "num_retries": 0, "timeout": 10}
    if vendor == "bedrock":
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_region_name": "us-east-1"}
        return {**call, **keys, "aws_bedrock_runtime_endpoint": base}
    version = {"api_version": "2024-10-21"} if vendor == "azure" else {}
    return {**call, **version, "api_key": "sk-x", "api_base": base}


async def ask(vendor: str, answering: Answering, *, stream: bool) -> None:
    answer = await litellm.acompletion(**call_of(vendor, answering.server.port), stream=stream)
    if stream:
        async for _ in answer:
            pass


def until_reset(vendor: str) -> float:
    zone = "America/Los_Angeles" if vendor in GOOGLES else "UTC"
    return next_midnight(time.time(), zone) - time.time()


async def check(shape: Shape, answering: Answering, *, stream: bool = False) -> None:
    answering.answer = (shape.status, json.dumps(shape.body).encode(), dict(shape.headers))
    with pytest.raises(Exception) as raised:  # noqa: PT011 - LiteLLM has a name for each status
        await ask(shape.vendor, answering, stream=stream)
    result = classify_error(raised.value)
    assert result.fault == (None if shape.fault is None else FaultDomain(shape.fault))
    assert result.status_code == shape.status
    assert result.rate_limited == shape.limited
    failed = shape.missing or (result.fault in FAILING and not shape.limited)
    assert result.verdict is (Verdict.FAILURE if failed else Verdict.IGNORED)
    assert result.transient == (result.fault is FaultDomain.PROVIDER)
    named = sightings_in_answer(shape.body) if shape.status in REFUSALS else ()
    assert refusal_in(raised.value).in_text == named
    pause = until_reset(shape.vendor) if shape.pause == DAY else shape.pause
    assert result.pause_for == (None if pause is None else pytest.approx(pause, abs=5 if shape.pause == DAY else 1e-2))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
async def test_a_vendors_answer_says_whose_failure_it_is(answering: Answering, shape: Shape) -> None:
    await check(shape, answering)


@pytest.mark.parametrize("shape", STREAMED, ids=str)
async def test_a_streams_beginning_says_it_too(answering: Answering, shape: Shape) -> None:
    await check(shape, answering, stream=True)


@pytest.mark.parametrize("vendor", MODELS)
async def test_an_answer_that_litellm_cannot_read_is_the_providers_failure(answering: Answering, vendor: str) -> None:
    for body in UNREADABLE:
        answering.answer = (200, body, {})
        try:
            await litellm.acompletion(**call_of(vendor, answering.server.port))
        except Exception as error:  # noqa: BLE001 - of any class
            result = classify_error(error)
            assert (result.fault, result.verdict, result.transient) == (FaultDomain.PROVIDER, Verdict.FAILURE, True), (
                body
            )


def test_limits_are_named_by_shapes_of_many_vendors() -> None:
    naming = {shape.vendor for shape in SHAPES if sightings_in_answer(shape.body)}
    assert naming >= {"openai", "azure", "anthropic", "gemini", "google-openai", "groq", "together-ai", "cohere"}


def test_the_shapes_are_of_at_least_ten_vendors_and_sixty_kinds() -> None:
    assert len(SHAPES) >= 60
    assert len({shape.vendor for shape in SHAPES}) >= 10
    assert len(set(map(str, SHAPES))) == len(SHAPES)


def test_every_row_of_the_table_names_a_document_or_a_report() -> None:
    for row in ROWS:
        assert re.search(r"https://\S+\.\S+|[\w.-]+/[\w.-]+#\d+", row.source), row


def test_every_row_of_the_table_is_the_one_for_some_shape() -> None:
    found = set()
    for shape in SHAPES:
        vendor = MODELS[shape.vendor].partition("/")[0]
        codes = {f"{name}: {value}" for name, value in shape.headers.items()}
        found.add(find_row(vendor, shape.status, frozenset(codes), json.dumps(shape.body).lower()))
    assert [row for row in ROWS if row not in found] == []


def test_no_row_is_hidden_by_a_more_general_one_before_it() -> None:
    for place, row in enumerate(ROWS):
        for earlier in ROWS[:place]:
            general = (
                not earlier.words and not earlier.codes and (not earlier.vendors or row.vendors <= earlier.vendors)
            )
            hidden = general and row.statuses <= earlier.statuses and (row.vendors or not earlier.vendors)
            assert not hidden, (earlier, row)


def test_a_row_about_a_limit_is_about_a_429() -> None:
    limits = [row for row in ROWS if row.is_limit]
    assert all(row.statuses == {429} and row.fault in (FaultDomain.MODEL, FaultDomain.ACCOUNT, None) for row in limits)
    assert {429} <= FAULTS.keys()
