"""The estimate of a call's tokens: how far it is from a tokenizer's count, before and after learning, and its cost.

The shapes are those in which agents send what they send, each with text of another kind from the standard library's own
sources. LiteLLM's tokenizer for gpt-4o stands in for the vendor's count; what vendors add to a request is left out.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import random
import statistics
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any, Final

import litellm

from benchmarks import harness
from benchmarks.harness import Report, Side
from wallie_litellm.core.demand import Demand
from wallie_litellm.guard.context import Attempt
from wallie_litellm.guard.estimates import Estimates
from wallie_litellm.litellm_adapter.requests import SizeReader, wish_of

_MODEL: Final = "openai/gpt-4o"
_LEARNED: Final = 20  # calls of a kind before the error is taken
_JUDGED: Final = 20  # calls of which it is the mean
_OUTPUTS: Final = (80, 400)  # tokens of an answer, from and to

Arguments = dict[str, Any]


def run(quick: bool) -> Report:
    report = Report(
        "The estimate of a call's tokens",
        ("shape", "tokens", "first estimate", "after 20 calls", "µs: estimate", "µs: learn"),
        notes=[
            "Mean error of prompt and output together, as a share of the tokens; no `max_tokens`. CPU time, medians. "
            "Goal: at most 15 % after 20 calls of a kind."
        ],
    )
    dice = random.Random(1)
    for name, (prompt, make) in _SHAPES.items():
        calls = [make(dice) for _ in range(_LEARNED + _JUDGED)]
        counts = [_counted(call) for call in calls]
        outputs = [dice.randint(*_OUTPUTS) for _ in calls]
        errors = _errors(prompt, calls, counts, outputs)
        took = asyncio.run(_timed(prompt, calls[0], 5 if quick else 50))
        before, after = statistics.fmean(errors[:3]), statistics.fmean(errors[_LEARNED:])
        size = statistics.fmean(counts)
        report.rows.append((name, f"{size:,.0f}", f"{before:.0%}", f"{after:.1%}", *(f"{micro:.1f}" for micro in took)))
        report.data[name] = {"tokens": size, "before": before, "after": after, "us": took}
    return report


def _errors(prompt: str, calls: list[Arguments], counts: list[int], outputs: list[int]) -> list[float]:
    reader, estimates, attempt = SizeReader(), Estimates({}), _attempt()
    errors = []
    for call, counted, output in zip(calls, counts, outputs, strict=True):
        estimate = estimates.of(
            estimates.model_of(attempt), reader.size_of(call, prompt), _wish(prompt, call), "agent", "group"
        )
        used = counted + output
        errors.append(abs(estimate.demand.tokens - used) / used)
        if estimate.model.is_looked_at():
            estimate.learn(Demand(1, used, counted, output), 0, estimate.demand.tokens, used)
    return errors


async def _timed(prompt: str, call: Arguments, rounds: int) -> tuple[float, float]:
    reader, estimates, attempt = SizeReader(), Estimates({}), _attempt()

    def estimate() -> Any:
        return estimates.of(
            estimates.model_of(attempt), reader.size_of(call, prompt), _wish(prompt, call), "agent", "group"
        )

    made = estimate()

    def learn() -> None:
        if made.model.is_looked_at():
            made.learn(Demand(1, 1100, 1000, 100), 0, 1150, 1100)

    sides = [Side("estimate", _repeated(estimate)), Side("learn", _repeated(learn))]
    samples = await harness.interleave(sides, rounds, 200)
    return tuple(harness.median(samples, side.name, "cpu") * 1e6 for side in sides)  # type: ignore[return-value]


def _repeated(call: Callable[[], Any]) -> harness.Work:
    async def work(operations: int) -> None:
        for _ in repeat(None, operations):
            call()

    return work


def _attempt() -> Attempt:
    return Attempt("group", provider="openai", deployment=_MODEL, entry={"litellm_params": {"model": _MODEL}})


def _wish(prompt: str, call: Arguments) -> Any:
    return wish_of(call, {}, call[prompt], "chat")


# What is sent


def _words(dice: random.Random, characters: int) -> str:
    """Prose: docstrings of the standard library."""
    begin = dice.randrange(len(_PROSE) - characters)
    return _PROSE[begin : begin + characters]


def _code(dice: random.Random, characters: int) -> str:
    begin = dice.randrange(len(_SOURCE) - characters)
    return _SOURCE[begin : begin + characters]


def _tool(dice: random.Random) -> dict[str, Any]:
    names = ["query", "limit", "since", "account_id", "format", "is_archived"]
    fields = {name: {"type": "string", "description": _words(dice, 120)} for name in names}
    schema = {"type": "object", "properties": fields, "required": names[:2]}
    name = f"find_{dice.randrange(1000)}"
    return {"type": "function", "function": {"name": name, "description": _words(dice, 400), "parameters": schema}}


def _row(dice: random.Random) -> dict[str, Any]:
    return {"id": dice.randrange(10**6), "amount": dice.random(), "note": _words(dice, 40), "state": "open"}


def _user(dice: random.Random, characters: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": _words(dice, characters)}]


def _call(arguments: Any) -> dict[str, Any]:
    function = {"name": "write", "arguments": json.dumps(arguments)}
    return {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


_SOURCE: Final = "".join(inspect.getsource(module) for module in (ast, inspect, random, statistics))
_PROSE: Final = " ".join(
    " ".join(found.split())
    for module in (ast, inspect, random, statistics, asyncio.events, asyncio.tasks, json.decoder)
    for node in ast.walk(ast.parse(inspect.getsource(module)))
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and (found := ast.get_docstring(node) or "")
)

_SHAPES: Final[Mapping[str, tuple[str, Callable[[random.Random], Arguments]]]] = {
    "a short message": ("messages", lambda dice: {"messages": _user(dice, dice.randint(80, 200))}),
    "a long conversation": (
        "messages",
        lambda dice: {"messages": [one for _ in range(20) for one in _user(dice, dice.randint(200, 1500))]},
    ),
    "forty tools": (
        "messages",
        lambda dice: {"messages": _user(dice, 300), "tools": [_tool(dice) for _ in range(40)]},
    ),
    "arguments of tool calls": (
        "messages",
        lambda dice: {"messages": [*_user(dice, 300), _call([_row(dice) for _ in range(dice.randint(150, 300))])]},
    ),
    "results of tools: code": (
        "messages",
        lambda dice: {
            "messages": [*_user(dice, 300), {"role": "tool", "content": _code(dice, dice.randint(9000, 40000))}]
        },
    ),
    "a system list": (
        "messages",
        lambda dice: {
            "messages": _user(dice, 300),
            "system": [{"type": "text", "text": _words(dice, dice.randint(4000, 15000))}],
        },
    ),
    "Responses: outputs of functions": (
        "input",
        lambda dice: {
            "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": _words(dice, 300)}]},
                {"type": "function_call_output", "call_id": "c", "output": _code(dice, dice.randint(9000, 60000))},
            ]
        },
    ),
    "a schema": (
        "messages",
        lambda dice: {
            "messages": _user(dice, 300),
            "response_format": {"type": "json_schema", "json_schema": {"schema": [_tool(dice) for _ in range(20)]}},
        },
    ),
    "a document of type text": (
        "messages",
        lambda dice: {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "document", "source": {"type": "text", "data": _words(dice, 15000)}}],
                }
            ]
        },
    ),
}


def _counted(call: Arguments) -> int:
    """The tokens of everything in a call: texts as they are, tools and schemas as JSON."""
    texts: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, list):
            for one in node:
                walk(one)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("tools", "response_format"):
                    texts.append(json.dumps(value))
                elif key not in ("type", "role", "id", "call_id"):
                    walk(value)

    walk(call)
    return sum(litellm.token_counter(model="gpt-4o", text=text) for text in texts)
