"""Every section of the playbook, rehearsed: its fault is made, and each of its commands is run against it."""

from __future__ import annotations

import re
import resource
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import litellm
import pytest
import yaml
from cli_support import run
from dashboard_support import served
from redis_support import RedisServer
from support import messages, shipped_config, wait_until

from wallie_litellm.bootstrap import build_router
from wallie_litellm.errors import Refused
from wallie_litellm.guard.router import WallieRouter
from wallie_litellm.simulator.providers import SimulatedProviders
from wallie_litellm.telemetry.playbook import section_of, sections

BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Installation:
    """A router in front of simulated providers, its dashboard, and the commands pointed at both."""

    def __init__(self, router: WallieRouter, providers: SimulatedProviders) -> None:
        self.router = router
        self.providers = providers

    def ask(self, group: str = "gpt-4o-mini", **arguments: Any) -> None:
        self.router.completion(group, messages(), max_tokens=5, **arguments)

    def ask_or_not(self, group: str) -> None:
        """:meth:`ask`, where the answer may be a refusal."""
        with suppress(Refused):
            self.ask(group)

    def state(self, provider: str = "openai") -> dict[str, Any]:
        found: dict[str, Any] = self.router.guard.status()["providers"][provider]
        return found

    def run(self, section: str, failing: tuple[str, ...] = (), *, writable: bool = True) -> dict[str, str]:
        """What each command of ``section`` prints; those in ``failing`` may exit with 1, as kpis and check do."""
        printed = {}
        for line in commands(section):
            if writable:
                assert self.router.guard.bus.flush_blocking(20)
            program, *arguments = shlex.split(line)
            assert program == "wallie-litellm", line
            done = run(*arguments)
            assert done.exit_code in ((0, 1) if arguments[0] in failing else (0,)), f"{line}: {done.output}"
            printed[line] = done.output
        return printed


Open = Callable[..., Installation]


@pytest.fixture(scope="module")
def providers() -> Iterator[SimulatedProviders]:
    with SimulatedProviders(text="Hello.") as running:
        yield running


@pytest.fixture
def installation(
    providers: SimulatedProviders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    providers.restore()
    monkeypatch.chdir(tmp_path)

    @contextmanager
    def opened(change: Callable[[dict[str, Any]], object] = lambda data: None) -> Iterator[Installation]:
        data = shipped_config()
        data["model_list"] = providers.point(data["model_list"])
        data["wallie"] |= {"ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"}}
        data["wallie"] |= {"telemetry": {"spool": str(tmp_path / "spool")}}
        change(data)
        file = tmp_path / "router_config.yaml"
        file.write_text(yaml.safe_dump(data))
        router = build_router(file)
        with served(router.guard) as address:
            monkeypatch.setenv("WALLIE_CONFIG", str(file))
            monkeypatch.setenv("WALLIE_URL", address.removesuffix("/wallie/"))
            yield Installation(router, providers)
        router.guard.close()

    return opened


def commands(section: str) -> list[str]:
    lines = [line for block in BLOCK.findall(sections()[section]) for line in block.splitlines()]
    assert lines, section
    return lines


def test_an_open_breaker(installation: Any) -> None:
    with installation() as here:
        here.providers["openai"].fail(503)
        here.ask()
        here.ask()
        assert here.state()["breaker"]["state"] == "open"
        printed = here.run("breaker-open")
        assert "openai: open: HTTP 503; next probe in" in printed["wallie-litellm status"]
        assert here.state()["breaker"]["state"] == "open"  # stopped by the operator no longer: a probe decides
        assert "gpt-4o-mini" in Path("transitions.csv").read_text()


def test_a_quota_that_is_nearly_used(installation: Any) -> None:
    with installation() as here:
        here.router.guard.update_usage("openai", 9_600, 0)
        printed = here.run("quota")
        assert "10000" in printed["wallie-litellm limits"].replace(",", "")
        assert here.state()["quota"]["rpd"]["used"] == 0
        assert "critical" in Path("alerts.csv").read_text()


def test_a_day_that_is_used_up(installation: Any) -> None:
    with installation() as here:
        here.router.guard.update_usage("openai", 10_000, 0)
        here.ask()  # the chain carries on
        assert here.state("anthropic")["quota"]["rpd"]["used"] == 1
        printed = here.run("exhausted-day")
        assert "10000 / 10000" in printed["wallie-litellm status"]
        assert here.state()["quota"]["rpd"]["used"] == 0
        assert "claude-sonnet-4" in Path("attempts.csv").read_text()


def test_a_model_without_a_price(installation: Any) -> None:
    def own_model(data: dict[str, Any]) -> None:
        data["model_list"][0]["litellm_params"]["model"] = "openai/our-own-model"

    with installation(own_model) as here:
        here.ask("gpt-4o")
        printed = here.run("unpriced-model", failing=("check",))
        assert "our-own-model" in printed["wallie-litellm check"]
        (priced,) = re.findall(r"`(model_info: \{.*?\})`", sections()["unpriced-model"])
        assert set(yaml.safe_load(priced)["model_info"]) == {"input_cost_per_token", "output_cost_per_token"}
        assert "our-own-model" in Path("attempts.csv").read_text()


def test_a_cost_out_of_hand(installation: Any) -> None:
    def small_budget(data: dict[str, Any]) -> None:
        data["wallie"]["kpis"] = {"monthly_cost": 0.00001}

    with installation(small_budget) as here:
        here.ask("gpt-4o")
        printed = here.run("cost", failing=("kpis",))
        assert re.search(r"monthly_cost.*FAIL", printed["wallie-litellm kpis"])
        assert "gpt-4o" in Path("requests.csv").read_text()
        assert here.state()["breaker"]["state"] == "closed"


def test_redis_away(installation: Any) -> None:
    with RedisServer() as redis:

        def shared(data: dict[str, Any]) -> None:
            data["wallie"]["store"] = {"url": redis.url}

        with installation(shared) as here:
            here.ask()
            redis.stop()
            wait_until(lambda: here.router.guard.status()["store"]["state"] == "down")
            here.ask()  # on its share of the limits
            assert ", down: " in here.run("redis-away")["wallie-litellm status"]
            redis.start()
            wait_until(lambda: here.router.guard.status()["store"]["state"] == "ok")


class Disk:
    """A disk of 1 MiB at ``folder``; where none may be mounted, the largest size of a file takes its place."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._filling = folder / "other"
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        with suppress(FileNotFoundError):
            subprocess.run(command, capture_output=True, check=False)
        self._sizes = None if folder.is_mount() else resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        if self._sizes is not None:
            size = max(file.stat().st_size for file in self.folder.iterdir())
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._sizes[1]))
            return
        with suppress(OSError), self._filling.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def make_room(self) -> None:
        if self._sizes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._sizes)
        self._filling.unlink(missing_ok=True)

    def remove(self) -> None:
        self.make_room()
        if self._sizes is None:
            command = ["umount", "-l", str(self.folder)]
            subprocess.run(command, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.remove()


def test_a_database_whose_disk_is_full(installation: Any, disk: Disk) -> None:
    def on_disk(data: dict[str, Any]) -> None:
        data["wallie"]["ledger"] = {"url": f"sqlite:///{disk.folder}/wallie.db"}

    with installation(on_disk) as here:
        here.ask()
        assert here.router.guard.bus.flush_blocking(20)
        disk.fill()

        def is_full() -> bool:
            here.ask()
            return bool(here.router.guard.status()["sinks"]["ledger"]["spooled"])

        wait_until(is_full)
        assert "records wait" in here.run("database-full", writable=False)["wallie-litellm status"]
        disk.make_room()
        assert here.router.guard.bus.flush_blocking(20)
        assert here.router.guard.status()["sinks"]["ledger"]["dropped"] == 0


def test_a_page_that_is_out_of_reach(installation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with installation() as here:
        here.ask()
        assert here.router.guard.bus.flush_blocking(20)
        monkeypatch.setenv("WALLIE_URL", "http://127.0.0.1:9")
        unreachable = run("status")
        assert unreachable.exit_code == 1
        assert "cannot connect" in unreachable.output
        monkeypatch.delenv("WALLIE_URL")
        printed = here.run("page-unreachable", failing=("kpis",))
        assert "uptime" in printed["wallie-litellm kpis"]


def test_a_deploy_that_went_wrong(installation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_latency(data: dict[str, Any]) -> None:
        data["wallie"]["routing"] = {"order": "latency"}

    with installation(by_latency) as here:
        here.ask()
        here.run("deploy", failing=("check", "kpis"))
        assert here.router.guard.status()["routing"]["switches"]["order"] is True
        assert "switch_off" in Path("actions.csv").read_text()


def test_too_large_a_share_of_failures(installation: Any) -> None:
    def watched(data: dict[str, Any]) -> None:
        data["wallie"] |= {"alerts": {"error_rate": 0.5, "min_requests": 2}, "retry": {"max_retries": 0}}

    with installation(watched) as here:
        alerts = here.router.guard.reporter.alerts
        alerts.close()  # its own looks are seconds apart
        alerts.listen()
        here.providers["deepseek"].fail(503)
        for _ in range(2):
            with pytest.raises(litellm.ServiceUnavailableError):
                here.ask("deepseek-chat")
        alerts.look()
        printed = here.run("error-rate")
        assert "100% of the requests for deepseek-chat fail (limit 50%)" in printed["wallie-litellm status"]
        assert "HTTP 503" in printed["wallie-litellm requests --failed --since 15m"]
        assert "2 of 2 in 300 s" in Path("alerts.csv").read_text()


def test_a_queue_that_does_not_empty(installation: Any) -> None:
    def narrow(data: dict[str, Any]) -> None:
        data["wallie"]["providers"]["deepseek"] = {"rpm": 1}
        data["wallie"]["admission"] = {"max_wait": "5m"}
        data["wallie"]["alerts"] = {"queue": 2, "queue_for": "50ms"}

    with installation(narrow) as here:
        here.ask("deepseek-chat")
        waiting = [threading.Thread(target=here.ask_or_not, args=("deepseek-chat",)) for _ in range(2)]
        for thread in waiting:
            thread.start()
        wait_until(lambda: here.router.guard.status()["alerts"])
        printed = here.run("queue")
        assert "2 requests wait for deepseek (limit 2)" in printed["wallie-litellm status"]
        assert "deepseek" in printed["wallie-litellm requests --since 15m --limit 50"]
        assert "2 or more for 0.05 s" in Path("alerts.csv").read_text()
        here.router.guard.refuse()
        for thread in waiting:
            thread.join(30)


def test_every_section_is_rehearsed_here_and_every_alert_leads_to_one() -> None:
    rehearsed = set(re.findall(r'\.run\(\s*"([\w-]+)"', Path(__file__).read_text()))
    assert rehearsed == set(filter(None, sections()))
    leading = {
        section_of(alert, dimension, utilization)
        for alert in ("quota", "limit_overstated", "provider_down", "unpriced", "budget", "error_rate", "queue")
        for dimension, utilization in (("rpm", 0.95), ("rpd", 1.0))
    }
    assert leading <= rehearsed


def test_the_command_lists_the_sections_and_prints_one() -> None:
    assert "wallie-litellm playbook breaker-open" in run("playbook").output
    assert run("playbook", "quota").output.startswith("# quota\n\n**A limit is 80 % or 95 % used.**")
    unknown = run("playbook", "nothing")
    assert unknown.exit_code == 2
    assert "choose from breaker-open, quota, " in unknown.output
