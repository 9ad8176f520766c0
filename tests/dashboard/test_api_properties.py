"""The API answers as described, and never fails, whether or not its description allows a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from dashboard_support import TOKEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_support import ended, settled
from schemathesis import GenerationMode
from test_openapi import OPERATIONS, mistakes

from wallie_litellm.events import new_id

EXAMPLES = {True: 60, False: 20}  # of each operation, with a ledger and without, where most do the same
NEEDS_LEDGER = {
    "usage",
    "chains",
    "alerts",
    "kpis",
    "export",
    "experiments",
    "requests",
    "request",
    "series",
    "provider",
}

ASKED = new_id()  # the request on record


@pytest.mark.parametrize("ledger", [True, False])
def test_no_request_that_the_description_allows_makes_the_server_fail(
    make_app: Callable[..., Any], ledger: bool
) -> None:
    app = make_app() if ledger else make_app(ledger=None)
    if ledger:
        one = settled(at=time.time() - 5, request_id=ASKED)
        app.record([one, ended(one)])
    document = app.client.get("/wallie/api/openapi.json", headers={"authorization": f"Bearer {TOKEN}"}).json()
    described = schemathesis.openapi.from_dict(document)
    operations = {found.ok().definition.raw["operationId"]: found.ok() for found in described.get_all_operations()}
    assert set(operations) == set(OPERATIONS)
    for name, operation in operations.items():
        anything = operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        answers = _ask_all(app, anything, document, EXAMPLES[ledger])
        expected = {503} if name in NEEDS_LEDGER and not ledger else {200}
        if name in ("conclude_experiment", "resume_arm"):
            expected = {404}  # there is none
        if name == "reload_config":
            expected = {409}  # there is no file
        assert {status for status in answers if status >= 500} <= expected, name
        assert expected <= answers, f"{name}: nothing has come as far as the operation itself"
        assert not {401, 429} & answers, name


def _ask_all(app: Any, cases: Any, document: Any, examples: int) -> set[int]:
    """The statuses of all answers."""
    answers: set[int] = set()

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=cases, known=st.booleans())
    def ask(case: Any, known: bool) -> None:
        if known and "provider" in case.path_parameters:  # generated names are never it
            case.path_parameters["provider"] = "openai"
        if known and "request_id" in case.path_parameters:
            case.path_parameters["request_id"] = ASKED
        if known and case.path == "/api/routing/{name}":
            case.path_parameters["name"] = "auto"
        sent = case.as_transport_kwargs()
        # A made-up token would be tried first, and after five of them nothing but 429 would be tested.
        others = {name: value for name, value in sent.pop("headers", {}).items() if name.lower() != "authorization"}
        sent.pop("cookies", None)
        method, url = sent.pop("method"), "http://127.0.0.1/wallie" + sent.pop("url").partition("/wallie")[2]
        answer = app.client.request(method, url, headers={**others, "authorization": f"Bearer {TOKEN}"}, **sent)
        answers.add(answer.status_code)
        if "%0A" in url:  # no path that Starlette mounts has a line break
            assert answer.status_code == 404
            return
        wrong = mistakes(document, case.method.lower(), case.path, answer)
        assert wrong == [], (method, url, wrong, answer.text)

    ask()
    return answers
