"""A process continues from the usage of the last one, however soon it starts."""

from __future__ import annotations

from datetime import UTC, datetime

from ledger_support import assert_sums_are_right

SCRIPT = """
import asyncio
from wallie_litellm import Refused, build_router

router = build_router("router_config.yaml")

async def ask():
    try:
        await router.acompletion("gpt-4o-mini", [{{"role": "user", "content": "Hello there"}}])
    except Refused:
        pass

async def main():
    await asyncio.gather(*(ask() for _ in range({requests})))

asyncio.run(main())
{afterwards}
"""


def noon_zone():
    """A time zone in which it is about noon: the day must not end in the middle of a test."""
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "UTC"


def run(home, requests, afterwards=""):
    assert home.run(SCRIPT.format(requests=requests, afterwards=afterwards)) == 0, home.output


def limit_to(home, fleet, **limits):
    home.configure(fleet, providers={"openai": limits}, admission={"max_wait": "1ms"}, breaker={"failures": 10_000})


def test_a_restart_in_mid_minute_keeps_the_limits(home, fleet):
    limit_to(home, fleet, rpm=60)
    run(home, 40)
    run(home, 60)
    admitted = [row["at"] - row["latency_ms"] / 1000 for row in home.ledger.select("wallie_attempts")]
    # A bucket of 60 that one a second flows into.
    assert 59 <= len(admitted) <= 60 + max(admitted) - min(admitted) + 0.1
    assert fleet["openai"].counts().received == len(admitted)


def test_a_restart_in_mid_day_keeps_the_limits(home, fleet):
    limit_to(home, fleet, rpd=30, reset_timezone=noon_zone())
    run(home, 20)
    run(home, 30)
    assert fleet["openai"].counts().received == 30


def test_a_quota_that_an_operator_reset_stays_reset(home, fleet):
    limit_to(home, fleet, rpd=30, reset_timezone=noon_zone())
    run(home, 20, 'router.guard.reset_quota("openai", actor="test")')
    run(home, 40)
    assert fleet["openai"].counts().received == 20 + 30
    (action,) = home.ledger.select("wallie_actions")
    assert (action["actor"], action["action"], action["provider"]) == ("test", "reset_quota", "openai")


def test_two_processes_write_one_file_at_once(home, fleet):
    script = SCRIPT.format(requests=60, afterwards="")
    home.configure(fleet, providers={})
    for process in [home.start(script), home.start(script)]:
        assert process.wait() == 0, home.output
    attempts, requests = home.ledger.select("wallie_attempts"), home.ledger.select("wallie_requests")
    assert len(attempts) == len(requests) == 120 == fleet["openai"].counts().received
    assert len({row["worker"] for row in attempts}) == 2
    assert {row["request_id"] for row in attempts} == {row["request_id"] for row in requests}
    assert_sums_are_right(home.ledger.url)
