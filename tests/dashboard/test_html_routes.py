"""The page's routes over HTTP: their headers, cookies, redirects and refusals."""

from __future__ import annotations

import html
import importlib.metadata
import re
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from dashboard_support import TOKEN
from ledger_support import ended, settled

from wallie_litellm.core.demand import Demand

MakeApp = Callable[..., Any]


def log_in(app: Any, **fields: str) -> Any:
    sent = {"token": TOKEN, "name": "maria", **fields}
    return app.client.post("/wallie/login", content="&".join(f"{name}={quote(text)}" for name, text in sent.items()))


def form_token(html: str) -> str:
    return html.partition('name="csrf" value="')[2].partition('"')[0]


def take_action(app: Any, csrf: str | None = None, **fields: str) -> Any:
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
def test_every_answer_has_the_security_headers(make_app: MakeApp, path: str) -> None:
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


def test_a_visitor_without_a_session_is_redirected_to_the_form_and_back(make_app: MakeApp) -> None:
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
        "providers/..",
        "requests/../../x",
    ],
)
def test_the_login_redirects_to_no_other_site(make_app: MakeApp, next_: str) -> None:
    assert log_in(make_app(), next=next_).headers["location"] == "/wallie/"


def test_over_https_the_cookie_is_secure(make_app: MakeApp) -> None:
    app = make_app()
    app.client.base_url = "https://127.0.0.1"
    assert "secure" in log_in(app).headers["set-cookie"].lower()


def test_a_wrong_token_is_refused_and_too_many_are_throttled(make_app: MakeApp) -> None:
    app = make_app()
    for _ in range(5):
        answer = log_in(app, token="wrong")
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    answer = log_in(app)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_an_action_needs_the_token_of_its_form(make_app: MakeApp) -> None:
    app = make_app()
    log_in(app)
    for wrong in ("", "x", form_token(make_app().client.get("/wallie/login").text)):
        assert take_action(app, csrf=wrong).status_code == 403
    assert health(app) == "healthy"
    assert take_action(app).status_code == 303
    assert health(app) == "down"


def test_another_sites_form_is_refused_even_with_the_cookie(make_app: MakeApp) -> None:
    app = make_app()
    log_in(app)
    csrf = form_token(app.client.get("/wallie/confirm?action=open_circuit&provider=openai").text)
    sent = {"content": f"action=open_circuit&provider=openai&csrf={csrf}"}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}):
        assert app.client.post("/wallie/orders", headers=headers, **sent).status_code == 403
    assert health(app) == "healthy"


def test_without_a_configured_token_actions_need_the_form_token_too(make_app: MakeApp) -> None:
    app = make_app(())
    assert take_action(app, csrf="").status_code == 403
    assert health(app) == "healthy"
    assert take_action(app).status_code == 303
    assert health(app) == "down"


def test_the_page_shows_an_actions_notice_once(make_app: MakeApp) -> None:
    app = make_app(())
    answer = take_action(app)
    assert answer.headers["location"] == "/wallie/?range=7d"
    notice = "Traffic to openai is stopped"
    assert notice in app.client.get("/wallie/").text.partition("<main")[0]
    assert notice not in app.client.get("/wallie/").text.partition("<main")[0]


def test_the_page_says_which_versions_serve_it_and_where(make_app: MakeApp) -> None:
    footer = html.unescape(make_app(()).client.get("/wallie/").text.partition("<footer")[2].partition("</footer>")[0])
    ours, theirs = (importlib.metadata.version(name) for name in ("wallie-litellm", "litellm"))
    assert footer.endswith(f">wallie-litellm {ours}, litellm {theirs}, on {socket.gethostname()}")


def test_the_page_resets_a_models_own_limits(make_app: MakeApp) -> None:
    app = make_app((), providers={"openai": {"rpm": 100, "models": {"gpt-4o*": {"rpm": 10}}}})
    limiter = app.guard.limiter("openai")
    demand = Demand(3, 0, 0, 0)
    limiter.settle(limiter.reserve(demand, scope="gpt-4o*"), demand)
    form = app.client.get("/wallie/confirm?action=reset_quota&provider=openai&model=gpt-4o*").text
    assert "Reset quota: openai gpt-4o*" in form
    order = f"action=reset_quota&provider=openai&model=gpt-4o*&range=24h&csrf={form_token(form)}"
    assert app.client.post("/wallie/orders", content=order).status_code == 303
    found = app.guard.status()["providers"]["openai"]
    assert (found["models"]["gpt-4o*"]["quota"]["rpm"]["used"], found["quota"]["rpm"]["used"]) == (0, 3)
    assert "openai gpt-4o*&#39;s quota has been reset" in app.client.get("/wallie/").text


def test_the_page_stops_and_resumes_one_models_traffic(make_app: MakeApp) -> None:
    app = make_app(())
    for scope in ("openai|gpt-4o", "openai|o3"):
        app.guard.meet("openai", "openai", True, scope, "a")
    app.guard.meet("openai", "openai", True, "openai|*", "*")
    link = "confirm?action=%s&amp;provider=openai&amp;model=gpt-4o&amp;range=24h"
    for action, stopped in (("open_circuit", True), ("close_circuit", False)):
        page = app.client.get("/wallie/").text
        assert link % action in page
        assert re.findall('<li data-model="([^"]*)"', page) == (["gpt-4o", "o3"] if stopped else ["o3"])
        form = app.client.get(f"/wallie/{html.unescape(link % action)}").text
        order = f"action={action}&provider=openai&model=gpt-4o&range=24h&csrf={form_token(form)}"
        assert app.client.post("/wallie/orders", content=order).status_code == 303
        models = app.guard.status()["providers"]["openai"].get("models", {})
        assert ("gpt-4o" in models) == stopped
    assert app.guard.status()["providers"]["openai"]["called_models"] == ["gpt-4o", "o3"]


@pytest.mark.parametrize(
    "query",
    [
        *("", "?action=open_circuit", "?action=drop&provider=openai", "?action=open_circuit&provider=nobody"),
        "?action=reset_quota&provider=openai&model=gpt-4o",
    ],
)
def test_an_unknown_action_or_provider_is_not_found(make_app: MakeApp, query: str) -> None:
    assert make_app(()).client.get(f"/wallie/confirm{query}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"x" * 20_000, 413), (b"\xff\xfe=1", 400), (b"&".join([b"a=1"] * 50), 400), (b"", 403)],
)
def test_a_malformed_form_is_refused(make_app: MakeApp, body: bytes, status: int) -> None:
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
    recorded: list[Any] = []
    app.guard.reporter.on_action = lambda *action: recorded.append(action)
    take_action(app, reason="a\x00b\x1b[31m\n" + "x" * 500)
    ((_, action, provider, detail, _model),) = recorded
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
def test_without_a_configured_token_other_machines_are_refused_everything(make_app: MakeApp, path: str) -> None:
    assert make_app((), client="192.0.2.7").client.get(f"/wallie/{path}").status_code == 403
    proxied = make_app(()).client.get(f"/wallie/{path}", headers={"x-forwarded-for": "127.0.0.1"})
    assert proxied.status_code == 403


def test_only_the_static_files_are_served(make_app: MakeApp) -> None:
    app = make_app()
    answer = app.client.get("/wallie/static/live.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    again = app.client.get("/wallie/static/live.js", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    for name in ("page.html", "..%2Fapp.py", "../app.py", "wallie.css/x", ""):
        assert app.client.get(f"/wallie/static/{name}").status_code in (303, 404)


def test_a_refresh_is_compressed_on_request_and_has_a_version(make_app: MakeApp) -> None:
    app = make_app(())
    answer = app.client.get("/wallie/panels?range=1h", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["x-wallie-version"]
    assert answer.text == app.client.get("/wallie/panels?range=1h", headers={"accept-encoding": "identity"}).text


@pytest.mark.parametrize("query", ["range=2h", "range=", "range=1h&range=7d", "after=" + "x" * 80])
def test_any_range_parameter_is_answered(make_app: MakeApp, query: str) -> None:
    assert make_app(()).client.get(f"/wallie/panels?{query}").status_code == 200


def test_the_heading_has_the_installations_name_and_version(make_app: MakeApp) -> None:
    shown = make_app((), dashboard={"name": "Wallie <EU>"}).client.get("/wallie/").text
    heading = shown.partition("<h1>")[2].partition("</h1>")[0]
    assert ">Wallie &lt;EU&gt;</bdi>" in heading
    assert importlib.metadata.version("wallie-litellm") in heading
    assert "<title>Wallie &lt;EU&gt; " in shown
    unnamed = make_app(()).client
    assert "installation" not in unnamed.get("/wallie/").text
    assert unnamed.get("/wallie/api/summary").json()["name"] is None


def test_the_root_redirects_to_the_page(make_app: MakeApp) -> None:
    assert make_app().client.get("/").headers["location"] == "/wallie/"


def test_pages_have_the_configured_time_zone(make_app: MakeApp) -> None:
    app = make_app((), dashboard={"timezone": "Europe/Berlin"})
    app.record([ended(settled())])
    assert "(Europe/Berlin)" in app.client.get("/wallie/").text
    assert "Time (Europe/Berlin)" in app.client.get("/wallie/requests", headers={"cookie": "wallie_zone=UTC"}).text
    assert "zone.js" not in app.client.get("/wallie/").text


@pytest.mark.parametrize(
    ("cookie", "zone"), [("Asia/Tokyo", "Asia/Tokyo"), ("Asia", "UTC"), ("../../etc/passwd", "UTC"), ("", "UTC")]
)
def test_without_a_configured_zone_pages_have_the_one_that_the_browser_says(
    make_app: MakeApp, cookie: str, zone: str
) -> None:
    app, headers = make_app(()), {"cookie": f"wallie_zone={cookie}"}
    app.record([one := settled(), ended(one)])
    for path in ("", "providers/openai", "requests", f"requests/{one.request_id}", "panels?provider=openai"):
        shown = app.client.get(f"/wallie/{path}", headers=headers).text
        assert f"({zone})" in shown, path
        assert (f'data-zone="{zone}"' in shown) == (not path.startswith("panels"))
