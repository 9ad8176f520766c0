"""The scenario that no quota runs out unannounced and no attempt goes unrecorded, over PostHog's own SDK."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, isclose
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.core.thresholds import REARM
from wallie_litellm.demo.findings import Findings
from wallie_litellm.demo.stage import Stage, ask
from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY, PostHogEndpoint, PostHogEvent

if TYPE_CHECKING:
    from wallie_litellm.guard.capacity_lease import CapacityLease
    from wallie_litellm.guard.router import WallieRouter
    from wallie_litellm.ledger.figures import Alert, Totals

WARNING, CRITICAL = 0.80, 0.95
# The share of the limit that calls outside the router hold. It is more than REARM: when they end, every threshold is
# armed again.
ELSEWHERE: Final = 0.15
CROSSINGS: Final = 100  # how often 95 % is crossed again
FEATURE: Final = "wallie-chat"


async def quota_alerts(stage: Stage, found: Findings, crossings: int = CROSSINGS) -> None:
    """openai is driven to 80 % and to 95 % of its requests a minute: what PostHog receives, and the ledger records."""
    with PostHogEndpoint() as posthog:
        settings = _settings(stage, posthog)
        async with stage.router(**settings) as router:
            inbox = _Inbox(stage, router, posthog)
            calls = await _hold(router, ELSEWHERE)
            asked = await _ask_up_to(router, WARNING)
            found.same(f"openai at {WARNING:.0%} of its rpm: alerts", "1 warning", await inbox.fetch())
            asked += await _ask_up_to(router, CRITICAL)
            found.same(f"openai at {CRITICAL:.0%}: alerts", "1 critical", await inbox.fetch())
            crossed = await _cross_again(router, calls, crossings)
            what = f"{CRITICAL:.0%} crossed again in that minute: times, alerts"
            found.same(what, (crossings, "none"), (crossed, await inbox.fetch()))
            used, at = float(_rpm(router)["used"]), time.monotonic()
        events = posthog.events("ai.request.completed")
        _note_events(found, events, asked)
        await _note_ledger(stage, found, settings["ledger"]["url"], _cost(events))
        async with stage.router(**settings) as router:  # restored usage may be more than what is left
            left = used - (time.monotonic() - at) * _rpm(router)["limit"] / 60
            what = "  a new router restores: openai's rpm used"
            found.within(what, float(_rpm(router)["used"]), left - 2, asked, "requests")


def _settings(stage: Stage, posthog: PostHogEndpoint) -> dict[str, Mapping[str, Any]]:
    return {
        "providers": {"openai": {"rpm": stage.config.wallie.providers["openai"].rpm}},
        "features": {FEATURE: {}},
        "quota": {"warning": WARNING, "critical": CRITICAL, "switch_at": None},
        "ledger": {"url": f"sqlite:///{stage.folder / 'wallie.db'}"},
        "telemetry": {
            "posthog": {"api_key": PROJECT_KEY, "host": posthog.url},
            "spool": str(stage.folder / "wallie-spool"),
        },
    }


class _Inbox:
    """The alerts that the endpoint has received; each is shown when it is seen first."""

    def __init__(self, stage: Stage, router: WallieRouter, posthog: PostHogEndpoint) -> None:
        self._stage = stage
        self._router = router
        self._posthog = posthog
        self._seen = 0

    async def fetch(self) -> str:
        """The alerts since the last call, counted by type, once all events are delivered."""
        await self._router.guard.flush()
        alerts = self._posthog.events("ai.quota.alert")[self._seen :]
        self._seen += len(alerts)
        for alert in alerts:
            self._stage.say(_described(alert.properties))
        return _counted(alert.properties["type"] for alert in alerts)


def _counted(levels: Iterable[Any]) -> str:
    return ", ".join(f"{count} {level}" for level, count in Counter(levels).items()) or "none"


def _described(alert: Mapping[str, Any]) -> str:
    share = alert.get("utilization")
    where = f"{alert.get('provider', 'all')} {alert['dimension']}"
    return f"      PostHog: ai.quota.alert, {alert['type']}, {where}" + (f" at {share:.1%}" if share else "")


def _rpm(router: WallieRouter) -> Mapping[str, Any]:
    use: Mapping[str, Any] = router.guard.status()["providers"]["openai"]["quota"]["rpm"]
    return use


def _missing(router: WallieRouter, share: float) -> int:
    """How many requests more would bring openai to ``share`` of its rpm; 0 or less when it is there."""
    rpm = _rpm(router)
    missing: float = share * rpm["limit"] - rpm["used"]
    return ceil(missing)


async def _ask_up_to(router: WallieRouter, share: float) -> int:
    """Ask until ``share`` of openai's rpm is used, which refills meanwhile; returns how many requests that took."""
    asked = 0
    while (missing := _missing(router, share)) > 0:
        await asyncio.gather(*(ask(router, "gpt-4o-mini", feature=FEATURE) for _ in range(missing)))
        asked += missing
    return asked


async def _hold(router: WallieRouter, share: float) -> list[CapacityLease]:
    """Begin calls outside the router until ``share`` of openai's rpm is used."""
    calls: list[CapacityLease] = []
    while _missing(router, share) > 0:
        calls += [await router.guard.wait_for_capacity("openai") for _ in range(_missing(router, share))]
    return calls


async def _cross_again(router: WallieRouter, calls: Sequence[CapacityLease], times: int) -> int:
    """Give the capacity of ``calls`` back and take it again, so many times; returns how often that was a crossing."""
    crossed = 0
    for _ in range(times):
        for call in calls:
            call.release()
        below = _rpm(router)["utilization"] < CRITICAL - REARM
        calls = await _hold(router, CRITICAL)
        crossed += below
    for call in calls:
        call.release()
    return crossed


def _cost(events: Sequence[PostHogEvent]) -> float:
    return float(sum(event.properties.get("costUsd") or 0.0 for event in events))


def _note_events(found: Findings, events: Sequence[PostHogEvent], asked: int) -> None:
    requests = {event.properties["requestId"] for event in events}
    found.same("ai.request.completed: events, requests", (asked, asked), (len(events), len(requests)))
    complete = [
        event for event in events if event.properties["feature"] == FEATURE and (event.properties["costUsd"] or 0.0) > 0
    ]
    found.same("  with their feature and cost", asked, len(complete))


async def _note_ledger(stage: Stage, found: Findings, url: str, sent: float) -> None:
    """The ledger against the counts of the providers, and against the events at PostHog."""
    totals, alerts = await _read_ledger(url)
    answered = sum(stage.providers[name].counts().succeeded for name in stage.providers)
    found.same("the ledger: attempts, as the providers answered", answered, totals.attempts)
    cost = totals.cost_usd or 0.0
    found.note("  cost, as at PostHog", f"${sent:.6f}", f"${cost:.6f}", cost > 0 and isclose(cost, sent))
    found.same("  alerts", "1 warning, 1 critical", _counted(alert.level for alert in reversed(alerts)))


async def _read_ledger(url: str) -> tuple[Totals, list[Alert]]:
    from wallie_litellm.ledger.queries import LedgerQueries
    from wallie_litellm.ledger.reader import open_reader

    async with open_reader(url) as engine:
        queries = LedgerQueries(engine)
        (totals,) = await queries.totals(time.time() - 3600, percentiles=False)
        return totals, await queries.alerts()
