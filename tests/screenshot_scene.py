"""The page that docs/dashboard.png shows, and its outline: the dashboard of a real guard over a made-up week.

Time stands still in it, at a fixed hour of a fixed day, so that the page is the same whenever it is opened.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

from dashboard_support import served
from fake_clock import FakeClock
from ledger_support import ended, settled
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import create_engine

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.limit_headers import VOCABULARIES
from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.dashboard.service import DashboardService
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
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import record_of
from wallie_litellm.limiter.store import Reservation

NOW: Final = 1_795_876_011.0  # Saturday, 28 November 2026, 14:26:51 UTC
WEEK: Final = 7 * 86_400  # seconds
ATTEMPTS: Final = 6_000
WIDTH: Final = 1400  # pixels of the page, and of its picture
OUTAGE: Final = 480.0  # seconds that one provider has been down
ONE: Final = Demand(1, 1, 1, 0)
DEPLOYMENTS: Final = (
    *(("openai", "gpt-4o-mini", 0.0009),) * 5,
    *(("anthropic", "claude-sonnet-4", 0.0080),) * 2,
    *(("gemini", "gemini-2.0-flash", 0.0006),) * 2,
    ("groq", "llama-3.1-8b", 0.0001),
    ("deepseek", "deepseek-chat", 0.0004),
)

# What the accessibility tree lacks: where panels are, in twelfths of the width, and the colours that mean something.
DRAWN: Final = """() => {
  const main = document.querySelector("main").getBoundingClientRect();
  const twelfths = x => Math.round((x - main.left) / main.width * 12);
  const style = (node, name) => getComputedStyle(node)[name];
  const words = node => node.textContent.replace(/\\s+/g, " ").replace(/(?<![A-Za-z\\d])\\d[\\d,.:]*/g, "0").trim();
  const lines = [`page ${style(document.body, "backgroundColor")} ${style(document.body, "color")}`];
  for (const panel of document.querySelectorAll("main section")) {
    const box = panel.getBoundingClientRect(), title = panel.querySelector("h2");
    lines.push(`panel ${title ? words(title) : ""} from ${twelfths(box.left)} to ${twelfths(box.right)}`);
  }
  for (const one of document.querySelectorAll(".legend li")) {
    lines.push(`legend ${words(one)} ${style(one.querySelector("svg *"), "fill")}`);
  }
  for (const one of document.querySelectorAll(".badge")) {
    lines.push(`badge ${words(one)} ${style(one, "backgroundColor")}`);
  }
  for (const one of document.querySelectorAll(".plot > .mark")) lines.push(`mark ${one.classList}`);
  return lines;
}"""


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


def write(url: str, events: Iterator[Event]) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection)
        insert_records(connection, [record_of(event, "web-1:4711") for event in events])
    engine.dispose()


def a_guard(url: str) -> Guard:
    """A guard with one provider down, one near its limit, one whose vendor has told its limits; the rest at ease."""
    settings = {
        "dashboard": {"name": "Production EU"},
        "ledger": {"url": url},
        "kpis": {"monthly_cost": 60},
        "providers": {
            "openai": {"rpm": 500, "tpm": 150_000, "rpd": 500},
            "anthropic": {"rpm": 1_000, "tpm": 100_000, "models": {"claude-opus-4*": {"rpm": 50, "itpm": 30_000}}},
        },
    }
    guard = Guard(WallieConfig.model_validate(settings), clock=FakeClock(wall=NOW))
    for provider, model, _ in DEPLOYMENTS:
        guard.meet(provider, provider, True, f"{provider}|{model}", model)
    guard.meet("anthropic", "anthropic", True, "anthropic|claude-opus-4-1", "claude-opus-4")
    learning = guard.vendor_limits.of("anthropic")
    opus = learning.model("claude-opus-4-1", "claude-opus-4*", "anthropic", VOCABULARIES["anthropic"])
    assert opus is not None
    opus.note((Sighting("rpm", 50), Sighting("itpm", 20_000)), "headers")
    guard.update_usage("openai", 480, 61_000)
    guard.reset_quota("gemini")
    guard.update_usage("gemini", 310, 42_000)
    guard.update_usage("anthropic", 120, 84_000)
    for _ in range(5):
        reservation = guard.limiter("groq").reserve(ONE)
        assert isinstance(reservation, Reservation)
        guard.limiter("groq").settle(reservation, ONE, Verdict.FAILURE, reason="HTTP 503")
    return guard


@contextmanager
def dashboard_page(browser: Browser) -> Iterator[Page]:
    """The page, opened and complete."""
    with (
        tempfile.TemporaryDirectory() as place,
        patch("time.time", lambda: NOW),
        patch.dict(DashboardService.__init__.__kwdefaults__, now=lambda: NOW),
        patch("socket.gethostname", lambda: "web-1"),  # the machine that takes the picture is no part of it
    ):
        url = f"sqlite:///{place}/wallie.db"
        write(url, a_week(NOW))
        guard = a_guard(url)
        with served(guard) as address:
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, locale="en-GB", timezone_id="UTC")
            page.goto(f"{address}?range=7d")
            expect(page.locator("#live")).to_have_attribute("data-state", "on", timeout=30_000)
            yield page
            page.close()
        guard.close()


def outline(page: Page) -> str:
    """What is on a page, in lines: roles and names of the accessibility tree, places, colours; each figure is a 0."""
    tree = [line for line in page.locator("body").aria_snapshot().splitlines() if "- /url:" not in line]
    return re.sub(r"(?<![A-Za-z\d])\d[\d,.:]*", "0", "\n".join(tree)) + "\n" + "\n".join(page.evaluate(DRAWN)) + "\n"
