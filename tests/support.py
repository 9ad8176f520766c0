"""Shared by several test files: data, requests, and the checks that hold after every run."""

from __future__ import annotations

import asyncio
import copy
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from fake_clock import FakeClock

    from wallie_litellm.guard.router import WallieRouter

EVENTUALLY = 90.0  # seconds in which a busy machine comes to everything
SHIPPED = Path(__file__).parent.parent / "router_config.yaml"


def shipped_config() -> dict[str, Any]:
    """The shipped router_config.yaml as plain data, without a ledger; the caller may change it."""
    return copy.deepcopy(_shipped_config())


@functools.cache
def _shipped_config() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    data["wallie"]["ledger"] = None
    return data


def messages(text: str = "Hello there, how are you?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def quota(router: WallieRouter, provider: str, dimension: str) -> dict[str, Any]:
    found: dict[str, Any] = router.guard.status()["providers"][provider]["quota"][dimension]
    return found


def assert_nothing_leaked(router: WallieRouter) -> None:
    """No attempt is in flight, no request waits, and the accounting of every dimension balances."""
    for name, provider in router.guard.status()["providers"].items():
        assert (provider["in_flight"], provider["waiting"]) == (0, 0), name
        for dimension, used in provider["quota"].items():
            assert used["reserved"] == used["settled"] + used["refunded"], (name, dimension, used)


def wait_until(condition: Callable[[], bool], seconds: float = EVENTUALLY) -> None:
    """:func:`until` for a test without an event loop."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.01)


def pass_time(clock: FakeClock, seconds: float, until: Callable[[], bool]) -> None:
    """Let ``seconds`` pass, and what is due by then happen, however late a sink's thread arms its timer."""
    clock.advance(seconds)

    def happened() -> bool:
        clock.advance(0)
        return until()

    wait_until(happened)


async def early_in_a_minute(seconds: float = 5.0) -> None:
    """Return when at least ``seconds`` of the present minute are left: LiteLLM counts its own limits by the clock."""
    left = 60 - time.time() % 60
    if left < seconds:
        await asyncio.sleep(left + 0.1)


async def until(condition: Callable[[], bool], seconds: float = EVENTUALLY) -> None:
    """Let the loop run until ``condition`` holds; fail when it does not within ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        await asyncio.sleep(0.002)
