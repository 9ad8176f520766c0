"""The example application over real sockets, in a real browser, while a provider fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from playwright.sync_api import Page, expect

from examples.wallie_assistant.__main__ import simulated_app

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with simulated_app() as app:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive()
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def chat(client: httpx.Client, path: str = "chatInConversation", **body: Any) -> list[dict[str, Any]]:
    response = client.post(f"/api/wallie.{path}", json={"user": "maria", "message": "Are you open?", **body})
    assert response.status_code == 200
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_chat_streams_its_answer_and_ends_with_how_it_was_served(client: httpx.Client) -> None:
    *pieces, last = chat(client, "chat")
    assert "".join(piece["text"] for piece in pieces).startswith("This is the simulated openai")
    assert last["done"]["provider"] == "openai"
    assert last["done"]["fallback"] is False
    assert last["done"]["cost_usd"] > 0


def test_a_conversation_has_its_history(client: httpx.Client) -> None:
    number = chat(client)[-1]["done"]["conversation"]
    assert chat(client, conversation=number, message="And on Sundays?")[-1]["done"]["conversation"] == number
    messages = client.get(f"/api/conversations/{number}").json()
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[2]["content"] == "And on Sundays?"


def test_a_suggestion_has_two_alternatives(client: httpx.Client) -> None:
    number = chat(client)[-1]["done"]["conversation"]
    answer = client.post("/api/wallieAnalysis.suggestMessage", json={"conversation": number, "user": "maria"}).json()
    assert answer["suggestion"]
    assert len(answer["alternatives"]) == 2
    assert answer["served"]["model"] == "claude-sonnet-4"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("wallie.chat", {"user": "maria", "message": "  "}, 422),
        ("wallie.chat", {"message": "Are you open?"}, 422),
        ("wallie.chatInConversation", {"user": "maria", "message": "Hello", "conversation": 99_999}, 404),
        ("wallieAnalysis.suggestMessage", {"user": "maria", "conversation": 99_999}, 404),
    ],
)
def test_a_wrong_request_is_told_so(client: httpx.Client, path: str, body: dict[str, Any], status: int) -> None:
    assert client.post(f"/api/{path}", json=body).status_code == status


def test_a_conversation_is_kept_when_its_reader_leaves(client: httpx.Client) -> None:
    before = {row["id"] for row in client.get("/api/conversations").json()}
    body = {"user": "maria", "message": "Are you open?"}
    with client.stream("POST", "/api/wallie.chatInConversation", json=body) as response:
        next(response.iter_lines())
    number = next(row["id"] for row in client.get("/api/conversations").json() if row["id"] not in before)
    assert client.get(f"/api/conversations/{number}").json()[0]["content"] == "Are you open?"


def test_when_everything_is_down_the_reader_is_told_when_to_come_back(client: httpx.Client) -> None:
    number = chat(client)[-1]["done"]["conversation"]
    names = client.get("/simulation").json()
    for name in names:
        client.post(f"/simulation/{name}/outage")
    try:
        error = chat(client, conversation=number)[-1]["error"]
        refused = client.post("/api/wallieAnalysis.suggestMessage", json={"conversation": number, "user": "maria"})
    finally:
        for name in names:
            client.post(f"/simulation/{name}/recovery")
            assert client.post(f"/wallie/api/providers/{name}/circuit/close", json={}).status_code == 200
    assert error["code"] == "wallie_chain_exhausted"
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "wallie_chain_exhausted"


def test_the_page_goes_on_through_an_outage(
    address: str, open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    page = open_page(address, viewport={"width": 390, "height": 800})
    page.get_by_label("Your message").fill("Do you deliver?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#messages .served")).to_contain_text("openai, gpt-4o-mini")
    page.get_by_role("button", name="Break openai").click()
    expect(page.get_by_role("button", name="Heal openai")).to_be_visible()
    page.get_by_label("Your message").fill("Tomorrow too?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#messages .served").last).to_contain_text("by fallback", timeout=20_000)
    page.get_by_role("button", name="Suggest a message").click()
    expect(page.locator("#suggestions li")).to_have_count(3)
    page.get_by_role("button", name="Run the nightly summaries").click()
    expect(page.locator("#night")).to_contain_text("0 failed", timeout=20_000)
    page.get_by_role("button", name="Heal openai").click()
    expect(page.get_by_role("button", name="Break openai")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    check_accessibility(page)
    page.get_by_role("link", name="Dashboard").click()
    page.get_by_role("link", name="By feature").click()
    expect(page.locator("body")).to_contain_text("wallie-chat")
