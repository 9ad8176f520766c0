"""The API's OpenAPI document, against its answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from dashboard_support import TOKEN
from jsonschema import Draft202012Validator
from ledger_support import ended, settled

from wallie_litellm.events import QuotaCrossed, new_id

BEARER = {"authorization": f"Bearer {TOKEN}"}
OPERATIONS = {
    "status": ("get", "/api/status"),
    "limits": ("get", "/api/limits"),
    "summary": ("get", "/api/summary"),
    "usage": ("get", "/api/usage"),
    "chains": ("get", "/api/chains"),
    "series": ("get", "/api/series"),
    "provider": ("get", "/api/providers/{provider}"),
    "alerts": ("get", "/api/alerts"),
    "requests": ("get", "/api/requests"),
    "request": ("get", "/api/requests/{request_id}"),
    "kpis": ("get", "/api/kpis"),
    "export": ("get", "/api/export.csv"),
    "experiments": ("get", "/api/experiments"),
    "reload_config": ("post", "/api/config/reload"),
    "switch": ("post", "/api/routing/{name}"),
    "conclude_experiment": ("post", "/api/experiments/{name}/conclude"),
    "resume_arm": ("post", "/api/experiments/{name}/resume"),
    "feedback": ("post", "/api/feedback"),
    "reset_quota": ("post", "/api/providers/{provider}/quota/reset"),
    "close_circuit": ("post", "/api/providers/{provider}/circuit/close"),
    "open_circuit": ("post", "/api/providers/{provider}/circuit/open"),
    "release_circuit": ("post", "/api/providers/{provider}/circuit/release"),
}

MakeApp = Callable[..., Any]


def described(app: Any) -> Any:
    answer = app.client.get("/wallie/api/openapi.json", headers=BEARER)
    assert answer.status_code == 200
    return answer.json()


def mistakes(document: Any, method: str, path: str, answer: Any) -> list[str]:
    """The differences between ``answer`` and its description."""
    responses = document["paths"][path][method]["responses"]
    if str(answer.status_code) not in responses:
        return [f"{answer.status_code} is not described"]
    (content_type, content), *others = responses[str(answer.status_code)]["content"].items()
    assert not others
    if answer.headers["content-type"].partition(";")[0] != content_type:
        return [f"{answer.headers['content-type']} instead of {content_type}"]
    if content_type != "application/json":
        return []
    whole = {**content["schema"], "components": document["components"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(answer.json())]


def test_every_operation_is_described(make_app: MakeApp) -> None:
    document = described(make_app())
    assert (document["info"]["title"], document["info"]["version"]) == ("Wallie LiteLLM", version("wallie-litellm"))
    found = {
        one["operationId"]: (method, path) for path, item in document["paths"].items() for method, one in item.items()
    }
    assert found == OPERATIONS
    for method, path in OPERATIONS.values():
        one = document["paths"][path][method]
        assert one["summary"]
        assert one["description"]
        assert one["tags"]
        expected = {"200", "401", "403", "422", "429", "503"} | ({"404", "409", "413"} if method == "post" else set())
        assert set(one["responses"]) == expected | ({"404"} if "{" in path else set())


def test_every_operation_requires_a_token_or_a_session(make_app: MakeApp) -> None:
    document = described(make_app())
    schemes = document["components"]["securitySchemes"]
    kinds = {name: (one["type"], one.get("scheme") or one.get("name")) for name, one in schemes.items()}
    assert sorted(kinds.values()) == [("apiKey", "wallie_session"), ("http", "bearer")]
    for method, path in OPERATIONS.values():
        either = document["paths"][path][method]["security"]
        assert sorted(map(list, either)) == sorted([name] for name in kinds)


def test_the_described_paths_are_relative_to_the_mount_point(make_app: MakeApp) -> None:
    app = make_app()
    document = described(app)
    (server,) = document["servers"]
    assert app.client.get(f"{server['url']}/api/status", headers=BEARER).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "status",
        "summary",
        "alerts",
        "kpis",
        "series?range=1h&provider=openai",
        "providers/openai?range=1h",
        "providers/nothing",
        "export.csv",
        *(f"usage?by={by}&range={name}" for by in ("provider", "user") for name in ("1h", "7d")),
    ],
)
def test_answers_are_as_described(make_app: MakeApp, query: str) -> None:
    app = make_app(features={"summaries": {"limits": {"rpm": 30}}})
    now = time.time()
    one = settled(at=now, cost_usd=None, unpriced=True)
    crossed = QuotaCrossed(new_id(now), now, "openai", "rpd", "critical", 0.96, 96, 100, 30.0)
    app.record([one, ended(one), crossed])
    app.guard.open_circuit("openai")
    document, path = described(app), f"/api/{query.partition('?')[0]}"
    path, good = re.sub("/providers/.*", "/providers/{provider}", path), 404 if "nothing" in query else 200
    for headers, status in ((BEARER, good), ({}, 401)):
        answer = app.client.get(f"/wallie/api/{query}", headers=headers)
        assert answer.status_code == status
        assert mistakes(document, "get", path, answer) == []


@pytest.mark.parametrize("action", ["reset_quota", "close_circuit", "open_circuit", "release_circuit"])
def test_answers_to_actions_are_as_described(make_app: MakeApp, action: str) -> None:
    app = make_app()
    method, path = OPERATIONS[action]
    document = described(app)
    for provider, status in (("openai", 200), ("nobody", 404), ("x" * 201, 422)):
        answer = app.client.post("/wallie" + path.replace("{provider}", provider), headers=BEARER)
        assert answer.status_code == status
        assert mistakes(document, method, path, answer) == []
