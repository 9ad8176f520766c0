"""Which share of the requests for a chain each of its members served."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from dashboard_samples import CHAINS, asked
from dashboard_support import TOKEN
from ledger_support import ended, settled

from wallie_litellm.dashboard.chain_shares import chain_shares
from wallie_litellm.guard.router_view import RouterView, RouterViews, chains_of


def test_each_member_has_the_requests_that_it_served_and_all_shares_add_up() -> None:
    first, second = chain_shares(asked(), CHAINS)
    assert (first.group, first.requests, first.failed) == ("llama-3.1-8b", 1000, 26)
    assert [(one.groups, one.providers, one.served) for one in first.members] == [
        (["llama-3.1-8b"], ["groq"], 674),
        (["gpt-4o-mini"], ["openai"], 250),
        (["claude-sonnet-4"], ["anthropic"], 50),
    ]
    for chain in (first, second):
        parts = [chain.failed_share, chain.cached_share, *(one.share for one in chain.members)]
        assert sum(part or 0.0 for part in parts) == pytest.approx(1.0)
    assert second.cached == 30


def test_members_behind_one_provider_are_counted_together_and_others_by_their_provider() -> None:
    _, second = chain_shares(asked(), CHAINS)
    assert [(one.groups, one.providers, one.served) for one in second.members] == [
        (["gpt-4o-mini"], ["openai"], 270),
        (["gemini-2.0-flash", "gemini-2.0-pro"], ["gemini"], 20),
        ([], ["mistral"], 5),
    ]


def test_without_the_chains_those_that_fell_back_are_known_by_their_providers() -> None:
    found = chain_shares(asked(), {})
    assert [(one.group, [member.providers for member in one.members]) for one in found] == [
        ("llama-3.1-8b", [["groq"], ["openai"], ["anthropic"]]),
        ("gpt-4o-mini", [["openai"], ["gemini"], ["mistral"]]),
    ]


def test_a_status_has_the_chains_of_all_routers_with_their_providers() -> None:
    behind = {"a": ["openai"], "b": ["groq", "gemini"]}
    views = RouterViews(RouterView())
    assert views.describe_chains() == []
    for chains in ({"a": ["b"]}, {"b": ["a"]}):
        views.add(RouterView(chains_of(chains), lambda group: behind[group], groups=lambda: ("a", "b")))
    assert views.describe_chains() == [
        {"chain": ["a", "b"], "providers": {"a": ["openai"], "b": ["gemini", "groq"]}},
        {"chain": ["b", "a"], "providers": {"a": ["openai"], "b": ["gemini", "groq"]}},
    ]


def test_the_page_and_the_api_have_the_chains_of_the_same_range(make_app: Callable[..., Any]) -> None:
    app, now = make_app(), time.time()
    own = [settled(at=now - 60, model="gpt-4o", provider="openai") for _ in range(3)]
    failed = settled(at=now - 50, model="gpt-4o", provider="openai", success=False, outcome="server_error")
    rescue = settled(at=now - 49, model="llama", provider="groq", request_id=failed.request_id)
    app.record([*own, *map(ended, own), failed, rescue, ended(failed, rescue, model="gpt-4o")])
    headers = {"authorization": f"Bearer {TOKEN}"}
    (chain,) = app.client.get("/wallie/api/chains?range=1h", headers=headers).json()["chains"]
    assert (chain["group"], chain["requests"]) == ("gpt-4o", 4)
    assert [(one["providers"], one["share"]) for one in chain["members"]] == [(["openai"], 0.75), (["groq"], 0.25)]
    page = app.client.get("/wallie/?range=1h", headers=headers).text
    assert 'data-chain="gpt-4o"' in page
    assert app.client.get(f"/wallie/api/chains?since={now - 40}", headers=headers).json()["chains"] == []
    assert app.client.get("/wallie/api/chains?range=2y", headers=headers).status_code == 422
