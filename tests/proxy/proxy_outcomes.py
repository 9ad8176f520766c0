"""The endpoints of a proxy, and every way in which a request to it can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from proxy_support import Answer, Proxy, RecordedLedger
from support import messages

METADATA = {"conversationId": "123", "hasRAG": True}

ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": messages()}),
    "chat_stream": ("/v1/chat/completions", {"messages": messages(), "stream": True}),
    "messages": ("/v1/messages", {"messages": messages(), "max_tokens": 20}),
    "messages_stream": ("/v1/messages", {"messages": messages(), "max_tokens": 20, "stream": True}),
    "responses": ("/v1/responses", {"input": "Hello there"}),
    "responses_stream": ("/v1/responses", {"input": "Hello there", "stream": True}),
    "embeddings": ("/v1/embeddings", {"input": "Hello there"}),
}
OPERATIONS = {"embeddings": "embedding"}
WHOLE = ("chat", "messages", "responses")
STREAMS = ("chat_stream", "messages_stream", "responses_stream")
GENERATING = (*WHOLE, *STREAMS)

Attempts = tuple[tuple[str, str, str | None], ...]  # provider, outcome, error; OWN stands for the case's provider
OWN = "own"
NEXT = ("anthropic", "success", None)
SERVED = ((OWN, "success", None),)


@dataclass(frozen=True)
class Case:
    """What the provider does, how the attempts end, and how the request ends.

    Each case has, at each endpoint, a provider of its own, so that its limits and breaker concern no other case.
    """

    attempts: Attempts
    prepare: Callable[[SimpleNamespace], object] = lambda at: None
    error: str | None = None
    status: int = 200
    by_caller: bool = False
    endpoints: tuple[str, ...] = GENERATING
    chain: bool = False
    limits: tuple[tuple[str, int], ...] = ()
    timeout: float | None = None


def twice(outcome: str, error: str) -> Attempts:
    return ((OWN, outcome, error), (OWN, outcome, error))


def ask_before(at: SimpleNamespace) -> None:
    at.ask(user=f"{at.user}-before")


def open_the_circuit(at: SimpleNamespace) -> None:
    at.openai.fail(500)
    ask_before(at)
    at.openai.heal()
    at.openai.reset()


CASES = {
    "success": Case(SERVED, endpoints=(*GENERATING, "embeddings")),
    "retry": Case(
        ((OWN, "rejected", "HTTP 500"), (OWN, "success", None)),
        lambda at: at.openai.fail(500, times=1),
        endpoints=(*GENERATING, "embeddings"),
    ),
    "fallback": Case((*twice("rejected", "HTTP 500"), NEXT), lambda at: at.openai.fail(500), chain=True),
    "429": Case(((OWN, "rejected", "HTTP 429"), NEXT), lambda at: at.openai.rate_limit(60), chain=True),
    "refused connection": Case(
        (*twice("not_sent", "connection refused"), NEXT), lambda at: at.openai.refuse(), chain=True
    ),
    "timeout": Case(((OWN, "cut", "timeout"), NEXT), lambda at: at.openai.hang(), chain=True, timeout=0.2),
    "malformed": Case(
        (*twice("cut", "unreadable answer"), NEXT), lambda at: at.openai.malformed(), chain=True, endpoints=WHOLE
    ),
    "400": Case(
        ((OWN, "rejected", "HTTP 400"),),
        lambda at: at.openai.fail(400),
        "HTTP 400",
        400,
        by_caller=True,
        endpoints=(*GENERATING, "embeddings"),
    ),
    "5xx alone": Case(
        twice("rejected", "HTTP 503"),
        lambda at: at.openai.fail(503),
        "HTTP 503",
        503,
        endpoints=(*GENERATING, "embeddings"),
    ),
    "at its limit": Case((), ask_before, "wallie_rate_limited", 429, limits=(("rpm", 1),)),
    "open circuit": Case((), open_the_circuit, "wallie_circuit_open", 503),
}
TABLE = [(name, endpoint) for name, case in CASES.items() for endpoint in case.endpoints]
PLAIN = Case(SERVED, endpoints=STREAMS)
OWN_PROVIDERS = [
    *((CASES[name], name, endpoint) for name, endpoint in TABLE),
    *((PLAIN, "cut", endpoint) for endpoint in STREAMS),
]


def own(name: str, endpoint: str) -> str:
    """The model group and the provider of a case at an endpoint."""
    return f"{name} {endpoint}".replace(" ", "-")


@dataclass
class Recorded:
    proxy: Proxy
    ledger: RecordedLedger

    def ask(self, endpoint: str, model: str, user: str, **more: Any) -> Answer:
        path, body = ENDPOINTS[endpoint]
        metadata = {**METADATA, "feature": "wallie-chat", "user_id": user}
        return self.proxy.post(path, {**body, "model": model, "metadata": metadata, **more})
