"""What provider, client, ledger, page, PostHog and LiteLLM's own callback say of a call, to be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from proxy_support import RecordedLedger
from support import shipped_config, wait_until

from wallie_litellm.simulator import SimulatedProviders
from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint
from wallie_litellm.simulator.settings import WIRES

Json = dict[str, Any]
Tokens = tuple[int, int]  # of the prompt, of the answer
Said = tuple[Tokens, float | None]  # tokens, and US dollars where the source has them
Observations = Mapping[str, Mapping[str, Said]]  # by source, then by model group

ANSWER = 37  # tokens that the providers count for an answer, whatever its text is
CACHED = 2  # tokens of each prompt that they read from their cache, at another price
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "gemini": "gemini/gemini-3.1-flash-lite",
    "groq": "groq/openai/gpt-oss-20b",
    "deepseek": "deepseek/deepseek-v4-flash",
}
EMBEDDING = "embedding"  # the row of this name asks a model of its own
# A path of each vendor's, for reading a body; the model is in Gemini's.
_PATHS = {"anthropic": "/v1/messages", "gemini": "/v1beta/models/any:generateContent"}
# What LiteLLM's callback says of a call, by the names in its payload.
CALLBACK_FIELDS = ("model_group", "prompt_tokens", "completion_tokens", "response_cost")


@dataclass(frozen=True)
class Row:
    """One call: to which vendor, and how. ``ask`` returns the tokens in its answer, None where that has none."""

    name: str
    vendor: str
    ask: Callable[..., Any]
    at_full_price: bool = False  # LiteLLM's translation drops the cached tokens, and its callback has them

    @property
    def group(self) -> str:
        """The row's own model group."""
        return self.name.replace(" ", "-").replace(",", "").lower()


@contextmanager
def agreement_providers() -> Iterator[SimulatedProviders]:
    unlimited = {name: {"rpm": None, "tpm": None, "rpd": None} for name in MODELS}
    with SimulatedProviders(unlimited, completion_tokens=ANSWER, cached_tokens=CACHED, uses_tools=True) as providers:
        yield providers


def agreement_config(
    rows: Sequence[Row], providers: SimulatedProviders, endpoint: PostHogEndpoint, ledger: RecordedLedger
) -> dict[str, Any]:
    """A model group for each row, whose every call goes to the ledger and to PostHog."""
    config = shipped_config()
    models = {row.group: MODELS[row.vendor] for row in rows}
    models |= {row.group: "openai/text-embedding-3-small" for row in rows if row.name == EMBEDDING}
    entries = [{"model_name": group, "litellm_params": {"model": model}} for group, model in models.items()]
    config["model_list"] = providers.point(entries)
    config["router_settings"]["fallbacks"] = []
    config["wallie"] |= {
        "ledger": {"url": ledger.url},
        "retry": {"max_retries": 0},
        "telemetry": {
            "posthog": {"api_key": endpoint.project_key, "host": endpoint.url},
            "spool": str(ledger.path.parent / "spool"),
        },
    }
    return config


@dataclass
class Asked:
    """What the provider counted for each row, what its answer said, and which calls failed."""

    provider: dict[str, Said] = field(default_factory=dict)
    client: dict[str, Said] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    def note(self, row: Row, said: Tokens | None, providers: SimulatedProviders) -> None:
        """``row`` was answered, and the answer said these tokens, if any."""
        body = providers[row.vendor].bodies()[-1]
        path = _PATHS.get(row.vendor, "/v1/embeddings" if row.name == EMBEDDING else "/v1/chat/completions")
        ask = WIRES[row.vendor]().parse(path, body)
        assert ask is not None
        self.provider[row.group] = (ask.prompt_tokens, ANSWER if ask.answers else 0), None
        if said is not None:
            self.client[row.group] = said, None

    def compared_with(self, others: Callable[[], Observations]) -> Observations:
        """All sources, once the ``others`` have every row; after a while without those that they have not."""

        def complete() -> bool:
            return all(self.provider.keys() <= said.keys() for said in others().values())

        with suppress(AssertionError):  # the tests of the rows that are missing somewhere say where
            wait_until(complete)
        return {"provider": self.provider, "client": self.client, **others()}


def of_ledger(ledger: RecordedLedger) -> dict[str, Said]:
    rows = ledger.select("wallie_attempts")
    return {row["model"]: ((row["prompt_tokens"], row["completion_tokens"]), row["cost_usd"]) for row in rows}


def of_page(usage: Json) -> dict[str, Said]:
    totals = usage["totals"]
    return {row["name"]: ((row["prompt_tokens"], row["completion_tokens"]), row["cost_usd"]) for row in totals}


def of_posthog(endpoint: PostHogEndpoint) -> dict[str, Said]:
    said = [event.properties for event in endpoint.events("ai.request.completed")]
    return {one["model"]: ((one["promptTokens"], one["completionTokens"]), one["costUsd"]) for one in said}


def of_callback(payloads: Sequence[Json]) -> dict[str, Said]:
    """What LiteLLM's success callback says; it comes once for each call.

    Raises:
        AssertionError: it came twice.
    """
    groups = [one["model_group"] for one in payloads]
    assert len(groups) == len(set(groups)), sorted(group for group in groups if groups.count(group) > 1)
    return {
        one["model_group"]: ((one["prompt_tokens"], one["completion_tokens"]), one["response_cost"]) for one in payloads
    }


def check_agreement(asked: Asked, observations: Observations, row: Row) -> None:
    """All sources say the same of ``row``, to the token."""
    if row.group in asked.failed:
        raise asked.failed[row.group]
    found = {source: said[row.group] for source, said in observations.items() if row.group in said}
    assert found.keys() - {"client"} == {"provider", "ledger", "page", "posthog", "callback"}, found.keys()
    assert {source: tokens for source, (tokens, _) in found.items()} == dict.fromkeys(found, found["provider"][0]), (
        found
    )
    costs = {source: cost for source, (_, cost) in found.items() if source not in ("provider", "client")}
    if row.at_full_price:
        discounted = costs.pop("callback")
        assert 0 < discounted < costs["ledger"]
    assert costs == dict.fromkeys(costs, pytest.approx(next(iter(costs.values())), rel=1e-9)), costs
    assert costs["ledger"] is not None
    assert costs["ledger"] > 0


def events_of(text: str) -> list[Json]:
    """The objects of a stream of server-sent events."""
    data = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def of_anthropic(usage: Json) -> Tokens:
    """Anthropic leaves what was read from the cache out of the input tokens."""
    cached = sum(usage.get(name) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
    return usage["input_tokens"] + cached, usage["output_tokens"]


def of_message_events(events: list[Json]) -> Tokens:
    """As Anthropic's SDK reads them: the figures of the start, replaced by those of the last delta that has some."""
    usage: Json = {}
    for event in events:
        assert event["type"] != "error", event
        said = event["message"]["usage"] if event["type"] == "message_start" else event.get("usage") or {}
        usage |= {name: value for name, value in said.items() if value is not None}
    assert events[-1]["type"] == "message_stop"
    return of_anthropic(usage)


def of_gemini(answer: Json) -> Tokens:
    usage = answer["usageMetadata"]
    return usage["promptTokenCount"], usage["candidatesTokenCount"]
