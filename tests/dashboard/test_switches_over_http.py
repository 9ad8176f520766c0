"""Switches over the API and on the page: with the operator's token, with their state, and on record."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from dashboard_support import TOKEN
from ledger_support import ended, settled

from wallie_litellm.dashboard.source import EXPERIMENTING, SWITCHING
from wallie_litellm.dashboard.translations import CATALOGUES
from wallie_litellm.routing.switches import SWITCHES

MakeApp = Callable[..., Any]
BEARER = {"authorization": f"Bearer {TOKEN}"}
ROUTING = {
    "tiers": {"flash": ["a", "b"], "premium": ["c"]},
    "auto": {"simple": "flash", "medium": "flash", "complex": "premium"},
}


def switch(app: Any, name: str, body: Any, **headers: str) -> Any:
    return app.client.post(f"/wallie/api/routing/{name}", json=body, headers={**BEARER, **headers})


def shown(app: Any) -> str:
    text: str = app.client.get("/wallie/panels", headers=BEARER).text
    return text


def actions(app: Any) -> list[dict[str, Any]]:
    assert app.record([]) is None
    answer = app.client.get("/wallie/api/export.csv?kind=action", headers=BEARER)
    assert answer.status_code == 200, answer.text
    text = answer.text
    return list(csv.DictReader(io.StringIO(text)))


def test_a_switch_is_set_shown_and_on_record(make_app: MakeApp) -> None:
    app = make_app(routing=ROUTING)
    done = switch(app, "auto", {"on": False, "reason": "too dear"}, **{"x-wallie-actor": "maria"})
    assert (done.status_code, done.json() | {"at": ""}) == (
        200, {"name": "auto", "on": False, "turned_on": True, "actor": "maria (api, 127.0.0.1)", "at": ""},
    )  # fmt: skip
    assert not app.guard.routing.switches.on("auto")
    status = app.client.get("/wallie/api/status", headers=BEARER).json()["routing"]
    assert (status["switches"]["auto"], status["turned_on"]) == (False, ["auto"])
    assert status["tiers"] == ROUTING["tiers"]
    assert switch(app, "auto", {"on": True}).json()["on"] is True
    assert switch(app, "hedge", {"on": False}).json()["turned_on"] is False
    found = [(one["action"], one["provider"], one["detail"]) for one in actions(app)]
    assert found[:2] == [("switch_off", "auto", "too dear"), ("switch_on", "auto", "")]


@pytest.mark.parametrize(
    ("name", "body", "headers", "status"),
    [
        ("nothing", {"on": False}, {}, 404),
        ("auto", {"on": "perhaps"}, {}, 422),
        ("auto", {}, {}, 422),
        ("auto", {"on": False, "more": 1}, {}, 422),
        ("auto", {"on": False}, {"authorization": "Bearer wrong"}, 401),
        ("auto", {"on": False}, {"origin": "http://evil.example", "authorization": ""}, 403),
    ],
)
def test_what_makes_no_sense_or_is_not_allowed_switches_nothing(
    make_app: MakeApp, name: str, body: Any, headers: dict[str, str], status: int
) -> None:
    app = make_app(routing=ROUTING)
    assert switch(app, name, body, **headers).status_code == status
    assert all(app.guard.routing.switches.on(one) for one in SWITCHES)


def test_the_page_shows_what_the_file_turns_on_with_a_control(make_app: MakeApp) -> None:
    app = make_app(routing=ROUTING)
    text = shown(app)
    assert 'data-switch="auto" data-on="true"' in text
    assert "action=switch_off&amp;provider=auto" in text
    assert 'data-switch="hedge"' not in text
    assert 'data-tier="flash"' in text
    switch(app, "auto", {"on": False})
    assert 'data-switch="auto" data-on="false"' in shown(app)
    assert "panel-routing" not in shown(make_app())


def test_a_visitor_switches_on_the_page(make_app: MakeApp) -> None:
    app = make_app(routing=ROUTING)
    form = f"token={quote(TOKEN)}&name=maria"
    app.client.post("/wallie/login", content=form)
    page = app.client.get("/wallie/confirm?action=switch_off&provider=auto").text
    assert "as if the file did not have auto" in page
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    body = f"action=switch_off&provider=auto&range=24h&reason=dear&csrf={quote(csrf)}"
    done = app.client.post("/wallie/orders", content=body, headers={"origin": "http://127.0.0.1"})
    assert done.status_code == 303
    assert not app.guard.routing.switches.on("auto")
    assert [(one["action"], one["detail"]) for one in actions(app)] == [("switch_off", "dear")]
    assert "auto is switched off." in app.client.get("/wallie/").text
    assert app.client.get("/wallie/confirm?action=switch_off&provider=openai").status_code == 404


def test_the_page_says_what_auto_in_shadow_would_have_saved(make_app: MakeApp) -> None:
    app = make_app(routing={**ROUTING, "auto": {**ROUTING["auto"], "shadow": True}})
    one = settled(at=time.time() - 5)
    app.record([one, ended(one, auto_tier="flash", auto_saved_usd=1.25)])
    page = shown(app)
    assert "would have saved $1.25 in 24h" in page
    assert 'data-kpi="auto_saved_usd"' in page


def test_every_action_has_its_texts_in_every_language() -> None:
    for catalogue in CATALOGUES.values():
        for action in (*SWITCHING, *EXPERIMENTING):
            assert {f"action.{action}", f"confirm.{action}", f"notice.{action}"} <= catalogue.keys()


def test_the_page_has_the_order_of_chains_and_its_reason(make_app: MakeApp) -> None:
    app = make_app(routing={"order": "latency"})
    app.guard.routing.order.describe = lambda: [
        {
            "chain": ["a", "b"],
            "stream": True,
            "order": ["b", "a"],
            "reason": "b takes 20 ms where a takes 90 ms",
            "pace": {"a": None, "b": {"seconds": 0.02, "calls": 12}},
        },
    ]
    page = shown(app)
    assert 'data-chain="a b"' in page
    assert "b takes 20 ms where a takes 90 ms" in page
    assert '<span class="muted">20\u202fms</span>' in page
