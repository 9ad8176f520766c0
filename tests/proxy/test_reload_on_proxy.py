"""A changed router_config.yaml on a real LiteLLM proxy: by SIGHUP and by the command, with streams under way."""

from __future__ import annotations

import copy
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import ForkServer
from proxy_support import MASTER_KEY, Proxy, fork_proxy, lay_out
from support import shipped_config, wait_until

from wallie_litellm.simulator import SimulatedProviders


class LiveProxy:
    """A proxy whose file is edited."""

    def __init__(self, forks: ForkServer, folder: Path, data: dict[str, Any]) -> None:
        self.data = data
        self.path = lay_out(folder, data)
        self.proxy: Proxy = fork_proxy(forks, self.path)

    def write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.data))

    def ask(self, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.proxy.port}{path}", sent, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def status(self) -> Any:
        return self.ask("/wallie/api/status")

    def group(self, name: str) -> Any:
        return next(entry for entry in self.data["model_list"] if entry["model_name"] == name)


@pytest.fixture(scope="module")
def live(
    running_fleet: SimulatedProviders, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveProxy]:
    data = shipped_config()
    data["model_list"] = running_fleet.point(data["model_list"])
    data["wallie"] |= {"retry": {"max_retries": 0}, "providers": {}}
    made = LiveProxy(forks, tmp_path_factory.mktemp("reload"), data)
    yield made
    made.proxy.stop()


def test_sighup_takes_up_models_chains_and_limits_while_a_stream_is_under_way(
    live: LiveProxy, fleet: SimulatedProviders
) -> None:
    fleet["openai"].slow(1.0, 1, after_chunks=1)
    connection = live.proxy.connect()
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello there"}], "stream": True}
    live.proxy.send(connection, "/v1/chat/completions", asked)
    stream = connection.getresponse()
    first = stream.readline()
    live.data["model_list"].append({**copy.deepcopy(live.group("gpt-4o-mini")), "model_name": "added"})
    live.data["model_list"].remove(live.group("gpt-4o-mini"))
    live.data["router_settings"]["fallbacks"] = [{"gpt-4o": ["deepseek-chat"]}]
    live.data["wallie"]["providers"] = {"openai": {"rpm": 77}}
    live.write()

    live.proxy.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "rpm" in live.status()["providers"]["openai"]["quota"])

    assert live.status()["providers"]["openai"]["quota"]["rpm"]["limit"] == 77
    assert live.proxy.chat("added").status == 200
    assert live.proxy.chat("gpt-4o-mini").status == 400
    assert {one["id"] for one in live.ask("/v1/models")["data"]} >= {"added"}
    fleet["openai"].fail(500)
    answer = live.proxy.chat("gpt-4o")
    assert (answer.status, answer.headers["x-wallie-provider"]) == (200, "deepseek")
    assert first.startswith(b"data: ")
    assert stream.read().rstrip().endswith(b"data: [DONE]")
    connection.close()


def test_a_bad_file_is_refused_and_a_good_one_taken_up_by_the_command(
    live: LiveProxy, fleet: SimulatedProviders
) -> None:
    live.data["wallie"]["admission"] = {"max_wait": "soon"}
    live.write()
    refused = live.ask("/wallie/api/config/reload", {})["error"]
    assert (refused["code"], "wallie.admission.max_wait" in refused["message"]) == ("wallie_config_refused", True)
    assert live.status()["config"]["refused"] is True
    assert live.proxy.chat("gpt-4o").status == 200

    live.data["wallie"]["admission"] = {"max_wait": "7s"}
    live.data["general_settings"] = {**live.data.get("general_settings", {}), "max_parallel_requests": 1000}
    live.data["wallie"]["routing"] = {"tiers": {"small": ["gpt-4o"]}}
    live.data["wallie"]["features"] = {"chat": {"tier": "small"}}
    live.write()
    done = live.ask("/wallie/api/config/reload", {"reason": "patience"})
    assert "wallie.admission.max_wait" in done["changed"]
    assert done["restart_needed"] == ["general_settings.max_parallel_requests"]
    assert live.status()["config"]["changed"] is False
    body = {"messages": [{"role": "user", "content": "Hello there"}], "metadata": {"feature": "chat"}}
    assert live.proxy.post("/v1/chat/completions", body).status == 200
