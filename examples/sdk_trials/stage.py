"""Simulated providers, a proxy in front of them, and one process for each SDK; prints what each trial found."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wallie_litellm.simulator import SimulatedProvider

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEY = "sk-trials"
# Each simulated provider: its vendor's wire format, and its limits in the configuration.
PROVIDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "up": ("openai", {"rpm": 6000}),
    "claude": ("anthropic", {"rpm": 6000}),
    "down": ("openai", {"rpm": 6000}),
    "claude-down": ("anthropic", {"rpm": 6000}),
    "waits": ("openai", {"rpm": 60, "burst": {"rpm": 1}}),  # the second of two calls waits for a second
    "full": ("openai", {"rpm": 12, "burst": {"rpm": 1}}),  # ... for five, which is more than it may
    "tiny": ("openai", {"tpm": 20}),  # a long prompt never fits
}
CHAINS = [{"down": ["up"]}, {"claude-down": ["claude"]}]
ALIASES = {"gpt-4o-mini": "up", "claude-sonnet-4": "claude"}  # groups that the documentation's blocks name
MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-6"}
START = 120  # seconds until a proxy that says nothing is given up
SCRIPT = 180  # seconds for all trials of one SDK


@dataclass
class Row:
    """One line of the table."""

    sdk: str
    version: str
    against: str
    tried: str
    good: bool
    result: str
    feature: str = ""
    tokens: tuple[int, int] | None = None


@contextmanager
def providers() -> Iterator[dict[str, SimulatedProvider]]:
    """All of them, running; those that are down answer 500."""
    running: dict[str, SimulatedProvider] = {}
    try:
        for name, (vendor, _) in PROVIDERS.items():
            running[name] = SimulatedProvider(name, vendor=vendor, uses_tools=True).start()
        for name in ("down", "claude-down"):
            running[name].fail(500)
        yield running
    finally:
        for provider in running.values():
            provider.stop()


def configuration(running: dict[str, SimulatedProvider], ledger: Path) -> dict[str, Any]:
    """A model group for each provider, of its name."""

    def entry(name: str) -> dict[str, Any]:
        parameters = {"model": MODELS[PROVIDERS[name][0]], "api_base": running[name].api_base, "api_key": KEY}
        return {"model_name": name, "litellm_params": parameters, "model_info": {"wallie_provider": name}}

    return {
        "model_list": [entry(name) for name in PROVIDERS],
        "router_settings": {"fallbacks": CHAINS, "model_group_alias": ALIASES, "disable_cooldowns": True},
        "litellm_settings": {"callbacks": "callbacks.wallie.handler"},
        "wallie": {
            "providers": {name: limits for name, (_, limits) in PROVIDERS.items()},
            "admission": {"max_wait": "2s"},
            "retry": {"max_retries": 0},
            "ledger": {"url": f"sqlite:///{ledger}"},
            "telemetry": {"spool": str(ledger.parent / "spool")},
        },
    }


@contextmanager
def proxy(path: Path) -> Iterator[str]:
    """``wallie-litellm proxy`` on a free port; its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = path.parent / "proxy.log"
    command = [
        str(Path(sys.executable).with_name("wallie-litellm")),
        "proxy",
        "--config",
        str(path),
        "--port",
        str(port),
    ]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=path.parent, env=environment, stdout=output, stderr=output)
    try:
        wait_for(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the proxy answers.

    Raises:
        SystemExit: it does not start.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            opener.open(f"{address}/health/liveliness", timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    sys.exit(f"the proxy did not start:\n{log.read_text()[-3000:]}")


def play(command: list[str], environment: dict[str, str]) -> list[Row]:
    """The rows that a script prints; one that says why, where it ends before its end."""
    done = subprocess.run(
        command, env=environment, cwd=HERE, capture_output=True, text=True, timeout=SCRIPT, check=False
    )
    rows = [Row(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        rows.append(Row(Path(command[1]).stem, "", "", "the script", good=False, result=" ".join(said)[:200]))
    return rows


def compare_with_ledger(rows: list[Row], ledger: Path) -> None:
    """Add to each row with tokens whether the proxy's ledger has the same."""
    time.sleep(2)  # the ledger is written a moment after an answer
    with closing(sqlite3.connect(ledger)) as connection:
        query = "SELECT feature, prompt_tokens, completion_tokens FROM wallie_attempts WHERE success"
        found = {feature: (prompt, answer) for feature, prompt, answer in connection.execute(query)}
    for row in rows:
        if row.tokens is None:
            continue
        recorded = found.get(row.feature)
        row.good = row.good and recorded == tuple(row.tokens)
        row.result += f"; tokens {row.tokens[0]} + {row.tokens[1]}, in the ledger "
        row.result += "the same" if recorded == tuple(row.tokens) else str(recorded)


def table(rows: list[Row]) -> str:
    """The rows in columns."""
    lines = [("SDK", "version", "against", "tried", "result")]
    lines += [
        (row.sdk, row.version, row.against, row.tried, ("" if row.good else "FAILED: ") + row.result) for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join("  ".join([*map(str.ljust, line[:4], widths), line[4]]).rstrip() for line in lines)


def main(oldest: str, without_node: str) -> int:
    """All trials, one SDK after the other."""
    with tempfile.TemporaryDirectory() as temporary, providers() as running:
        folder = Path(temporary)
        shutil.copytree(ROOT / "callbacks", folder / "callbacks", ignore=shutil.ignore_patterns("__pycache__"))
        path, library = folder / "router_config.yaml", folder / "library.yaml"
        settings = configuration(running, folder / "wallie.db")
        path.write_text(yaml.safe_dump(settings))
        library.write_text(yaml.safe_dump({**settings, "wallie": {**settings["wallie"], "ledger": None}}))
        with proxy(path) as address:
            environment = {
                **os.environ,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "TRIALS_PROXY": address,
                "TRIALS_KEY": KEY,
                "TRIALS_CONFIG": str(library),
                "OPENAI_AGENTS_DISABLE_TRACING": "1",
            }
            environment.pop("WALLIE_CONFIG", None)
            scripts = [(sys.executable, "openai"), (oldest, "openai"), (sys.executable, "anthropic")]
            scripts += [(sys.executable, "langchain"), (oldest, "instructor"), (sys.executable, "agents")]
            scripts += [(sys.executable, "docs")]
            commands = [[python, str(HERE / f"{name}_trial.py")] for python, name in scripts]
            commands += [] if without_node else [["node", str(HERE / "vercel_trial.mjs")]]
            rows = [row for command in commands for row in play(command, environment)]
            compare_with_ledger(rows, folder / "wallie.db")
    print(table(rows))
    if without_node:
        print(f"not tried: Vercel's AI SDK ({without_node})")
    failed = sum(not row.good for row in rows)
    print(f"{len(rows)} trials, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
