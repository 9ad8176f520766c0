"""Whatever its description allows to be sent, and much that it does not, the API never fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from dashboard_support import TOKEN
from hypothesis import HealthCheck, given, settings
from ledger_support import ended, settled
from schemathesis import GenerationMode

EXAMPLES = 60  # of each operation


@pytest.mark.parametrize("ledger", [True, False])
def test_no_request_that_the_description_allows_makes_the_server_fail(
    make_app: Callable[..., Any], ledger: bool
) -> None:
    app = make_app() if ledger else make_app(ledger=None)
    if ledger:
        one = settled(at=time.time() - 5)
        app.tell([one, ended(one)])
    headers = {"authorization": f"Bearer {TOKEN}"}
    document = app.client.get("/wallie/api/openapi.json", headers=headers).json()
    document["servers"] = [{"url": "http://127.0.0.1/wallie"}]
    described = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) == 9
    for operation in operations:
        positive = operation.as_strategy()
        _ask_all(app, positive | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), headers, ledger)


def _ask_all(app: Any, cases: Any, headers: dict[str, str], ledger: bool) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        sent = case.as_transport_kwargs()
        sent["headers"] = {**dict(sent.get("headers") or {}), **headers}
        sent.pop("cookies", None)
        answer = app.client.request(sent.pop("method"), sent.pop("url"), **sent)
        assert answer.status_code < 500 or (answer.status_code, ledger) == (503, False), (case, answer.text)
        if answer.status_code >= 400:
            assert set(answer.json()) == {"error"}, (case, answer.text)

    ask()
