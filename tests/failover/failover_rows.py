"""What the rows of the failover tests share: the clock's scale, the configuration, and one request of each kind.

Durations are written as a configuration has them, in seconds, and divided by :data:`SCALE` where they are used: the
defaults are those of the package, ten times as fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import openai
from turns import Turns

from wallie_litellm import WallieError, execute_ai_request, stream_ai_request
from wallie_litellm.config.models import AdmissionSettings, BreakerSettings, RetrySettings
from wallie_litellm.simulator import SimulatedProviders

SCALE: Final = 10  # seconds of a configuration in one second of a test
SLACK: Final = 5.0  # seconds of a test that eight requests may take on a busy machine, besides what they wait for
TIMEOUT: Final = 5.0  # seconds of one call to a faulty deployment, or between two chunks of its stream
LONG_TIMEOUT: Final = 60.0  # seconds, the same for all others
JITTER: Final = 1 + RetrySettings().jitter
RETRIES: Final = (1 + 2 + 4) * JITTER  # seconds that the default's retries wait for at most

TEXT: Final = "one two three four five six seven eight nine ten eleven twelve"
PART: Final = "one two three four five six seven eight "  # what a stream that breaks has delivered
CHUNKS: Final = 8  # pieces of text in PART
MESSAGES: Final = [{"role": "user", "content": "Count to twelve"}]
FEATURE: Final = "wallie-chat"

MODELS: Final = {
    "chat": "openai/gpt-4o-mini",
    "backup": "anthropic/claude-sonnet-4-5",  # LiteLLM says that it accepts a prefill
    "no-prefill": "groq/llama-3.1-8b-instant",
    "special": "deepseek/deepseek-chat",
    "alone": "openai/gpt-4o",
}
BACKUPS: Final = {"backup": "anthropic", "no-prefill": "groq", "special": "deepseek"}
_DURATIONS: Final = frozenset(
    {"max_wait", "patience", "pause_patience", "open_for", "max_open_for", "window", "initial", "max", "first_token"}
)
_DEFAULTS: Final = {"admission": AdmissionSettings(), "breaker": BreakerSettings(), "retry": RetrySettings()}

Calls = int | range | Callable[[int], int]  # a number, its bounds, or what it is for a number of requests


def each(requests: int) -> int:
    """One call for each request."""
    return requests


def once_more(requests: int) -> int:
    """One call for each request, and one more."""
    return requests + 1


@dataclass(frozen=True)
class Row:
    """A fault of the provider behind ``chat``, and what must come of it.

    Of a pair the first is for requests one after the other, the second for eight at once: ``primary`` counts the calls
    to the faulty provider, ``others`` those to each provider of :data:`BACKUPS` that is asked at all, ``within`` is in
    seconds that one request may take. ``served`` is whether the caller gets the whole answer; else it gets
    ``error`` after ``delivered``, with ``status`` where one is stated.
    """

    name: str
    fault: Callable[[SimulatedProviders], object]
    within: float | tuple[float, float] = 0.0
    primary: Calls | tuple[Calls, Calls] = each
    others: Mapping[str, Calls | tuple[Calls, Calls]] = field(default_factory=dict)
    error: type[Exception] | tuple[type[Exception], ...] | None = None
    status: int | None = None
    delivered: str = ""
    circuit: str = "closed"  # after eight at once
    timeout: float = LONG_TIMEOUT  # of the deployment behind ``chat``
    group: str = "chat"
    chain: tuple[str, ...] = ("backup",)
    settings: Mapping[str, Any] = field(default_factory=dict)  # sections of ``wallie:``
    router: Mapping[str, Any] = field(default_factory=dict)  # further ``router_settings``
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of each call

    def __str__(self) -> str:
        return self.name


FROM_BACKUP: Final[Mapping[str, Calls]] = {"backup": each}
CLEAN: Final = (openai.APIError, WallieError)


def scaled(values: Any, scale: float = SCALE) -> Any:
    """``values`` with every duration divided by the scale."""
    if not isinstance(values, Mapping):
        return values
    return {
        key: value / scale if key in _DURATIONS and isinstance(value, int | float) else scaled(value, scale)
        for key, value in values.items()
    }


def fast_defaults(settings: Mapping[str, Any], scale: float = SCALE) -> dict[str, Any]:
    """The ``wallie:`` section with ``settings``, and the package's defaults beside them, ``scale`` times as fast."""
    defaults = {name: {**section.model_dump(), **settings.get(name, {})} for name, section in _DEFAULTS.items()}
    return {"ledger": None, **scaled({**settings, **defaults}, scale)}


def configuration(row: Row) -> dict[str, Any]:
    """The file of a row."""
    return {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {"model": model, **({"timeout": row.timeout / SCALE} if name == "chat" else {})},
            }
            for name, model in MODELS.items()
        ],
        "router_settings": {
            "fallbacks": [{"chat": [*row.chain]}],
            "disable_cooldowns": True,
            "timeout": LONG_TIMEOUT / SCALE,
            **row.router,
        },
        "wallie": fast_defaults(row.settings),
    }


def through_router(row: Row) -> Row:
    """``row`` with a setting that has each call go through LiteLLM's Router, rather than straight to the deployment."""
    return replace(row, name=f"{row.name}, through the Router", router={**row.router, "routing_strategy": "least-busy"})


@dataclass
class Received:
    """What a caller got: the text, and the error behind it, ``seconds`` (of the test) after it asked."""

    text: str = ""
    error: Exception | None = None
    seconds: float = 0.0


async def ask(router: Any, row: Row, kind: str, *, stream: bool, clock: Turns) -> Received:
    """One request, ``kind`` of which is ``helper`` (the package's) or ``plain`` (LiteLLM's interface)."""
    received, started = Received(), clock.now()
    try:
        async for delta in _ENTRANCES[kind](router, row, stream):
            received.text += delta
    except Exception as error:  # noqa: BLE001 - whatever a caller could see
        received.error = error
    received.seconds = clock.now() - started
    return received


async def _helper(router: Any, row: Row, stream: bool) -> Any:
    asked = (router, row.group, MESSAGES)
    if not stream:
        yield (await execute_ai_request(*asked, feature=FEATURE, **row.arguments)).text
        return
    answer = stream_ai_request(*asked, feature=FEATURE, **row.arguments)
    async for delta in answer:
        yield delta


async def _plain(router: Any, row: Row, stream: bool) -> Any:
    answer = await router.acompletion(
        row.group, MESSAGES, stream=stream, metadata={"feature": FEATURE}, **row.arguments
    )
    if not stream:
        yield answer.choices[0].message.content
        return
    async for chunk in answer:
        if chunk.choices:
            yield chunk.choices[0].delta.content or ""


_ENTRANCES: Final = {"helper": _helper, "plain": _plain}


Kind = tuple[str, bool]


def kinds(*, whole: bool, stream: bool, at_once: bool) -> list[Kind]:
    """The entrance and the form of each request: every combination, one after the other, or eight in all at once."""
    forms = [form for form, wanted in ((False, whole), (True, stream)) if wanted]
    combinations = [(entrance, form) for form in forms for entrance in _ENTRANCES]
    return combinations * (8 // len(combinations)) if at_once else combinations


async def several(router: Any, row: Row, asked: list[Kind], *, at_once: bool, clock: Turns) -> list[Received]:
    """The requests of ``asked``."""
    requests = [ask(router, row, entrance, stream=stream, clock=clock) for entrance, stream in asked]
    return await asyncio.gather(*requests) if at_once else [await request for request in requests]


def pick(pair: Any, at_once: bool) -> Any:
    """The half of a pair that is for ``at_once``; what is no pair is for both."""
    return pair[at_once] if isinstance(pair, tuple) else pair
