"""The routes that people use, over HTTP: what is set, where they lead, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from dashboard_support import TOKEN

MakeApp = Callable[..., Any]


def log_in(app: Any, **fields: str) -> Any:
    sent = {"token": TOKEN, "name": "maria", **fields}
    return app.client.post("/wallie/login", content="&".join(f"{name}={quote(text)}" for name, text in sent.items()))


def form_token(html: str) -> str:
    return html.partition('name="csrf" value="')[2].partition('"')[0]


def give_order(app: Any, csrf: str | None = None, **fields: str) -> Any:
    asked = {"action": "open_circuit", "provider": "openai", "range": "7d", "reason": "", **fields}
    if csrf is None:
        csrf = form_token(app.client.get("/wallie/confirm?action=open_circuit&provider=openai").text)
    body = "&".join(f"{name}={quote(text)}" for name, text in {**asked, "csrf": csrf}.items())
    return app.client.post("/wallie/orders", content=body, headers={"origin": "http://127.0.0.1"})


def health(app: Any) -> str:
    found: str = app.guard.status()["providers"]["openai"]["health"]
    return found


@pytest.mark.parametrize(
    "path", ["", "?range=7d", "confirm?action=reset_quota&provider=openai", "panels", "login", "metrics"]
)
def test_every_answer_has_the_headers_that_keep_it_to_itself(make_app: MakeApp, path: str) -> None:
    app = make_app()
    for _ in range(2):
        answer = app.client.get(f"/wallie/{path}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] in ("no-store", "no-cache, private")
        assert "access-control-allow-origin" not in answer.headers
        log_in(app)


def test_a_stranger_is_led_to_the_form_and_from_there_to_where_he_wanted(make_app: MakeApp) -> None:
    app = make_app()
    answer = app.client.get("/wallie/?range=7d")
    assert (answer.status_code, answer.headers["location"]) == (303, "/wallie/login?next=%3Frange%3D7d")
    done = log_in(app, next="?range=7d")
    assert (done.status_code, done.headers["location"]) == (303, "/wallie/?range=7d")
    cookie = done.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=lax", "path=/wallie"))
    assert app.client.get("/wallie/?range=7d").status_code == 200


@pytest.mark.parametrize(
    "next_",
    [
        "https://evil.example",
        "//evil.example",
        "\\\\evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "\r\nx: y",
        "../x",
    ],
)
def test_the_form_leads_nowhere_else(make_app: MakeApp, next_: str) -> None:
    assert log_in(make_app(), next=next_).headers["location"] == "/wallie/"


def test_over_https_the_cookie_is_for_https_alone(make_app: MakeApp) -> None:
    app = make_app()
    app.client.base_url = "https://127.0.0.1"
    assert "secure" in log_in(app).headers["set-cookie"].lower()


def test_a_wrong_token_is_said_and_after_some_the_form_is_closed(make_app: MakeApp) -> None:
    app = make_app()
    for _ in range(5):
        answer = log_in(app, token="wrong")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    answer = log_in(app)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_an_order_needs_the_token_of_its_form(make_app: MakeApp) -> None:
    app = make_app()
    log_in(app)
    for wrong in ("", "x", form_token(make_app().client.get("/wallie/login").text)):
        assert give_order(app, csrf=wrong).status_code == 403
    assert health(app) == "healthy"
    assert give_order(app).status_code == 303
    assert health(app) == "down"


def test_another_sites_form_is_refused_even_with_the_cookie(make_app: MakeApp) -> None:
    app = make_app()
    log_in(app)
    csrf = form_token(app.client.get("/wallie/confirm?action=open_circuit&provider=openai").text)
    sent = {"content": f"action=open_circuit&provider=openai&csrf={csrf}"}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}):
        assert app.client.post("/wallie/orders", headers=headers, **sent).status_code == 403
    assert health(app) == "healthy"


def test_without_a_token_orders_are_protected_too(make_app: MakeApp) -> None:
    app = make_app(())
    assert give_order(app, csrf="").status_code == 403
    assert health(app) == "healthy"
    assert give_order(app).status_code == 303
    assert health(app) == "down"


def test_an_order_says_what_happened_once(make_app: MakeApp) -> None:
    app = make_app(())
    answer = give_order(app)
    assert answer.headers["location"] == "/wallie/?range=7d"
    notice = "forced open"
    assert notice in app.client.get("/wallie/").text.partition("<main")[0]
    assert notice not in app.client.get("/wallie/").text.partition("<main")[0]


@pytest.mark.parametrize(
    "query", ["", "?action=open_circuit", "?action=drop&provider=openai", "?action=open_circuit&provider=nobody"]
)
def test_what_cannot_be_ordered_is_not_found(make_app: MakeApp, query: str) -> None:
    assert make_app(()).client.get(f"/wallie/confirm{query}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"x" * 20_000, 413), (b"\xff\xfe=1", 400), (b"&".join([b"a=1"] * 50), 400), (b"", 403)],
)
def test_a_form_that_is_none_is_refused(make_app: MakeApp, body: bytes, status: int) -> None:
    app = make_app(())
    app.client.get("/wallie/confirm?action=open_circuit&provider=openai")
    assert app.client.post("/wallie/orders", content=body).status_code == status
    assert health(app) == "healthy"


@pytest.mark.parametrize(
    "cookie", ["", "open_circuit", "nonsense:openai", "open_circuit:%3Cscript%3E", "\xff:\xfe", ":" * 5000]
)
def test_any_notice_cookie_is_harmless(make_app: MakeApp, cookie: str) -> None:
    app = make_app(())
    answer = app.client.get("/wallie/", headers={"cookie": f"wallie_notice={cookie}".encode("latin-1")})
    assert answer.status_code == 200
    assert "<script>" not in answer.text


def test_a_reason_is_cut_and_cleaned(make_app: MakeApp) -> None:
    app = make_app(())
    said: list[Any] = []
    app.guard.reporter.on_action = lambda *told: said.append(told)
    give_order(app, reason="a\x00b\x1b[31m\n" + "x" * 500)
    ((_, action, provider, detail),) = said
    assert (action, provider, len(detail)) == ("open_circuit", "openai", 200)
    assert detail.startswith("ab[31mx")


def test_logging_out_ends_the_session_and_needs_the_forms_token(make_app: MakeApp) -> None:
    app = make_app()
    log_in(app)
    assert app.client.post("/wallie/logout", content="csrf=x").status_code == 403
    csrf = form_token(app.client.get("/wallie/").text)
    assert app.client.post("/wallie/logout", content=f"csrf={csrf}").headers["location"] == "/wallie/login"
    assert app.client.get("/wallie/").status_code == 303


@pytest.mark.parametrize("path", ["", "login", "static/wallie.css", "confirm", "panels", "metrics", "api/openapi.json"])
def test_without_a_token_nothing_at_all_is_for_others(make_app: MakeApp, path: str) -> None:
    assert make_app((), client="192.0.2.7").client.get(f"/wallie/{path}").status_code == 403
    proxied = make_app(()).client.get(f"/wallie/{path}", headers={"x-forwarded-for": "127.0.0.1"})
    assert proxied.status_code == 403


def test_static_files_are_those_and_no_others(make_app: MakeApp) -> None:
    app = make_app()
    answer = app.client.get("/wallie/static/live.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    again = app.client.get("/wallie/static/live.js", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    for name in ("page.html", "..%2Fapp.py", "../app.py", "wallie.css/x", ""):
        assert app.client.get(f"/wallie/static/{name}").status_code in (303, 404)


def test_a_refresh_is_compressed_for_those_who_take_it_and_names_its_version(make_app: MakeApp) -> None:
    app = make_app(())
    answer = app.client.get("/wallie/panels?range=1h", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["x-wallie-version"]
    assert answer.text == app.client.get("/wallie/panels?range=1h", headers={"accept-encoding": "identity"}).text


@pytest.mark.parametrize("query", ["range=2h", "range=", "range=1h&range=7d", "after=" + "x" * 80])
def test_any_range_shows_something(make_app: MakeApp, query: str) -> None:
    assert make_app(()).client.get(f"/wallie/panels?{query}").status_code == 200


def test_the_root_leads_to_the_page(make_app: MakeApp) -> None:
    assert make_app().client.get("/").headers["location"] == "/wallie/"
