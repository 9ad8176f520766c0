"""The simulated providers, gateway and callers of each system, as processes; and scenes played with them."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.proxies import KEY as PROXY_KEY
from benchmarks.proxies import started
from benchmarks.reliability import settings
from benchmarks.reliability.faults import LATENCY, Request, Step
from benchmarks.reliability.peers import HERE, ROOT, Peers
from benchmarks.reliability.settings import Group
from wallie_litellm.simulator import SimulatedProvider, VisitRecord

# Of few pieces, since reading them is what most of the CPU goes to.
TEXT: Final = "We are open from nine to five; on public holidays the shop is closed."
COMPLETION_TOKENS: Final = 400  # of every answer: what a usual answer costs, whatever the length of this one
PROMPT_TOKENS: Final = 192  # of every request: a quarter of the characters that the callers send
WARM_UP: Final = {"name": "warm-up", "timeout": 30.0, "first_token": 30.0}
_WARM_UP: Final = 12  # requests
_AT_A_TIME: Final = 2  # systems that are started: each takes a core for seconds
_START: Final = 180.0  # seconds for callers and gateways to get ready
_GRACE: Final = 60.0  # seconds beyond load and deadline after which callers count as stuck

LABELS: Final = {
    "litellm-router": "LiteLLM Router",
    "litellm-limits": "LiteLLM Router, limit options",
    "litellm-proxy": "LiteLLM proxy, limit options",
    "portkey": "Portkey gateway",
    "token-throttle": "token-throttle + LiteLLM",
    "aiolimiter": "tenacity + aiolimiter + LiteLLM",
    "wallie-library": "ours, library",
    "wallie-proxy": "ours, proxy",
}


@dataclass
class Contestant:
    """One system with its providers and callers, running."""

    name: str
    primary: SimulatedProvider
    fallback: SimulatedProvider
    callers: subprocess.Popen[str]
    versions: dict[str, str]
    groups: dict[str, Group]
    lines: queue.Queue[str | None] = field(default_factory=queue.Queue)

    def play(self, job: Any, patience: float) -> Any:
        """What the callers found.

        Raises:
            RuntimeError: they ended, or are stuck.
        """
        assert self.callers.stdin is not None
        self.callers.stdin.write(json.dumps(job) + "\n")
        self.callers.stdin.flush()
        return self.hear(patience)

    def hear(self, patience: float) -> Any:
        """The next line that the callers say."""
        try:
            line = self.lines.get(timeout=patience)
        except queue.Empty:
            line = None
        if line is None:
            raise RuntimeError(f"the callers of {self.name} say nothing (status {self.callers.poll()})")
        return json.loads(line)

    def listen(self) -> None:
        """Read what the callers say, until they end."""
        assert self.callers.stdout is not None
        for line in self.callers.stdout:
            self.lines.put(line)
        self.lines.put(None)


@contextmanager
def contestants(
    names: Sequence[str], peers: Peers, group_settings: Sequence[dict[str, Any]]
) -> Iterator[tuple[list[Contestant], dict[str, str]]]:
    """Those of ``names`` that start, and why the others do not. Each has all groups, at providers of its own."""
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reliability-")))
        stacks = {name: stack.enter_context(ExitStack()) for name in names}

        def start(name: str) -> Contestant | None:
            try:
                return _start(name, stacks[name], folder, peers, group_settings)
            except (OSError, RuntimeError, ValueError) as error:
                failed[name] = f"it did not start: {error}"[:300]
                return None

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            running = [one for one in pool.map(start, names) if one is not None]
        yield running, failed


def _start(
    name: str, stack: ExitStack, folder: Path, peers: Peers, group_settings: Sequence[dict[str, Any]]
) -> Contestant:
    own = folder / name
    own.mkdir()
    options = {"vendor": "openai", "in_process": False, "text": TEXT, "latency": LATENCY}
    primary, fallback = (
        stack.enter_context(SimulatedProvider(which, completion_tokens=COMPLETION_TOKENS, **options))
        for which in ("primary", "fallback")
    )
    groups = [Group(primary_url=primary.api_base, fallback_url=fallback.api_base, **one) for one in group_settings]
    spec = _spec(name, stack, own, peers, groups)
    path = own / "spec.json"
    path.write_text(json.dumps(spec))
    in_peers = name in ("token-throttle", "aiolimiter")
    python = str(peers.python) if in_peers else sys.executable
    callers = _callers(python, path, own, stack)
    contestant = Contestant(name, primary, fallback, callers, {}, {group.name: group for group in groups})
    threading.Thread(target=contestant.listen, daemon=True).start()
    contestant.versions = contestant.hear(_START)["versions"] | spec.get("versions", {})
    _warm_up(contestant)
    return contestant


def _warm_up(contestant: Contestant) -> None:
    """A few answers before anything is measured: the first ones load code for seconds."""
    prepare(contestant, {})
    requests = [Request(number * 0.25, stream=number % 2 == 1) for number in range(_WARM_UP)]
    seen = play(contestant, WARM_UP["name"], requests, (), time.time(), 0.0)
    if not any(one["outcome"] == "answered" for one in seen.outcomes):
        raise RuntimeError(f"no request of the warm-up was answered: {seen.outcomes[-1]['error']}")


def _spec(name: str, stack: ExitStack, own: Path, peers: Peers, groups: list[Group]) -> dict[str, Any]:
    """The specification of the callers of ``name``; starts its gateway, if any."""
    spec: dict[str, Any] = {
        "text": TEXT,
        "deadline": settings.DEADLINE,
        "key": settings.KEY,
        "groups": {group.name: _group(group) for group in groups},
    }
    match name:
        case "litellm-router":
            return spec | {"kind": "litellm_router", "router": settings.litellm_bare(groups)}
        case "litellm-limits":
            return spec | {"kind": "litellm_router", "router": settings.litellm_limits(groups)}
        case "token-throttle" | "aiolimiter":
            more = {"retries": settings.RETRIES, "patience": settings.PATIENCE}
            return spec | {"kind": "limiter_before", "limiter": name, **more}
        case "wallie-library":
            path = own / "router_config.yaml"
            path.write_text(json.dumps(settings.wallie(groups, own)))  # JSON is YAML
            return spec | {"kind": "wallie_library", "config": str(path), "feature": settings.FEATURE}
        case "litellm-proxy":
            proxy = stack.enter_context(started(own, settings.litellm_proxy(groups), "litellm"))
            more = {"versions": _versions("litellm")}
            return spec | {"kind": "gateway", "url": f"{proxy.url}/v1", "key": PROXY_KEY, **more}
        case "wallie-proxy":
            proxy = stack.enter_context(started(own, settings.wallie(groups, own), "wallie-litellm", "proxy"))
            more = {
                "headers": {"x-wallie-feature": settings.FEATURE},
                "versions": _versions("litellm", "wallie-litellm"),
            }
            return spec | {"kind": "gateway", "url": f"{proxy.url}/v1", "key": PROXY_KEY, **more}
        case "portkey":
            configs = {group.name: settings.portkey(group) for group in groups}
            found = {"@portkey-ai/gateway": _npm_version(peers)}
            more = {"config_header": "x-portkey-config", "configs": configs, "versions": found}
            return spec | {"kind": "gateway", "url": f"{stack.enter_context(_portkey(own, peers))}/v1", **more}
    raise ValueError(f"no system {name!r}")


def _versions(*packages: str) -> dict[str, str]:
    return {name: version(name) for name in packages}


def _group(group: Group) -> dict[str, Any]:
    members = [
        {"name": name, "url": url, "model": model, "limits": dict(limits)}
        for name, url, model, limits in group.members()
    ]
    return {"name": group.name, "timeout": group.timeout, "members": members}


def _callers(python: str, spec: Path, own: Path, stack: ExitStack) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    command = [python, "-m", "benchmarks.reliability.worker", str(spec)]
    log = stack.enter_context((own / "callers.log").open("w"))
    process = stack.enter_context(
        subprocess.Popen(
            command, cwd=own, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    )
    stack.callback(process.kill)
    return process


@contextmanager
def _portkey(own: Path, peers: Peers) -> Iterator[str]:
    node = shutil.which("node")
    assert node is not None
    assert peers.gateway is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [node, "--require", str(HERE / "portkey.cjs"), str(peers.gateway), f"--port={port}", "--headless"]
    with (own / "gateway.log").open("wb") as log, subprocess.Popen(command, cwd=own, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_it_answers(url, process)
            yield url
        finally:
            process.kill()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(url, timeout=5, trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the gateway did not start (status {process.poll()})")


def _npm_version(peers: Peers) -> str:
    assert peers.gateway is not None
    found: str = json.loads((peers.gateway.parents[1] / "package.json").read_text())["version"]
    return found


@dataclass
class Observed:
    """What both sides saw of one scene; times of visits are in seconds from the first request."""

    outcomes: list[dict[str, Any]]
    primary: list[VisitRecord]
    fallback: list[VisitRecord]


def play(
    contestant: Contestant, group: str, requests: Sequence[Request], steps: Sequence[Step], start: float, settle: float
) -> Observed:
    """Play a load with its steps, the first request at ``start`` (Unix time).

    Raises:
        RuntimeError: the callers ended, or are stuck.
    """
    over = threading.Event()

    def act() -> None:
        for step in sorted(steps, key=lambda one: one.at):
            if over.wait(max(0.0, start + step.at - time.time())):
                return
            step.act(contestant.primary)

    timeline = threading.Thread(target=act)
    timeline.start()
    job = {
        "group": group,
        "start": start,
        "deadline": settings.DEADLINE,
        "requests": [asdict(request) for request in requests],
    }
    lasts = max(request.at for request in requests)
    try:
        outcomes = contestant.play(job, start - time.time() + lasts + settings.DEADLINE + _GRACE)
    finally:
        over.set()
        timeline.join()
    time.sleep(settle)
    return Observed(outcomes, *observe(contestant, start))


def observe(contestant: Contestant, start: float) -> tuple[list[VisitRecord], list[VisitRecord]]:
    """What primary and fallback have seen, their times from ``start`` on."""
    primary, fallback = (
        [replace(visit, at=visit.at - start) for visit in provider.visits()]
        for provider in (contestant.primary, contestant.fallback)
    )
    return primary, fallback


def prepare(contestant: Contestant, limits: dict[str, int | None]) -> None:
    """Both providers as they were at first, with these limits of the primary."""
    for provider in (contestant.primary, contestant.fallback):
        provider.restore()
        provider.use_elsewhere()
    contestant.primary.change_limits(**{"rpm": None, "rpd": None, **limits})
    contestant.primary.reset()


def raw(group: str, name: str, observed: Observed) -> dict[str, Any]:
    """Everything that was seen, for a look at single requests."""
    visits = {side: [asdict(visit) for visit in getattr(observed, side)] for side in ("primary", "fallback")}
    return {"group": group, "system": name, "outcomes": observed.outcomes, **visits}
