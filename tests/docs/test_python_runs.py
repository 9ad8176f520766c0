"""The Python blocks of the documentation run against simulated providers.

The tutorial's have a test of their own; those that need another package are run by ``make sdk-trials``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from dashboard_support import served
from support import shipped_config
from test_pages import Block, blocks, commands

from examples.sdk_trials.docs_blocks import PACKAGES, imported
from wallie_litellm import build_router, execute_ai_request, execute_ai_request_sync, stream_ai_request
from wallie_litellm.cli import main
from wallie_litellm.simulator.providers import SimulatedProviders

ROOT = Path(__file__).parents[2]

# What stands around each block, by its page and what it has in it: what it takes for granted, and what it is for.
AROUND = {
    ("README.md", "execute_ai_request"): ("", ""),
    ("clients.md", "openai.OpenAI"): ("", "ask(client)"),
    ("dashboard.md", "dashboard_app"): (
        "from fastapi import FastAPI\nfrom starlette.testclient import TestClient\napp = FastAPI()",
        """
        client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))
        assert "panel-health" in client.get("/wallie/").text
        service.close()
        """,
    ),
    ("from-litellm.md", "WallieRouter"): (
        "model_list = load_model_list()",
        "assert await router.acompletion(model='gpt-4o', messages=messages)\nawait router.guard.aclose()",
    ),
    ("ledger.md", "LedgerQueries"): (
        "",
        "await execute_ai_request(router, 'gpt-4o-mini', messages)\nawait router.guard.flush()\nawait look()",
    ),
    ("library.md", "estimated_tokens=None"): ("", "assert result.text and result.provider == 'openai'"),
    ("library.md", "stream_ai_request"): ("", "assert stream.result.text"),
    ("library.md", "async def call(target)"): (
        """
        class Sdk:
            async def ask(self, model):
                return {"model": model}

        def my_sdk(provider):
            return Sdk()
        """,
        "assert result.data['model'] and result.provider == 'openai'",
    ),
    ("library.md", "wait_for_capacity"): (
        """
        async def my_call():
            return await router.acompletion(model="gpt-4o-mini", messages=messages)
        """,
        "assert router.guard.status()['providers']['openai']['in_flight'] == 0",
    ),
    ("recipes.md", "FastAPI"): (
        "from starlette.testclient import TestClient",
        """
        with TestClient(app) as client:
            answer = client.post("/summaries", params={"text": "much"}).json()
        assert answer["summary"] and answer["cost"] > 0
        """,
    ),
    ("recipes.md", "OpenAI("): ("", "ask(client)"),
    ("reload.md", "router.reload"): ("", "assert done.changed == []"),
    ("telemetry.md", "is_genuine"): (
        "from wallie_litellm.telemetry.sinks.webhook_messages import headers_of",
        """
        key, body = bytes(24), b"{}"
        headers, secret = headers_of("msg_1", time.time(), body, key), f"whsec_{base64.b64encode(key).decode()}"
        assert is_genuine(headers, body, secret)
        assert not is_genuine(headers, body + b" ", secret)
        """,
    ),
    ("telemetry.md", "def metrics"): ("", "assert b'wallie_' in metrics(router)[0]"),
    ("telemetry.md", "QuotaPrinter"): ("", "watch(router)\nassert await router.guard.flush()"),
}
ELSEWHERE = {
    "getting-started.md": "callbacks/wallie.py, which every proxy of tests/proxy runs",
    "tutorial.md": "tests/docs/test_pages.py runs them as programs, and compares what they print",
}


def is_played_here(block: Block) -> bool:
    """Whether the block is none that needs a package which the suite has not; `make sdk-trials` runs those."""
    return block.page.name not in ELSEWHERE and not imported(block.text) & PACKAGES.keys()


def around(block: Block) -> tuple[str, str]:
    (found,) = [
        parts for (page, mark), parts in AROUND.items() if block.page.name == page and mark in block.text
    ] or pytest.fail(f"{block} is not run: give it a row in AROUND")
    return found


@pytest.fixture(scope="module")
def names(running_fleet: SimulatedProviders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What blocks take for granted: a router and messages, in a folder with a file that names the providers."""
    folder = tmp_path_factory.mktemp("application")
    data = shipped_config()
    data["model_list"] = running_fleet.point(data["model_list"])
    data["wallie"] |= {"telemetry": {"prometheus": {}}, "ledger": {"url": "sqlite:///wallie.db"}}
    data["wallie"]["kpis"] = {"p95_latency": "10m"}  # `kpis` exits with 1 where a busy machine misses a target
    (folder / "router_config.yaml").write_text(yaml.safe_dump(data))
    messages = [{"role": "user", "content": "Hi!"}]

    def ask(client: Any) -> None:
        assert client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)
        router = build_router("router_config.yaml")
        yield {
            "router": router,
            "messages": messages,
            "ask": ask,
            "load_model_list": lambda: data["model_list"],
            "execute_ai_request": execute_ai_request,
            "stream_ai_request": stream_ai_request,
        }
        router.guard.close()


@pytest.mark.parametrize("block", list(filter(is_played_here, blocks("python"))), ids=str)
def test_a_block_runs(block: Block, names: dict[str, Any], running_fleet: SimulatedProviders) -> None:
    running_fleet.restore()
    before, after = map(textwrap.dedent, around(block))
    text = f"{before}\n{block.text}\n{after}"
    text = text.replace('"http://127.0.0.1:4000/v1"', repr(running_fleet["openai"].api_base))
    code = compile(text, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(code, dict(names))  # noqa: S307
    if inspect.iscoroutine(waiting):
        asyncio.run(waiting)


OFFLINE = ("check", "export", "kpis", "forecast", "experiments")  # what needs the file and its ledger alone


def offline_commands() -> set[str]:
    """Commands of pages but the playbook's, which tests/lifecycle runs against the faults that they are for."""
    found = {line for page, line in commands() if page.name != "playbook.md" and "[" not in line}
    return {line for line in found if line.split()[1] in OFFLINE and "--url" not in line and "DIR" not in line}


@pytest.mark.parametrize("line", sorted(offline_commands()))
def test_a_command_runs_over_the_file_and_its_ledger(line: str, names: dict[str, Any]) -> None:
    done = CliRunner().invoke(main, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output


SERVED = "http://127.0.0.1:4000"  # where the pages have a proxy
REQUEST = re.compile(r"[0-9a-f]{12}-[0-9a-f]{10}-[0-9a-f]{6}")  # the ID of one, as a page shows it
NOT_RUN = {  # commands that are not run here, and what has them
    "init": "tests/cli/test_cli_init.py",
    "dashboard": "serves until it is stopped: tests/dashboard/test_serving.py",
    "proxy": "serves until it is stopped: tests/proxy/test_starting.py",
    "rehearse": "plays for half a minute: tests/rehearse, for a shorter time",
}


def served_commands() -> list[str]:
    """Commands that ask a server, in the order of their page."""
    found = [(page, line) for page, line in commands() if page.name != "playbook.md"]
    return [line for page, line in found if SERVED in line or (page.name == "dashboard.md" and "circuit" in line)]


def test_the_commands_run_against_a_server(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    router = names["router"]
    made = execute_ai_request_sync(router, "gpt-4o-mini", names["messages"])
    with served(router.guard) as address:
        monkeypatch.setenv("WALLIE_URL", address)
        for line in served_commands():
            asked = REQUEST.sub(made.request_id, line.replace(SERVED, address))
            done = CliRunner().invoke(main, shlex.split(asked)[1:])
            assert done.exit_code == 0, f"{line}: {done.output}"
    router.guard.close_circuit("openai")


def test_every_command_is_run_or_it_is_said_what_has_it() -> None:
    run = {*offline_commands(), *served_commands()}
    rest = {line.split()[1] for page, line in commands() if page.name != "playbook.md" and line not in run}
    assert {name for name in rest if not name.isupper() and name != "..."} == NOT_RUN.keys()


def test_every_row_is_a_block_of_the_documentation() -> None:
    texts = {(block.page.name, mark) for block in blocks("python") for _, mark in AROUND if mark in block.text}
    assert texts >= AROUND.keys()


def test_the_starters_callback_is_the_one_that_the_documentation_shows() -> None:
    (block,) = (block for block in blocks("python") if block.page.name == "getting-started.md")
    assert block.text == (ROOT / "callbacks" / "wallie.py").read_text()
