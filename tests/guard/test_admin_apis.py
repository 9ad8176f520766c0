"""Limits from the vendors' administration APIs, over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from support import until, wait_until

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.admin_limits import anthropics_limits, openais_limits
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.guard import Guard
from wallie_litellm.guard.admin_apis import AdminQuestions, admin_apis
from wallie_litellm.guard.context import Attempt
from wallie_litellm.guard.router import WallieRouter
from wallie_litellm.simulator.loopback_server import LoopbackServer

ENV = {"ANTHROPIC_ADMIN_KEY": "sk-ant-admin", "OPENAI_ADMIN_KEY": "sk-admin"}
GROUP = {
    "type": "rate_limit",
    "group_type": "model_group",
    "models": ["claude-opus-4-1", "claude-opus-4"],
    "limits": [
        {"type": "requests_per_minute", "value": 50},
        {"type": "input_tokens_per_minute", "value": 30000},
        {"type": "output_tokens_per_minute", "value": None},
        {"type": "enqueued_batch_requests", "value": 7},
    ],
}
OPUS = (Sighting("rpm", 50), Sighting("itpm", 30000))
PROJECTS = {"data": [{"id": "proj_1"}]}
RATE = {"id": "rl-gpt-4o", "model": "gpt-4o", "max_requests_per_1_minute": 60, "max_tokens_per_1_minute": 30000}
GPT = (Sighting("rpm", 60), Sighting("tpm", 30000))


class Vendors:
    """Both APIs, two pages each."""

    def __init__(self) -> None:
        self.server = LoopbackServer("administration APIs", self._handle, 2**20)
        self.status = 200
        self.asked: list[tuple[str, str]] = []

    async def _handle(self, request: web.Request) -> web.Response:
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "")
        self.asked.append((request.path_qs, key))
        if self.status != 200:
            return web.json_response({"error": "secret"}, status=self.status)
        if request.path == "/v1/organizations/rate_limits":
            first = "page" not in request.query
            return web.json_response({"data": [GROUP] if first else [], "next_page": "2" if first else None})
        if request.path == "/v1/organization/projects":
            return web.json_response(PROJECTS)
        last = "after" in request.query
        return web.json_response({"data": [RATE] if last else [], "has_more": not last, "last_id": "x"})


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    vendors = Vendors()
    vendors.server.start()
    yield vendors
    vendors.server.stop()


def here(vendors: Vendors) -> list[Any]:
    return [api._replace(base=f"http://127.0.0.1:{vendors.server.port}") for api in admin_apis(ENV)]


async def test_the_limits_are_those_of_the_models_that_are_called(vendors: Vendors) -> None:
    limits = {"learn": "enforce", "rpm": 500}
    guard = Guard(WallieConfig.model_validate({"providers": {"openai": limits, "anthropic": limits}, "ledger": None}))
    questions = AdminQuestions(here(vendors), guard.vendor_limits.learn_of)
    try:
        await until(lambda: len(vendors.asked) == 5)
        for provider, model in (("openai", "gpt-4o"), ("anthropic", "claude-opus-4-1")):
            attempt = Attempt("g", provider, provider, f"{provider}|{model}", f"{provider}/{model}")
            await guard.admit(guard.open_context("g"), attempt, Demand(1, 1, 1, 0))
            await asyncio.to_thread(until_known, guard, provider)
            guard.vendor_limits.answered(attempt, {})
        found = {name: own["scopes"] for name, own in guard.limits()["providers"].items()}
        opus = found["anthropic"]["claude-opus-4-1"]["limits"]
        assert {name: (one["learned"], one["limit"], one["source"]) for name, one in opus.items()} == {
            "rpm": (50, 50, "admin"),
            "itpm": (30000, 30000, "admin"),
        }
        assert {name: one["limit"] for name, one in found["openai"]["gpt-4o"]["limits"].items()} == {
            "rpm": 60,
            "tpm": 30000,
        }
        assert "claude-opus-4" not in found["anthropic"]
        guard.vendor_limits.learn_of("openai", {"gpt-4o": (Sighting("rpm", 40),)})
        assert guard.limits()["providers"]["openai"]["scopes"]["gpt-4o"]["limits"]["rpm"]["limit"] == 40
    finally:
        questions.close()
        guard.close()
    assert {key for _, key in vendors.asked} == {"sk-ant-admin", "Bearer sk-admin"}


def until_known(guard: Guard, provider: str) -> None:
    """Wait for the thread that asks to have passed its answers on."""
    wait_until(lambda: provider in guard.vendor_limits._by_admin_api)


async def test_a_failure_is_logged_once_and_without_the_key(vendors: Vendors, caplog: pytest.LogCaptureFixture) -> None:
    vendors.status = 403
    seen: list[Any] = []
    with caplog.at_level(logging.WARNING):
        questions = AdminQuestions(here(vendors)[:1], lambda *said: seen.append(said))
        await until(lambda: bool(caplog.records))
        questions._ask(here(vendors)[0])
        questions.close()
    assert [record.getMessage() for record in caplog.records] == [
        "The limits of anthropic cannot be asked for: HTTPStatusError"
    ]
    assert seen == []


async def test_a_vendor_is_asked_once_its_own_address_is_called(
    vendors: Vendors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallie_litellm.guard.admin_apis.LOOK", 0.01)
    called: list[str] = ["openai"]
    questions = AdminQuestions(here(vendors), lambda *_: None, called.__contains__)
    try:
        await until(lambda: len(vendors.asked) == 3)
        assert {key for _, key in vendors.asked} == {"Bearer sk-admin"}  # though Anthropic comes first
        called.append("anthropic")
        await until(lambda: len(vendors.asked) == 5)
        assert {key for _, key in vendors.asked[3:]} == {"sk-ant-admin"}
    finally:
        questions.close()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_limits_of_the_vendors_account_are_none_of_a_server_elsewhere(elsewhere: bool) -> None:
    at = {"api_base": "http://127.0.0.1:9/v1"} if elsewhere else {}
    models = [
        {"model_name": name, "litellm_params": {"model": f"{name}/m", "api_key": "fake", **params}}
        for name, params in (("openai", at), ("anthropic", {}))
    ]
    router = WallieRouter(model_list=models, guard=Guard(WallieConfig(ledger=None)))
    try:
        askable = [name for name in ("openai", "anthropic", "groq") if router.guard.vendor_limits.are_askable(name)]
        assert askable == (["anthropic"] if elsewhere else ["openai", "anthropic"])
    finally:
        router.guard.close()
        router.discard()


def test_without_a_key_no_vendor_is_asked() -> None:
    assert list(admin_apis({})) == list(admin_apis(dict.fromkeys(ENV, "\n"))) == []


def test_a_line_break_at_the_end_of_a_key_is_none_of_it() -> None:
    anthropic, openai = admin_apis({name: f"{key}\n" for name, key in ENV.items()})
    assert (anthropic.headers["x-api-key"], openai.headers["authorization"]) == ("sk-ant-admin", "Bearer sk-admin")


@pytest.mark.parametrize("page", [None, [], {}, {"data": None}, {"data": [None, {"models": None, "limits": None}]}])
def test_answers_of_another_shape_have_no_limits(page: Any) -> None:
    assert anthropics_limits(page) == openais_limits(page) == {}


def test_amounts_that_are_no_limits_are_left_out() -> None:
    entry = {
        "model": "m",
        "max_requests_per_1_minute": -1,
        "max_tokens_per_1_minute": True,
        "max_requests_per_1_day": 10,
    }
    assert openais_limits({"data": [entry]}) == {"m": (Sighting("rpd", 10),)}
    assert anthropics_limits({"data": [GROUP, {"group_type": "batch"}]}) == dict.fromkeys(GROUP["models"], OPUS)
    assert openais_limits({"data": [RATE]}) == {"gpt-4o": GPT}
