"""Scenarios for tests of the demo, and the child processes of a process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from wallie_litellm.demo.findings import Findings, Scenario
from wallie_litellm.demo.stage import Stage, ask


def scenario(run: Any, **more: Any) -> Scenario:
    return Scenario(run.__name__, "a story", run, **more)


async def finds_two(stage: Stage, found: Findings) -> None:
    async with stage.router() as router:
        found.same("served by", "openai", (await ask(router, "gpt-4o-mini")).provider)
    found.within("a wait", 1.0, 0.5, 1.5)


async def finds_a_difference(stage: Stage, found: Findings) -> None:
    found.same("this is right", 1, 1)
    found.same("this is wrong", "expected-value", "seen-value")


def children_of(pid: int) -> list[int]:
    """The processes started by any thread of ``pid``."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def runs(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False
