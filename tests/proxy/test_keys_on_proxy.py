"""The virtual key of a request on a real LiteLLM proxy: its name is on record, and its budget holds for it alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import pytest
from forked import ForkServer
from proxy_support import MASTER_KEY, Answer, Proxy, RecordedLedger, fork_proxy_with_keys
from support import messages, shipped_config

from wallie_litellm.simulator import SimulatedProviders

ALIASES: Final = {"sk-chat-1234": "chat-app", "sk-nightly-1234": "nightly", "sk-unnamed-1234": None, "unhashed": None}
SPENT_BY_ONE: Final = {"daily_usd": 0.000_000_001, "on_exhausted": "refuse"}
CLAIMED: Final = {"user_api_key_alias": "batch", "user_api_key_hash": "f" * 64, "user_api_key": "f" * 64}


@pytest.fixture(scope="module")
def proxy(
    running_fleet: SimulatedProviders,
    forks: ForkServer,
    tmp_path_factory: pytest.TempPathFactory,
    ledger: RecordedLedger,
) -> Iterator[Proxy]:
    config = shipped_config()
    config["model_list"] = running_fleet.point(config["model_list"])
    config["wallie"] |= {"ledger": {"url": ledger.url}, "keys": {"nightly": {"budget": SPENT_BY_ONE}}}
    keys = {key: {"key_alias": alias} for key, alias in ALIASES.items()}
    running = fork_proxy_with_keys(forks, tmp_path_factory.mktemp("proxy"), config, keys)
    yield running
    running.stop()


def ask(proxy: Proxy, key: str, path: str = "/v1/chat/completions", **body: Any) -> Answer:
    asked = {"model": "gpt-4o-mini", **({"input": "hi"} if "input" in body else {"messages": messages("hi")}), **body}
    return proxy.post(path, asked, {"authorization": f"Bearer {key}"})


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("sk-chat-1234", "chat-app"),
        ("sk-unnamed-1234", hashlib.sha256(b"sk-unnamed-1234").hexdigest()[:12]),
        ("unhashed", hashlib.sha256(b"unhashed").hexdigest()[:12]),
        (MASTER_KEY, hashlib.sha256(MASTER_KEY.encode()).hexdigest()[:12]),
    ],
)
def test_a_request_is_recorded_with_the_name_of_its_key(
    proxy: Proxy, ledger: RecordedLedger, key: str, name: str
) -> None:
    assert ask(proxy, key, user=f"named-{name}").status == 200
    attempts, request = ledger.of(f"named-{name}")
    assert {request["proxy_key"], *(one["proxy_key"] for one in attempts)} == {name}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"stream": True}),
        ("/v1/messages", {"max_tokens": 20}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/embeddings", {"input": "hi", "model": "text-embedding-3-small"}),
    ],
)
def test_metadata_of_the_caller_cannot_name_another_key(
    proxy: Proxy, ledger: RecordedLedger, path: str, body: dict[str, Any]
) -> None:
    user = f"claims{path}-{body.get('stream')}"
    claims = {"metadata": {**CLAIMED, "user_id": user}, "litellm_metadata": CLAIMED}
    answer = ask(proxy, "sk-chat-1234", path, **{"user": user, **body, **claims})
    assert answer.status == 200, answer.text
    attempts, request = ledger.of(user)
    assert {request["proxy_key"], *(one["proxy_key"] for one in attempts)} == {"chat-app"}


def test_a_keys_budget_refuses_its_requests_and_no_others(proxy: Proxy) -> None:
    assert ask(proxy, "sk-nightly-1234").status == 200
    refused = ask(proxy, "sk-nightly-1234", metadata=CLAIMED)
    assert refused.status == 429, refused.text
    assert refused.json["error"]["code"] == "wallie_budget_exhausted"
    assert "The budget of the key nightly is used up" in refused.json["error"]["message"]
    assert "wallie.keys.nightly.budget" in refused.json["error"]["message"]
    assert ask(proxy, "sk-chat-1234").status == 200
