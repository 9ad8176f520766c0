"""Takes docs/dashboard.png: the dashboard of a real guard over a ledger with a made-up week. ``make screenshot``."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser_support import open_browser
from dashboard_support import served
from ledger_support import ended, settled

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.limit_headers import VOCABULARIES
from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.events import (
    BreakerChanged,
    Event,
    FellBack,
    HealthChanged,
    OperatorActed,
    QuotaCrossed,
    new_id,
)
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import record_of
from wallie_litellm.limiter.store import Reservation

WEEK = 7 * 86_400
ATTEMPTS = 6_000
OUTAGE = 480.0  # seconds that one provider has been down
ONE = Demand(1, 1, 1, 0)
DEPLOYMENTS = (
    *(("openai", "gpt-4o-mini", 0.0009),) * 5,
    *(("anthropic", "claude-sonnet-4", 0.0080),) * 2,
    *(("gemini", "gemini-2.0-flash", 0.0006),) * 2,
    ("groq", "llama-3.1-8b", 0.0001),
    ("deepseek", "deepseek-chat", 0.0004),
)


def a_week(now: float) -> Iterator[Event]:
    chance = random.Random(7)
    for _ in range(ATTEMPTS):
        provider, model, cost = chance.choice(DEPLOYMENTS)
        at = now - chance.random() ** 1.3 * WEEK
        at = min(at, now - OUTAGE) if provider == "groq" else at
        well = chance.random() > (0.2 if provider == "groq" and now - at < 5_000 else 0.006)
        one = settled(
            at=at,
            provider=provider,
            model=model,
            deployment=f"{provider}/{model}",
            success=well,
            outcome="success" if well else "server_error",
            error=None if well else "HTTP 503",
            status_code=200 if well else 503,
            latency_ms=chance.lognormvariate(6.4, 0.45),
            waited_ms=chance.random() ** 8 * 900,
            first_token_ms=chance.lognormvariate(5.6, 0.4) if well else None,
            total_tokens=chance.randrange(200, 1_900) if well else 0,
            cost_usd=cost * (0.5 + chance.random()) if well else 0.0,
            feature=chance.choice(("wallie-chat", "wallie-chat", "email-draft", "summaries")),
            unpriced=False,
        )
        yield one
        yield ended(one, success=well or chance.random() < 0.9, used_fallback=well and chance.random() < 0.03)
    yield QuotaCrossed(new_id(now - 900), now - 900, "openai", "rpd", "warning", 0.8, 400, 500, 40_000.0)
    yield QuotaCrossed(new_id(now - 5_400), now - 5_400, "anthropic", "tpm", "warning", 0.83, 83_000, 100_000, 41.0)
    for age, before, after in ((OUTAGE + 4, "healthy", "degraded"), (OUTAGE, "degraded", "down")):
        yield HealthChanged(new_id(now - age), now - age, "groq", before, after, "HTTP 503")
    yield BreakerChanged(new_id(now - OUTAGE), now - OUTAGE, "groq", "closed", "open", "HTTP 503", 30.0)
    for age in range(int(OUTAGE) - 2, 1, -3):
        yield from served_elsewhere(now - age, chance)
    actor = "maria (page, 10.0.0.7)"
    yield OperatorActed(new_id(now - 7_200), now - 7_200, actor, "reset_quota", "gemini", "larger plan since today")


def served_elsewhere(at: float, chance: random.Random) -> Iterator[Event]:
    """During the outage: a request that a fallback answers, or not, and two others."""
    why = "groq's circuit is open"
    yield FellBack(new_id(at), at, "r", "llama-3.1-8b", "gpt-4o-mini", "groq", why, None, None)
    for number, (provider, model, cost) in enumerate((DEPLOYMENTS[0], *chance.choices(DEPLOYMENTS[:9], k=2))):
        well = chance.random() > 0.02
        one = settled(
            at=at + chance.random(),
            provider=provider,
            model=model,
            deployment=f"{provider}/{model}",
            success=well,
            outcome="success" if well else "timeout",
            error=None if well else "timeout",
            status_code=200 if well else None,
            latency_ms=chance.lognormvariate(6.4, 0.45),
            total_tokens=700 if well else 0,
            cost_usd=cost if well else 0.0,
            feature="wallie-chat",
        )
        yield one
        yield ended(one, used_fallback=well and not number)


async def write(url: str, events: list[Event]) -> None:
    engine = open_engine(url)
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
        await connection.run_sync(insert_records, [record_of(event, "web-1:4711") for event in events])
    await engine.dispose()


def main(into: Path) -> None:
    socket.gethostname = lambda: "web-1"  # the machine that takes the picture is no part of it
    with tempfile.TemporaryDirectory() as place:
        url = f"sqlite:///{place}/wallie.db"
        asyncio.run(write(url, list(a_week(time.time()))))
        limits = {
            "openai": {"rpm": 500, "tpm": 150_000, "rpd": 500},
            "anthropic": {"rpm": 1_000, "tpm": 100_000, "models": {"claude-opus-4*": {"rpm": 50, "itpm": 30_000}}},
        }
        installation = {"name": "Production EU"}
        settings = {
            "dashboard": installation,
            "ledger": {"url": url},
            "kpis": {"monthly_cost": 60},
            "providers": limits,
        }
        guard = Guard(WallieConfig.model_validate(settings))
        for provider, model, _ in DEPLOYMENTS:
            guard.meet(provider, provider, True, f"{provider}|{model}", model)
        guard.meet("anthropic", "anthropic", True, "anthropic|claude-opus-4-1", "claude-opus-4")
        told = (Sighting("rpm", 50), Sighting("itpm", 20_000))
        learning = guard.vendor_limits.of("anthropic")
        opus = learning.model("claude-opus-4-1", "claude-opus-4*", "anthropic", VOCABULARIES["anthropic"])
        assert opus is not None
        opus.note(told, "headers")
        guard.update_usage("openai", 480, 61_000)
        guard.reset_quota("gemini")
        guard.update_usage("gemini", 310, 42_000)
        guard.update_usage("anthropic", 120, 84_000)
        for _ in range(5):
            reservation = guard.limiter("groq").reserve(ONE)
            assert isinstance(reservation, Reservation)
            guard.limiter("groq").settle(reservation, ONE, Verdict.FAILURE, reason="HTTP 503")
        with served(guard) as address, open_browser() as browser:
            page = browser.new_page(viewport={"width": 1400, "height": 900}, locale="en-GB")
            page.goto(f"{address}?range=7d")
            page.wait_for_timeout(1_500)
            page.screenshot(path=into, full_page=True)
            page.close()
        guard.close()
    print(into)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "dashboard.png")
