"""What provider, client, ledger, page, PostHog and LiteLLM's own callback say of a proxy's call agrees to the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agreement_rows import ROWS, Client
from agreement_support import (
    CALLBACK_FIELDS,
    Asked,
    Json,
    Observations,
    Row,
    agreement_config,
    agreement_providers,
    check_agreement,
    of_callback,
    of_ledger,
    of_page,
    of_posthog,
)
from forked import ForkServer
from proxy_support import RecordedLedger, fork_proxy, lay_out

from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint

CALLBACK = f"""
import json
from pathlib import Path
from litellm.integrations.custom_logger import CustomLogger

class Observer(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        said = kwargs["standard_logging_object"]
        with Path(__file__).with_name("observed.jsonl").open("a") as file:
            file.write(json.dumps({{name: said.get(name) for name in {CALLBACK_FIELDS}}}) + "\\n")

handler = Observer()
"""

Outcome = tuple[Asked, Observations]


@pytest.fixture(scope="module")
def outcome(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """All rows asked, one after the other, of one proxy, and what became of them everywhere."""
    folder: Path = tmp_path_factory.mktemp("agreement")
    ledger = RecordedLedger(folder / "wallie.db")
    asked = Asked()
    with agreement_providers() as providers, PostHogEndpoint() as endpoint:
        config = agreement_config(ROWS, providers, endpoint, ledger)
        config["litellm_settings"]["callbacks"] = ["callbacks.wallie.handler", "callbacks.observer.handler"]
        path = lay_out(folder, config)
        (folder / "callbacks" / "observer.py").write_text(CALLBACK)
        proxy = fork_proxy(forks, path)
        try:
            client = Client(proxy.port)
            for row in ROWS:
                try:
                    asked.note(row, row.ask(client, row.group), providers)
                except Exception as error:  # noqa: BLE001 - the row's own test raises it
                    asked.failed[row.group] = error
            observed = folder / "callbacks" / "observed.jsonl"
            yield asked, asked.compared_with(lambda: _others(client, ledger, endpoint, observed))
        finally:
            proxy.stop()


def _others(client: Client, ledger: RecordedLedger, endpoint: PostHogEndpoint, observed: Path) -> Observations:
    payloads: list[Json] = [json.loads(line) for line in observed.read_text().splitlines()] if observed.exists() else []
    return {
        "ledger": of_ledger(ledger),
        "page": of_page(client.get("/wallie/api/usage?range=1h&by=model")),
        "posthog": of_posthog(endpoint),
        "callback": of_callback(payloads),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_all_say_the_same_of_a_call_of_the_proxy(outcome: Outcome, row: Row) -> None:
    check_agreement(*outcome, row)
