"""A script that ends right after its last request, in any way, has its records in the ledger."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from ledger_support import assert_sums_are_right

BEGINNING = """
import asyncio, os, signal, sys, time
from wallie_litellm import build_router, execute_ai_request_sync, stream_ai_request

MESSAGES = [{"role": "user", "content": "Hello there"}]
ASKED = {"model": "gpt-4o-mini", "messages": MESSAGES, "metadata": {"user_id": "u1"}}
router = build_router("router_config.yaml")

async def interrupted():
    await router.acompletion(**ASKED)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(20)

async def read_a_stream():
    async for _ in await router.acompletion(stream=True, **ASKED):
        pass

async def leave_a_stream():
    async for _ in await router.acompletion(stream=True, **ASKED):
        break

async def leave_a_call():
    task = asyncio.create_task(router.acompletion(**ASKED))
    await asyncio.sleep(0.5)
"""

# CPython forgets that it was interrupted where LiteLLM imports modules at the exit: then it is the status of any error.
INTERRUPTED = (-signal.SIGINT, 1)
ENDS = {
    "sync": ("router.completion(**ASKED)", 0),
    "helper": ("execute_ai_request_sync(router, ASKED['model'], ASKED['messages'], user_id='u1')", 0),
    "exit": ("asyncio.run(router.acompletion(**ASKED)); sys.exit(3)", 3),
    "exception": ("asyncio.run(router.acompletion(**ASKED)); raise RuntimeError('of its own')", 1),
    "interrupt": ("router.completion(**ASKED); os.kill(os.getpid(), signal.SIGINT); time.sleep(20)", INTERRUPTED),
    "interrupt in the loop": ("asyncio.run(interrupted())", INTERRUPTED),
    "stream": ("asyncio.run(read_a_stream())", 0),
}


def check(home, outcome="success"):
    (attempt,) = home.ledger.select("wallie_attempts")
    (request,) = home.ledger.select("wallie_requests")
    assert (attempt["outcome"], attempt["provider"], attempt["user_id"]) == (outcome, "openai", "u1")
    assert attempt["total_tokens"] > 0
    assert (request["request_id"], request["success"]) == (attempt["request_id"], outcome == "success")
    assert_sums_are_right(home.ledger.url)
    assert not (home.folder / "wallie-spool").exists(), "records wait for another process"


def test_a_script_that_ends_after_its_call_leaves_its_records(home):
    script = home.folder / "script.py"
    script.write_text(f"{BEGINNING}\nasyncio.run(router.acompletion(**ASKED))\n")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=home.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    check(home)


@pytest.mark.parametrize("end", ENDS)
def test_a_script_that_ends_otherwise_leaves_its_records(home, end):
    code, status = ENDS[end]
    assert home.run(f"{BEGINNING}\n{code}") in (status if isinstance(status, tuple) else (status,)), home.output
    check(home)


@pytest.mark.parametrize("code", ["asyncio.run(leave_a_stream())", "asyncio.run(leave_a_call())"])
def test_a_stream_that_a_script_leaves_unfinished_is_recorded_as_cut(home, fleet, code):
    fleet["openai"].hang(after_chunks=2)
    if "stream" not in code:
        fleet["openai"].hang()
    assert home.run(f"{BEGINNING}\n{code}") == 0, home.output
    check(home, "cut")
