"""A changed configuration is taken up over the API and on the page: with the operator's token, and on record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from dashboard_support import TOKEN
from recording import RecordingBus
from starlette.testclient import TestClient

from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import load_config
from wallie_litellm.dashboard.server import whole_app
from wallie_litellm.dashboard.translations import CATALOGUES
from wallie_litellm.events import OperatorActed

BEARER = {"authorization": f"Bearer {TOKEN}"}
MODEL = {"model_name": "o", "litellm_params": {"model": "openai/gpt-4o-mini"}}


class Page:
    """The dashboard of a guard that was opened from a file."""

    def __init__(self, folder: Path, processes: int = 1) -> None:
        self.path = folder / "router_config.yaml"
        self.wallie: dict[str, Any] = {"ledger": None, "telemetry": {"spool": str(folder / "spool")}}
        self.write()
        self.guard = open_guard(load_config(self.path), processes=processes)
        self.bus = RecordingBus()
        self.guard.reporter.publish = self.bus.publish
        app, self.service = whole_app(self.guard, tokens=lambda: [TOKEN], aside=False)
        self.client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 40000), follow_redirects=False)

    def write(self, **wallie: Any) -> None:
        self.wallie |= wallie
        self.path.write_text(yaml.safe_dump({"model_list": [MODEL], "wallie": self.wallie}))

    def reload(self, **headers: str) -> Any:
        return self.client.post("/wallie/api/config/reload", json={"reason": "more"}, headers={**BEARER, **headers})

    def panels(self, range_name: str = "24h") -> str:
        text: str = self.client.get(f"/wallie/panels?range={range_name}", headers=BEARER).text
        return text


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.service.close()
    made.guard.close()


def test_a_changed_file_is_shown_reloaded_and_on_record(page: Page) -> None:
    assert 'data-field="config"' not in page.panels("1h")

    page.write(providers={"openai": {"rpm": 7}}, quota={"warning": 0.5}, store={"timeout": "2s"})
    assert "has changed since it was loaded" in page.panels()
    done = page.reload(**{"x-wallie-actor": "maria"})

    assert (done.status_code, done.json()["actor"]) == (200, "maria (api, 127.0.0.1)")
    assert done.json()["restart_needed"] == ["wallie.store.timeout"]
    assert done.json()["unreached"] == 0
    assert {"wallie.providers.openai.rpm", "wallie.quota.warning"} <= set(done.json()["changed"])
    status = page.client.get("/wallie/api/status", headers=BEARER).json()
    assert status["providers"]["openai"]["quota"]["rpm"]["limit"] == 7
    assert (status["config"]["changed"], status["config"]["restart_needed"]) == (False, ["wallie.store.timeout"])
    assert page.service.config.quota.warning == 0.5
    assert "A restart is needed for wallie.store.timeout." in page.panels()
    (event,) = page.bus.of(OperatorActed)
    assert (event.actor, event.action) == ("maria (api, 127.0.0.1)", "reload")
    assert event.detail is not None
    assert event.detail.startswith("more; changed: ")


def test_the_workers_that_share_no_store_and_keep_what_they_have_are_counted(tmp_path: Path) -> None:
    one_of_four = Page(tmp_path, processes=4)
    try:
        assert one_of_four.reload().json()["unreached"] == 3
    finally:
        one_of_four.service.close()
        one_of_four.guard.close()


def test_a_file_with_a_mistake_is_refused_with_every_problem(page: Page) -> None:
    page.write(providers={"openai": {"rpm": -1}}, retries=3)

    refused = page.reload()

    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "wallie_config_refused")
    assert all(key in refused.json()["error"]["message"] for key in ("providers.openai.rpm", "wallie.retries"))
    assert "cannot be used as it is" in page.panels()
    assert not page.bus.of(OperatorActed)


def test_without_the_token_nothing_is_reloaded(page: Page) -> None:
    page.write(providers={"openai": {"rpm": 7}})
    assert page.client.post("/wallie/api/config/reload", json={}).status_code == 401
    assert page.guard.status()["config"]["changed"] is True


@pytest.mark.parametrize("limit", [7, -1], ids=["a good file", "a bad file"])
def test_the_page_asks_and_says_what_came_of_it(page: Page, limit: int) -> None:
    page.write(providers={"openai": {"rpm": limit}})
    page.client.post("/wallie/login", data={"token": TOKEN, "name": "maria"}, headers={"origin": "http://127.0.0.1"})
    where = f"/wallie/confirm?action=reload&provider={quote(str(page.path.resolve()), safe='')}"
    shown = page.client.get(where)
    assert "is read again" in shown.text
    csrf = re.search(r'name="csrf" value="([^"]+)"', shown.text)
    assert csrf is not None

    form = {"csrf": csrf[1], "action": "reload", "provider": str(page.path.resolve()), "range": "1h", "reason": ""}
    headers = {"origin": "http://127.0.0.1"}
    assert page.client.post("/wallie/orders", data={**form, "csrf": "forged"}, headers=headers).status_code == 403
    done = page.client.post("/wallie/orders", data=form, headers=headers)

    if limit > 0:
        assert done.status_code == 303
        assert "has been reloaded" in page.client.get("/wallie/").text
    else:
        assert done.status_code == 422
        assert "wallie.providers.openai.rpm" in done.text
    assert page.guard.status()["config"]["refused"] is (limit < 0)


def test_every_language_has_the_texts() -> None:
    keys = {key for key in CATALOGUES["en"] if key.startswith("config.") or key.endswith(".reload")}
    assert len(keys) == 8
    assert all(keys <= catalogue.keys() for catalogue in CATALOGUES.values())
