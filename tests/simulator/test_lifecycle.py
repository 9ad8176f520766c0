"""Starting, stopping and pointing: both modes behave alike, stay on loopback and end by themselves."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from typing import Any

import httpx
import litellm
import pytest
from simulator_support import PROMPT, eventually

from wallie_litellm.simulator import DEFAULT_LIMITS, SimulatedProvider, SimulatedProviders


def complete(provider: SimulatedProvider, **more: Any) -> Any:
    where = {"api_base": provider.api_base, "api_key": "sk-test", "max_retries": 0, "num_retries": 0}
    return litellm.acompletion(**{"model": "openai/gpt-4o-mini", "messages": PROMPT, **where, **more})


@pytest.mark.parametrize("in_process", [True, False])
async def test_both_modes_answer_fail_refuse_and_count_alike(in_process: bool) -> None:
    with SimulatedProvider("openai", rpm=100, in_process=in_process, text="Hi there") as provider:
        assert provider.base_url == f"http://127.0.0.1:{provider.port}"
        assert (await complete(provider)).choices[0].message.content == "Hi there"
        provider.fail(503, times=1)
        with pytest.raises(litellm.ServiceUnavailableError):
            await complete(provider)
        provider.refuse()
        with pytest.raises(litellm.InternalServerError):
            await complete(provider)
        provider.heal()
        await complete(provider)
        counts = provider.counts()
        provider.reset()
        fresh = provider.counts()
    assert (counts.received, counts.succeeded, counts.failed) == (3, 2, 1)
    assert counts.by_status == {200: 2, 503: 1}
    assert (fresh.received, fresh.arrivals) == (0, ())


async def test_a_restored_provider_is_as_it_was_at_its_start() -> None:
    with SimulatedProvider("openai", rpm=100, text="Hi there") as provider:
        await complete(provider)
        provider.fail(503)
        provider.refuse()
        provider.restore()
        assert provider.counts().received == 0
        assert (await complete(provider)).choices[0].message.content == "Hi there"
        assert provider.counts().received == 1


@pytest.mark.parametrize("in_process", [True, False])
async def test_stop_is_quick_even_with_hanging_requests(in_process: bool) -> None:
    provider = SimulatedProvider("openai", in_process=in_process).start()
    provider.hang()
    calls = [asyncio.ensure_future(complete(provider)) for _ in range(5)]
    await eventually(lambda: provider.counts().in_flight == 5)
    port, started = provider.port, time.monotonic()
    await asyncio.to_thread(provider.stop)
    assert time.monotonic() - started < 20  # a server of aiohttp waits a minute for its requests
    provider.stop()
    assert all(isinstance(result, Exception) for result in await asyncio.gather(*calls, return_exceptions=True))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_server_process_ends_when_its_parent_dies() -> None:
    # The parent starts a provider, says which port, and is killed without a chance to clean up.
    script = (
        "import sys, time; from wallie_litellm.simulator import SimulatedProvider; "
        "p = SimulatedProvider('openai', in_process=False).start(); print(p.port, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.02)
    pytest.fail("the server outlived its parent")


def test_the_server_process_does_not_import_litellm() -> None:
    script = "import sys, wallie_litellm.simulator.server, wallie_litellm.simulator; print('litellm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_provider_listens_on_loopback_only() -> None:
    with SimulatedProvider("openai") as provider:
        assert provider._ports is not None
        ports = {provider._ports.model, provider._ports.control}
        with open("/proc/net/tcp") as table:
            listening = [line.split()[1] for line in table.readlines()[1:] if line.split()[3] == "0A"]
        addresses = {
            address for address, _, port in (entry.partition(":") for entry in listening) if int(port, 16) in ports
        }
    assert addresses == {"0100007F"}


def test_a_refused_port_stays_reserved() -> None:
    with SimulatedProvider("openai") as provider:
        port = provider.port
        provider.refuse()
        assert provider.port == port
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        provider.accept()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_control_routes_are_on_the_model_port_too() -> None:
    with SimulatedProvider("openai") as provider:
        answer = httpx.get(f"{provider.base_url}/_sim/counts", trust_env=False)
    assert answer.json()["received"] == 0


def test_an_unknown_fault_is_refused() -> None:
    with SimulatedProvider("openai") as provider:
        for body in ({"kind": "explode"}, {"kind": "status", "colour": "red"}, []):
            answer = httpx.post(f"{provider.base_url}/_sim/faults", json=body, trust_env=False)
            assert answer.status_code == 400
            assert answer.json()["error"]


def test_a_handle_that_is_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        SimulatedProvider("openai").counts()


def test_an_unknown_name_needs_a_vendor() -> None:
    with pytest.raises(ValueError, match="no wire format for 'openai-eu'"):
        SimulatedProvider("openai-eu")
    assert SimulatedProvider("openai-eu", vendor="openai").name == "openai-eu"


def test_a_port_in_use_is_an_error_at_start() -> None:
    with SimulatedProvider("openai") as first, pytest.raises(OSError, match="in use"):
        SimulatedProvider("openai", port=first.port).start()


def test_a_fleet_has_five_providers_with_the_specifications_limits(fleet: SimulatedProviders) -> None:
    assert list(fleet) == ["openai", "anthropic", "gemini", "groq", "deepseek"]
    for name, limits in DEFAULT_LIMITS.items():
        settings = fleet[name].settings
        assert {"rpm": settings.rpm, "tpm": settings.tpm, "rpd": settings.rpd} == limits


async def test_a_model_list_is_pointed_at_the_simulated_providers(fleet: SimulatedProviders) -> None:
    given = [
        {"model_name": "a", "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "os.environ/OPENAI_API_KEY"}},
        {"model_name": "b", "litellm_params": {"model": "groq/llama-3.1-8b-instant"}},
    ]
    pointed = fleet.point(given)
    assert given[0]["litellm_params"]["api_key"] == "os.environ/OPENAI_API_KEY"
    assert "api_base" not in given[1]["litellm_params"]
    router = litellm.Router(model_list=pointed, num_retries=0)
    try:
        for group, name in (("a", "openai"), ("b", "groq")):
            answer = await router.acompletion(model=group, messages=PROMPT)
            assert answer.choices[0].message.content == f"Hello from {name}."
    finally:
        router.discard()


def test_a_deployment_may_name_its_simulated_provider() -> None:
    with SimulatedProviders({"openai-eu": {"vendor": "openai", "rpm": 5}}, latency=0.0) as fleet:
        deployment = {
            "model_name": "a",
            "litellm_params": {"model": "openai/gpt-4o"},
            "model_info": {"wallie_provider": "openai-eu"},
        }
        assert fleet.point([deployment])[0]["litellm_params"]["api_base"] == fleet["openai-eu"].api_base


def test_a_fleet_never_lets_a_deployment_through_to_a_real_provider(fleet: SimulatedProviders) -> None:
    with pytest.raises(ValueError, match="no simulated provider for 'mistral/large'"):
        fleet.point([{"model_name": "a", "litellm_params": {"model": "mistral/large"}}])


def test_the_process_finds_the_package_from_anywhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SimulatedProvider("anthropic", in_process=False) as provider:
        assert provider.counts().received == 0
    assert os.getcwd() == str(tmp_path)
