"""Every Python block of the documentation runs against simulated providers; the tutorial's have a test of their own."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import logging
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support import shipped_config
from test_pages import Block, blocks, commands

from wallie_litellm import build_router, execute_ai_request, stream_ai_request
from wallie_litellm.cli import main
from wallie_litellm.simulator.providers import SimulatedProviders

ROOT = Path(__file__).parents[2]

# What stands around each block, by its page and what it has in it: what it takes for granted, and what it is for.
AROUND = {
    ("README.md", "execute_ai_request"): ("", ""),
    ("clients.md", "openai.OpenAI"): ("", "ask(client)"),
    ("clients.md", "anthropic.Anthropic"): (
        "",
        "assert client.messages.create(model='claude-sonnet-4-5', max_tokens=9, messages=messages).content",
    ),
    ("clients.md", "ChatOpenAI"): ("", "assert chat.invoke('Hi!').content"),
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
    ("recipes.md", "ChatLiteLLMRouter"): ("", "assert chat.invoke('Hi!').content"),
    ("recipes.md", "Celery"): (
        "",
        "worker_process_init.send(None)\nassert report('much')\nworker_process_shutdown.send(None)",
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
NOT_INSTALLED = {  # packages that are no part of the suite; `make sdk-trials` has those of LangChain and Anthropic
    name
    for name in ("anthropic", "langchain_openai", "langchain_litellm", "celery")
    if not importlib.util.find_spec(name)
}


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


@pytest.mark.parametrize("block", [one for one in blocks("python") if one.page.name not in ELSEWHERE], ids=str)
def test_a_block_runs(block: Block, names: dict[str, Any], running_fleet: SimulatedProviders) -> None:
    imported = {
        (getattr(node, "module", None) or node.names[0].name).partition(".")[0]
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    if missing := imported & NOT_INSTALLED:
        pytest.skip(f"{', '.join(missing)} is not installed")
    running_fleet.restore()
    before, after = map(textwrap.dedent, around(block))
    text = f"{before}\n{block.text}\n{after}"
    for address, vendor in (("http://127.0.0.1:4000/v1", "openai"), ("http://127.0.0.1:4000", "anthropic")):
        text = text.replace(f'"{address}"', repr(running_fleet[vendor].api_base))
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


def test_every_row_is_a_block_of_the_documentation() -> None:
    texts = {(block.page.name, mark) for block in blocks("python") for _, mark in AROUND if mark in block.text}
    assert texts >= AROUND.keys()


def test_the_starters_callback_is_the_one_that_the_documentation_shows() -> None:
    (block,) = (block for block in blocks("python") if block.page.name == "getting-started.md")
    assert block.text == (ROOT / "callbacks" / "wallie.py").read_text()
