"""The API over a real guard and a real ledger."""

from __future__ import annotations

import csv
import io
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from dashboard_support import TOKEN
from ledger_support import ended, settled

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.limit_headers import VOCABULARIES
from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.events import QuotaCrossed, new_id

BEARER = {"authorization": f"Bearer {TOKEN}"}
ACTIONS = {
    "quota/reset": "reset_quota",
    "circuit/close": "close_circuit",
    "circuit/open": "open_circuit",
    "circuit/release": "release_circuit",
}
GETS = ("status", "limits", "usage", "series", "providers/openai", "alerts", "kpis", "export.csv", "openapi.json")

MakeApp = Callable[..., Any]


def get(app: Any, path: str, **headers: str) -> Any:
    return app.client.get(f"/wallie/api/{path}", headers={**BEARER, **headers})


def post(app: Any, path: str, body: Any = None, **headers: str) -> Any:
    return app.client.post(f"/wallie/api/providers/{path}", json=body, headers={**BEARER, **headers})


def state(app: Any) -> str:
    found: str = app.guard.status()["providers"]["openai"]["breaker"]["state"]
    return found


def test_the_limits_are_the_guards(make_app: MakeApp) -> None:
    app = make_app()
    app.guard.vendor_limits.of("openai").model("gpt-4o", "", "openai", VOCABULARIES["openai"]).note(
        (Sighting("tpm", 30000),), "headers"
    )
    found = get(app, "limits").json()["providers"]["openai"]["scopes"]
    expected = app.guard.limits()["providers"]["openai"]["scopes"]
    assert found.keys() == expected.keys() == {"", "gpt-4o"}
    assert {name: one["configured"] for name, one in found[""]["limits"].items()} == {
        name: one["configured"] for name, one in expected[""]["limits"].items()
    }
    row = found["gpt-4o"]["limits"]["tpm"]
    assert (row["configured"], row["learned"], row["source"], row["limit"]) == (None, 30000, "headers", 30000)
    assert get(app, "status").json()["providers"]["openai"]["quota"]["tpm"]["learned"] == 30000


def test_the_limits_have_what_the_file_states_beside_them(make_app: MakeApp) -> None:
    stated = {"burst": {"rpm": 5}, "headroom": 0.1, "first_token": 4.0}
    app = make_app(providers={"gemini": {"rpm": 60, **stated, "models": {"gemini-2*": {"rpm": 9, "learn": "off"}}}})
    scopes = get(app, "limits").json()["providers"]["gemini"]["scopes"]
    assert {scope: own["settings"] for scope, own in scopes.items()} == {"": stated, "gemini-2*": {"learn": "off"}}


def test_the_status_is_the_guards(make_app: MakeApp) -> None:
    app = make_app(features={"summaries": {"limits": {"rpm": 30}}})
    app.guard.update_usage("openai", 3, 4000)
    app.guard.open_circuit("groq")
    assert app.record([]) is None  # the sinks have counted the events
    found, expected = get(app, "status").json(), app.guard.status()
    for kind in ("providers", "features"):
        assert found[kind].keys() == expected[kind].keys()
        for name, own in expected[kind].items():
            quota = {key: {**one, "reset_at": ""} for key, one in own["quota"].items()}
            shown = {key: {**one, "reset_at": ""} for key, one in found[kind][name]["quota"].items()}
            assert shown.keys() == quota.keys()
            for dimension in quota:
                assert shown[dimension] == pytest.approx(quota[dimension], abs=100)  # a bucket fills meanwhile
            assert {**found[kind][name], "quota": 0} == {**own, "quota": 0}
    assert {key: found[key] for key in ("store", "sinks", "budget")} == {
        key: expected[key] for key in ("store", "sinks", "budget")
    }


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic YTpi"])
def test_reading_requires_the_token(make_app: MakeApp, path: str, authorization: str | None) -> None:
    app = make_app()
    headers = {} if authorization is None else {"authorization": authorization}
    answer = app.client.get(f"/wallie/api/{path}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "wallie_unauthorized"


@pytest.mark.parametrize("path", ACTIONS)
def test_actions_require_the_token(make_app: MakeApp, path: str) -> None:
    app = make_app()
    assert app.client.post(f"/wallie/api/providers/openai/{path}").status_code == 401
    assert app.client.get(f"/wallie/api/providers/openai/{path}", headers=BEARER).status_code == 405
    assert state(app) == "closed"


@pytest.mark.parametrize("path", GETS)
def test_without_a_configured_token_only_this_machine_may_read(make_app: MakeApp, path: str) -> None:
    assert make_app((), client="192.0.2.7").client.get(f"/wallie/api/{path}").status_code == 403
    assert make_app((), host="evil.example").client.get(f"/wallie/api/{path}").status_code == 403
    assert make_app(()).client.get(f"/wallie/api/{path}").status_code in (200, 503)


def test_an_action_reaches_the_guard_and_goes_on_record(make_app: MakeApp) -> None:
    app = make_app()
    done = post(app, "openai/circuit/open", {"reason": "bad answers"}, **{"x-wallie-actor": "maria"})
    assert done.status_code == 200
    assert (done.json()["action"], done.json()["actor"]) == ("open_circuit", "maria (api, 127.0.0.1)")
    assert state(app) == "forced_open"
    assert post(app, "openai/circuit/release").status_code == 200
    assert state(app) == "half_open"
    assert post(app, "openai/circuit/close").status_code == 200
    assert state(app) == "closed"
    app.guard.update_usage("openai", 5, 100)
    assert post(app, "openai/quota/reset").status_code == 200
    assert app.guard.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 0
    app.record([])
    assert get(app, "export.csv?kind=attempt").status_code == 200
    app.record([])
    rows = list(csv.DictReader(io.StringIO(get(app, "export.csv?kind=action").text)))
    assert [(row["actor"], row["action"], row["provider"], row["detail"]) for row in rows] == [
        ("maria (api, 127.0.0.1)", "open_circuit", "openai", "bad answers"),
        ("api (api, 127.0.0.1)", "release_circuit", "openai", ""),
        ("api (api, 127.0.0.1)", "close_circuit", "openai", ""),
        ("api (api, 127.0.0.1)", "reset_quota", "openai", ""),
        ("api (api, 127.0.0.1)", "export_csv", "", "attempt; 24h"),
    ]


def test_the_quota_of_a_models_own_limits_is_reset_alone(make_app: MakeApp) -> None:
    app = make_app(providers={"openai": {"rpm": 100, "models": {"gpt-4o*": {"rpm": 10}, "o3*": {"rpm": 10}}}})
    limiter = app.guard.limiter("openai")
    for model in ("gpt-4o", "o3-mini"):
        demand = Demand(3, 0, 0, 0)
        limiter.settle(limiter.reserve(demand, scope=limiter.scope_of(model)), demand)
    done = post(app, "openai/quota/reset", {"model": "gpt-4o*", "reason": "as agreed"})
    assert (done.status_code, done.json()["model"]) == (200, "gpt-4o*")
    found = get(app, "status").json()["providers"]["openai"]
    used = {pattern: own["quota"]["rpm"]["used"] for pattern, own in found["models"].items()}
    assert (used, found["quota"]["rpm"]["used"]) == ({"gpt-4o*": 0, "o3*": 3}, 6)
    app.record([])
    (row,) = csv.DictReader(io.StringIO(get(app, "export.csv?kind=action").text))
    assert (row["action"], row["provider"], row["model"], row["detail"]) == (
        *("reset_quota", "openai", "gpt-4o*", "as agreed"),
    )
    unknown = post(app, "openai/quota/reset", {"model": "gpt-5"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "wallie_unknown_model")
    assert "known: gpt-4o*, o3*" in unknown.json()["error"]["message"]


def test_a_models_circuit_is_opened_alone(make_app: MakeApp) -> None:
    app = make_app()
    app.guard.meet("openai", "openai", True, "openai|gpt-4o")
    app.guard.meet("openai", "openai", True, "openai|o3-mini")
    done = post(app, "openai/circuit/open", {"model": "gpt-4o*"})
    assert (done.status_code, done.json()["model"]) == (200, "gpt-4o*")
    assert (app.guard.is_open("openai|gpt-4o"), app.guard.is_open("openai|o3-mini")) == (True, False)
    assert post(app, "openai/circuit/open", {"model": "gpt-5"}).json()["error"]["code"] == "wallie_unknown_model"


def test_the_circuit_of_one_model_is_opened_and_closed(make_app: MakeApp) -> None:
    app = make_app()
    app.guard.meet("openai", "openai", at_own_address=True, scope="openai|gpt-4o")
    done = post(app, "openai/circuit/open", {"model": "gpt-4o"})
    assert (done.status_code, done.json()["message"].partition(":")[0]) == (200, "openai gpt-4o")
    models = get(app, "status").json()["providers"]["openai"]["models"]
    assert (models["gpt-4o"]["breaker"]["state"], models["gpt-4o"]["health"]) == ("forced_open", "down")
    page = app.client.get("/wallie/", headers=BEARER).text
    assert "confirm?action=close_circuit&amp;provider=openai&amp;model=gpt-4o&amp;range=24h" in page
    assert post(app, "openai/circuit/close", {"model": "gpt-4o"}).status_code == 200
    assert "models" not in get(app, "status").json()["providers"]["openai"]
    assert post(app, "openai/circuit/open", {"model": "gpt-5"}).status_code == 404


def test_an_action_on_an_unknown_provider_lists_the_known_ones(make_app: MakeApp) -> None:
    answer = post(make_app(), "opnai/circuit/open")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "wallie_unknown_provider"
    assert "anthropic" in answer.json()["error"]["message"]


def test_of_many_known_providers_twenty_are_listed(make_app: MakeApp) -> None:
    app = make_app(providers={f"region-{number:03}": {"rpm": 5} for number in range(100)})
    message = post(app, "opnai/circuit/open").json()["error"]["message"]
    known = sorted(app.guard.status()["providers"])
    assert message.endswith(f"known: {', '.join(known[:20])} and {len(known) - 20} more")


def test_a_providers_name_may_contain_a_slash(make_app: MakeApp) -> None:
    app = make_app(providers={"eu/openai": {"rpm": 5}})
    assert post(app, "eu%2Fopenai/circuit/open").status_code == 200
    assert app.guard.status()["providers"]["eu/openai"]["health"] == "down"


def test_another_sites_request_is_refused_without_cors_headers(make_app: MakeApp) -> None:
    app = make_app()
    answer = post(app, "openai/circuit/open", None, origin="https://evil.example")
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert state(app) == "closed"


def test_a_session_needs_the_form_token_for_an_action(make_app: MakeApp) -> None:
    app = make_app()
    app.client.post("/wallie/login", content=f"token={TOKEN}&name=maria")
    assert app.client.get("/wallie/api/status").status_code == 200
    assert app.client.post("/wallie/api/providers/openai/circuit/open").status_code == 403
    assert state(app) == "closed"


@pytest.mark.parametrize("by", ["provider", "model", "feature", "user", "key"])
def test_usage_is_summed_from_the_ledger(make_app: MakeApp, by: str) -> None:
    app = make_app()
    now = time.time()
    first = settled(at=now - 20, cost_usd=0.25, total_tokens=100)
    second = settled(
        at=now - 10,
        provider="groq",
        model="llama-3.1-8b",
        feature=None,
        user_id=None,
        proxy_key="batch",
        cost_usd=None,
        unpriced=True,
    )
    failed = settled(at=now - 11, success=False, outcome="server_error", status_code=503, cost_usd=0.0, total_tokens=0)
    app.record([first, ended(first), failed, second, ended(failed, second)])
    found = get(app, f"usage?range=1h&by={by}").json()
    assert (found["range"], found["by"], found["until"]) == ("1h", by, None)
    rows = {row["name"]: row for row in found["totals"]}
    name = {"provider": "openai", "model": "gpt-4o-mini", "feature": "wallie-chat", "user": "u1", "key": "chat-app"}[by]
    other = {"provider": "groq", "model": "llama-3.1-8b", "feature": "", "user": "", "key": "batch"}[by]
    assert (rows[name]["attempts"], rows[name]["successes"], rows[name]["total_tokens"]) == (2, 1, 100)
    assert (rows[name]["cost_usd"], rows[name]["error_rate"]) == (0.25, 0.5)
    assert (rows[other]["cost_usd"], rows[other]["unpriced"]) == (None, 1)
    if by == "provider":
        assert (rows["groq"]["requests"], rows["groq"]["fallback_rate"]) == (1, 1.0)
    assert rows[name]["requests"] == 1
    assert (rows[name]["errors"], found["others"], found["rest"]) == (1, 0, None)
    few = get(app, f"usage?range=1h&by={by}&top=1").json()
    assert [row["name"] for row in few["totals"]] == [name]
    assert (few["others"], few["rest"]["attempts"], few["rest"]["unpriced"], few["rest"]["p95_ms"]) == (1, 1, 1, None)


def test_alerts_and_key_figures(make_app: MakeApp) -> None:
    app = make_app()
    now = time.time()
    app.record([QuotaCrossed(new_id(now), now, "openai", "rpd", "critical", 0.96, 96, 100, 30.0), settled(at=now)])
    (alert,) = get(app, "alerts").json()["alerts"]
    assert (alert["provider"], alert["dimension"], alert["level"], alert["utilization"]) == (
        "openai",
        "rpd",
        "critical",
        0.96,
    )
    kpis = {one["name"]: one for one in get(app, "kpis").json()["kpis"]}
    assert (kpis["critical_alerts"]["actual"], kpis["critical_alerts"]["passed"]) == (1, False)


def test_the_export_of_a_range_has_the_records_of_its_sums(make_app: MakeApp) -> None:
    app = make_app()
    now = time.time()
    app.record([settled(at=now - age, total_tokens=7) for age in (10, 3_000, 50_000, 86_000, 90_000, 400_000)])
    for name in ("1h", "24h", "7d", "30d"):
        answer = get(app, f"export.csv?range={name}")
        assert answer.headers["content-type"].startswith("text/csv")
        assert name in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        (total,) = get(app, f"usage?range={name}").json()["totals"]
        assert (len(rows), sum(int(row["total_tokens"]) for row in rows)) == (total["attempts"], total["total_tokens"])


@pytest.mark.parametrize(("since", "seconds"), [("2h", 7_200), ("24h", 86_400), ("20d", 1_728_000)])
def test_usage_reports_the_aligned_beginning_of_its_range(make_app: MakeApp, since: str, seconds: int) -> None:
    app = make_app()
    begins = (time.time() - seconds) // 900 * 900
    app.record([settled(at=begins + late) for late in (-1, 1, 901)])
    found = get(app, f"usage?since={since}").json()
    shown = datetime.fromisoformat(found["since"]).timestamp()
    assert shown in (begins, begins + 900)  # a quarter of an hour may have ended meanwhile
    assert sum(row["attempts"] for row in found["totals"]) == (2 if shown == begins else 1)


def test_short_ranges_are_exact(make_app: MakeApp) -> None:
    app = make_app()
    now = time.time()
    app.record([settled(at=now - 100.5), settled(at=now - 99.5)])
    found = get(app, f"usage?since={now - 100!r}").json()
    assert datetime.fromisoformat(found["since"]).timestamp() == pytest.approx(now - 100, abs=1e-3)
    assert found["totals"][0]["attempts"] == 1


def test_an_export_from_a_broken_ledger_is_an_error(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    app.record([settled(at=time.time())])
    assert get(app, "export.csv").status_code == 200  # it is open from now on
    with sqlite3.connect(tmp_path / "wallie.db") as connection:
        connection.execute("DROP TABLE wallie_attempts")
    answer = get(app, "export.csv")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "wallie_no_ledger"


def test_without_a_ledger_its_routes_answer_503(make_app: MakeApp) -> None:
    app = make_app(ledger=None)
    for path in ("usage", "alerts", "kpis", "export.csv"):
        answer = get(app, path)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "wallie_no_ledger"
    assert get(app, "status").status_code == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("usage?range=2h", "range: found '2h'"),
        ("usage?range=1h&since=24h", "not both"),
        ("usage?until=24h", "until"),
        ("usage?since=2026-11-20&until=2026-11-19", "after since"),
        ("usage?since=nan", "since: found 'nan'"),
        ("usage?since=1e400", "since"),
        ("usage?since=99999999999999", "since"),
        ("usage?since=0001-01-01", "since"),
        ("usage?by=colour", "by"),
        ("alerts?limit=0", "limit"),
        ("alerts?limit=many", "limit"),
        ("kpis?since=yesterday", "since: found 'yesterday'"),
        ("export.csv?kind=attempts", "kind"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_explained(make_app: MakeApp, path: str, message: str) -> None:
    answer = get(make_app(), path)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "wallie_bad_request"
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "body: it is not JSON"),
        (b"\xff", "body: it cannot be read"),
        ("[" * 10_000, "body: it "),  # cannot be read; from Python 3.14 on, which reads so deep: is not JSON
        ("[" * 5_000 + "]" * 5_000, "body: "),
        ('{"reason": ' + "9" * 6_000 + "}", "body: it cannot be read"),
        ("[]", "body: "),
        ('{"reason": 5}', "reason: "),
        ('{"reason": "\\ud800"}', "reason: "),
        ('{"because": "x"}', "because: "),
        ('{"reason": "' + "x" * 201 + '"}', "reason: "),
    ],
)
def test_a_body_that_makes_no_sense_has_no_effect(make_app: MakeApp, body: str | bytes, message: str) -> None:
    app = make_app()
    headers = {**BEARER, "content-type": "application/json"}
    answer = app.client.post("/wallie/api/providers/openai/circuit/open", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "wallie_bad_request"
    assert answer.json()["error"]["message"].startswith(message)
    assert state(app) == "closed"


def test_an_unknown_route_has_the_same_shape_of_error(make_app: MakeApp) -> None:
    answer = get(make_app(), "nonsense")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "wallie_not_found"


def test_metrics_require_the_token(make_app: MakeApp) -> None:
    app = make_app()
    assert app.client.get("/wallie/metrics").status_code == 401
    answer = app.client.get("/wallie/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert "wallie_" in answer.text


def test_a_large_body_is_refused_before_authentication(make_app: MakeApp) -> None:
    app = make_app()
    for headers in ({}, BEARER):
        for body in (b"x" * 20_000, iter([b"x" * 10_000] * 3)):
            answer = app.client.post("/wallie/api/providers/openai/circuit/open", content=body, headers=headers)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "wallie_too_large"
    assert state(app) == "closed"


def test_authentication_comes_before_parsing(make_app: MakeApp) -> None:
    app = make_app()
    headers = {"content-type": "application/json"}
    assert app.client.post("/wallie/api/providers/x/quota/reset", content="{", headers=headers).status_code == 401
    assert app.client.get("/wallie/api/alerts?limit=many").status_code == 401
    assert app.client.get(f"/wallie/panels?after={'x' * 500}").status_code == 401
    assert app.client.put("/wallie/api/status", headers=BEARER).headers["allow"] == "GET"
