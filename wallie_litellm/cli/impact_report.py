"""The sentence of whether callers are hurt where no process is asked: from Redis, and from the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wallie_litellm.config import RouterConfig
    from wallie_litellm.dashboard.recent_traffic import RecentTraffic
    from wallie_litellm.dashboard.view_model import ModelState, Provider
    from wallie_litellm.ledger.figures import Transition

_TIMEOUT: Final = 5.0  # seconds for the ledger to be read
_CHANGES: Final = 500  # the latest of breakers and health, of which each provider's last is its state
_SHUT: Final = ("open", "forced_open")
_ILL: Final = ("down", "degraded")


def add_sentence(report: dict[str, Any], loaded: RouterConfig) -> str:
    """Add it to a report as a server's ``api/summary`` has it, empty where nothing is known; returns it too."""
    from wallie_litellm.dashboard.formats import Formats
    from wallie_litellm.dashboard.impact import assess_impact, sentence
    from wallie_litellm.dashboard.translations import translator

    shared, now = report["store"]["scope"] == "redis", time.time()
    recent, changes, missing = _from_ledger(loaded, now)
    said = ""
    if shared or recent is not None:
        found = _in_redis(report, changes) if shared else _on_record(loaded, recent, changes)
        formats = Formats("en", loaded.wallie.dashboard.timezone or "UTC")
        impact = assess_impact(found, (), changes, recent)
        said = sentence(impact, translator("en"), formats.number, lambda at: formats.minute(at, now))
        said = f"{said} {missing}".rstrip() if shared else f"As last recorded: {said}"
    report["summary"] = {"sentence": said}
    return said


def _from_ledger(loaded: RouterConfig, now: float) -> tuple[RecentTraffic | None, Sequence[Transition], str]:
    """The last minutes and changes on record; or what is not known for want of them, in one sentence."""
    from wallie_litellm.ledger.engine import missing_file

    ledger = loaded.wallie.ledger
    if ledger is None or missing_file(ledger.url):
        return None, (), "What became of requests is not known: there is no ledger."
    try:
        return *asyncio.run(asyncio.wait_for(_read(ledger.url, now), _TIMEOUT)), ""
    except Exception:  # noqa: BLE001 - of any database: the figures of usage say which, and the rest is shown
        return None, (), "What became of requests is not known: the ledger cannot be read."


async def _read(url: str, now: float) -> tuple[RecentTraffic, Sequence[Transition]]:
    from wallie_litellm.dashboard.recent_queries import gather_recent_traffic
    from wallie_litellm.ledger.queries import LedgerQueries
    from wallie_litellm.ledger.reader import open_reader

    async with open_reader(url) as engine:
        queries = LedgerQueries(engine)
        return await gather_recent_traffic(queries, now), await queries.changes(0.0, limit=_CHANGES)


def _in_redis(report: Mapping[str, Any], changes: Sequence[Transition]) -> list[Provider]:
    """The providers with their breakers and pauses as the fleet has them.

    Whether one is down with all of its models is what its workers have put on record.
    """
    from wallie_litellm.dashboard.view_model import recorded_only

    found = []
    for name, state in report["providers"].items():
        breaker = state["breaker"]["state"] or ""
        models = [_model(model, own) for model, own in state.get("models", {}).items() if "breaker" in own]
        health = "healthy"
        if breaker in _SHUT:
            health = "down"
        elif models or breaker == "half_open":
            recorded = _last(name, "health", changes)
            health, breaker = (recorded if recorded in _ILL else "degraded"), breaker or "closed"
        one = replace(recorded_only(name), health=health, breaker=breaker, models=models)
        found.append(replace(one, paused_for=state["paused_for"]))
    return found


def _model(name: str, own: Mapping[str, Any]) -> ModelState:
    from wallie_litellm.dashboard.view_model import ModelState

    breaker = own["breaker"]
    health = "down" if breaker["state"] in _SHUT else "degraded"
    return ModelState(name, health, breaker["state"], breaker["reason"], None, own["paused_for"], None, ())


def _on_record(loaded: RouterConfig, recent: RecentTraffic | None, changes: Sequence[Transition]) -> list[Provider]:
    """The file's providers, and those called lately, as they last changed; degraded where all calls lately failed."""
    from wallie_litellm.config.used_providers import used_providers
    from wallie_litellm.dashboard.view_model import recorded_only

    called = {} if recent is None else recent.by_provider
    names = {one.provider for one in used_providers(loaded)}.union(called)
    found = []
    for name in sorted(names - {""}):
        health = _last(name, "health", changes) or "healthy"
        own = called.get(name)
        if health == "healthy" and own is not None and own.attempts > own.by_caller and not own.successes:
            health = "degraded"
        breaker = _last(name, "breaker", changes) or "closed"
        found.append(replace(recorded_only(name), health=health, breaker=breaker))
    return found


def _last(provider: str, kind: str, changes: Sequence[Transition]) -> str:
    """A provider's state after its last change of this kind, empty where there was none."""
    own = (one.after for one in changes if one.provider == provider and one.type == kind and not one.model)
    return next(own, "")
