"""The fleet as Redis has it, without a running proxy: as plain data, and as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from wallie_litellm.cli.tables import aligned, ends, moment, next_probe, percent, text
from wallie_litellm.core.dimensions import DAY_DIMENSIONS, DIMENSIONS
from wallie_litellm.core.iso_time import iso_time, reset_time
from wallie_litellm.core.limit_keys import dimension_in, limit_key, scope_in
from wallie_litellm.core.provider_names import account_name, digest_in

if TYPE_CHECKING:
    from wallie_litellm.config import LimitSettings as Limits
    from wallie_litellm.config import RouterConfig


class FleetUnavailable(Exception):  # noqa: N818 - names the condition
    """Redis cannot be read; the message has the reason."""


def nothing(scope: str, state: str, error: str | None) -> dict[str, Any]:
    """The report without a fleet."""
    return {
        "store": {"scope": scope, "state": state, "error": error},
        "workers": [],
        "providers": {},
        "features": {},
    }


# As plain data


def fleet_report(loaded: RouterConfig) -> dict[str, Any]:
    """The workers, and what Redis holds of each provider's limits and breaker.

    Raises:
        FleetUnavailable: Redis cannot be read.
    """
    wallie = loaded.wallie
    try:
        from wallie_litellm.limiter.redis.inspect import FleetUnreadable, read_fleet
    except ImportError as error:
        raise FleetUnavailable(f"{error.name} is not installed; install wallie-litellm[redis]") from error
    from wallie_litellm.config.used_providers import used_providers  # late: `--help` stays quick
    from wallie_litellm.core.dimensions import FEATURE
    from wallie_litellm.core.scopes import account_in, model_in

    limited = {name: own.limits for name, own in wallie.features.items() if own.limits.by_dimension()}
    used = used_providers(loaded)
    accounts = {one.account: one.provider for one in used if one.account != one.provider}
    limits: dict[str, Limits | None] = {**{one.provider: None for one in used}, **wallie.providers}
    shown = {one.provider for one in used}.union(filter(wallie.states_limits_of, wallie.providers))
    for one in used:  # default limits are those of the vendors' own addresses
        if not one.is_vendors_own:
            limits[one.provider] = wallie.limits_elsewhere(one.provider)
    try:
        found = read_fleet(wallie.store.url, [*limits, *accounts, *(FEATURE + name for name in limited)])
    except FleetUnreadable as error:
        raise FleetUnavailable(str(error)) from error
    now, states = found["now"], found["states"]
    providers = {
        name: _state(states[name], own, now) for name, own in sorted(limits.items()) if name in shown or states[name]
    }
    for account, provider in sorted(accounts.items()):
        own = _state(states[account], None, now)
        digest = digest_in(account)
        providers[provider].setdefault("accounts", {})[digest] = {key: own[key] for key in ("breaker", "paused_for")}

    def of_model(scope: str) -> dict[str, Any]:
        """What is shown of a model, with its provider or its account."""
        name = account_in(scope)
        owner = providers.get(accounts.get(name, name), {})
        if name in accounts:
            owner = owner["accounts"][digest_in(name)]
        shown: dict[str, Any] = owner.setdefault("models", {}).setdefault(model_in(scope), {"paused_for": 0.0})
        return shown

    for scope, seconds in sorted(found["paused_models"].items()):
        of_model(scope)["paused_for"] = round(seconds, 3)
    troubled = {scope: _breaker(state["breaker"]) for scope, state in sorted(found["troubled_models"].items())}
    for scope, breaker in troubled.items():
        if breaker["state"] != "closed":
            of_model(scope)["breaker"] = breaker
    features = {name: _state(states[FEATURE + name], own, now) for name, own in sorted(limited.items())}
    holders = _holders([*providers.values(), *features.values()])
    holders |= {name for breaker in troubled.values() for name in breaker["probe_held_by"]}
    return {
        "store": {"scope": "redis", "state": "ok", "error": None},
        # Redis keeps a worker that has left for a minute, because its lease may have to be charged.
        "workers": [
            _worker(name, about, now)
            for name, about in found["workers"].items()
            if about["pid"] is not None or name in holders
        ],
        "providers": providers,
        "features": features,
    }


def _holders(states: Iterable[Mapping[str, Any]]) -> set[str]:
    """The workers that hold a lease, a slot, or a permit to probe."""
    return {
        name for state in states for name in (*state["leases"], *state["slots"], *state["breaker"]["probe_held_by"])
    }


def _worker(name: str, about: Mapping[str, Any], now: float) -> dict[str, Any]:
    since = about["since"]
    return {
        "name": name,
        "pid": about["pid"],
        "host": about["host"],
        "since": None if since is None else iso_time(since, "milliseconds"),
        "last_seen": iso_time(now - about["age"], "milliseconds"),
        "last_seen_ago": round(about["age"], 3),
    }


def _state(found: Mapping[str, Any] | None, limits: Limits | None, now: float) -> dict[str, Any]:
    """One provider; ``found`` is what inspect.lua returns of it, ``None`` if Redis has nothing."""
    from wallie_litellm.core.lease_terms import WORKER_TIMEOUT

    breaker, workers = (found["breaker"], found["workers"]) if found else ({}, {})
    slots = {
        name: own["slots"]["concurrency"]
        for name, own in sorted(workers.items())
        if own["slots"].get("concurrency") and own["age"] <= WORKER_TIMEOUT
    }
    models: dict[str, Limits] = {**_learned_scopes(found), **getattr(limits, "models", {})}
    timezone = getattr(limits, "reset_timezone", "UTC")
    shown = {
        name: {"quota": _quotas(found, own, now, timezone, name), "paused_for": 0.0} for name, own in models.items()
    }
    return {
        "breaker": _breaker(breaker),
        "paused_for": round(found["pause"], 3) if found else 0.0,
        "quota": _quotas(found, limits, now, timezone) if limits else {},
        **({"models": shown} if shown else {}),
        "leases": {name: dict(sorted(own["leased"].items())) for name, own in sorted(workers.items()) if own["leased"]},
        "slots": slots,
    }


def _breaker(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": found.get("state"),
        "reason": found.get("reason"),
        "next_probe_in": round(found["reopens_in"], 3) if found.get("state") == "open" else None,
        "probe_held_by": sorted({probe["worker"] for probe in found.get("probes", ())}),
    }


def _learned_scopes(found: Mapping[str, Any] | None) -> dict[str, Limits]:
    """The scopes of models without an entry in the file, whose limits a worker has learned."""
    from wallie_litellm.config import LimitSettings

    return {scope: LimitSettings() for scope in sorted({scope_in(key) for key in _in_force(found)}) if scope}


def _in_force(found: Mapping[str, Any] | None) -> dict[str, int]:
    """The limits that workers have set, by their keys."""
    return {key: int(limit[1]) for key, limit in (found["limits"] if found else {}).items() if limit[1]}


def _quotas(
    found: Mapping[str, Any] | None, limits: Limits, now: float, timezone: str, scope: str = ""
) -> dict[str, Any]:
    """The account's limits, or those of the models of ``scope``: as they are in force, by dimension."""
    configured: dict[str, int] = {str(name): limit for name, limit in limits.by_dimension().items()}
    set_later = {dimension_in(key): limit for key, limit in _in_force(found).items() if scope_in(key) == scope}
    stated = {**configured, **set_later}
    return {
        name: _quota(limit_key(name, scope), stated[name], found, limits, now, timezone)
        for name in DIMENSIONS
        if name in stated
    }


def _quota(
    key: str, limit: int, found: Mapping[str, Any] | None, limits: Limits, now: float, timezone: str
) -> dict[str, Any]:
    from wallie_litellm.core.lease_terms import WORKER_TIMEOUT

    dimension, workers = dimension_in(key), found["workers"].values() if found else ()
    if dimension == "concurrency":  # Redis has how many calls each worker may have, not how many there are
        slots = sum(own["slots"].get(key, 0) for own in workers if own["age"] <= WORKER_TIMEOUT)
        return {"used": None, "limit": limit, "utilization": None, "left": None, "leased": slots, "reset_at": None}
    leased = sum(worker["leased"].get(key, 0) for worker in workers)
    headroom = getattr(limits, "headroom", 0.0)
    daily = dimension in DAY_DIMENSIONS
    used = max(0, ceil((found["used" if daily else "last_minute"].get(key, 0.0) if found else 0.0) - 1e-6))
    full = max(1.0, limit * (1 - headroom))
    empty = getattr(limits, "burst", {}).get(dimension, limit) * (1 - headroom)  # nothing of it has been used
    left = full - used if daily else found["left"].get(key, empty) if found else empty
    reset_in = found["full_in"].get(key, 0.0) if found else 0.0
    if daily:
        reset_in = found["day_ends_in"].get(key, 0.0) if found else 0.0
        reset_in = reset_in or _day_left(now, timezone)
    reset_at = reset_time(now, reset_in)
    return {
        "used": used,
        "limit": limit,
        "utilization": used / full,
        "left": max(0, floor(left + 1e-6)),
        "leased": leased,
        "reset_at": reset_at,
    }


def _day_left(now: float, timezone: str) -> float:
    from wallie_litellm.core.daily_quota import next_midnight

    return next_midnight(now, timezone) - now


# As people read it


def fleet_lines(report: Mapping[str, Any], shown_url: str) -> Iterator[str]:
    """The same as a table."""
    from wallie_litellm.core.scrubbing import one_line

    workers = report["workers"]
    count = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}" if workers else "no worker in the last minute"
    yield f"Redis at {shown_url}: {count}"
    numbers = {worker["name"]: f"#{number}" for number, worker in enumerate(workers, 1)}
    if workers:
        rows: list[tuple[str, ...]] = [("", "worker", "pid", "host", "since (UTC)", "last seen")]
        for worker in workers:
            own = (worker["name"], text(worker["pid"]), text(worker["host"]))
            since, seen = moment(worker["since"]), f"{worker['last_seen_ago']:.1f} s ago"
            rows.append((numbers[worker["name"]], *own, since, seen))
        yield ""
        yield from map(one_line, aligned(rows))
    rows = [("", "breaker", "limit", "used", "%", "left", "leased", "reset (UTC)", "to workers")]
    for kind in ("providers", "features"):
        for name, state in report[kind].items():
            rows += _rows(name if kind == "providers" else f"feature:{name}", state, numbers)
    yield ""
    yield from map(one_line, aligned(rows))
    for kind in ("providers", "features"):
        for name, state in report[kind].items():
            accounts = {account_name(name, digest): own for digest, own in state.get("accounts", {}).items()}
            for who, own in {name: state, **accounts}.items():
                if remark := _remark(own, numbers):
                    yield one_line(f"{who}: {remark}")


def _rows(name: str, state: Mapping[str, Any], numbers: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    breaker = state["breaker"]["state"] or "nothing in Redis"
    models = state.get("models", {})
    quotas = {"": state["quota"], **{pattern: own.get("quota", {}) for pattern, own in models.items()}}
    for scope, dimensions in quotas.items():
        for dimension, quota in dimensions.items():
            key = limit_key(dimension, scope)
            leases = {worker: leased.get(key, 0) for worker, leased in state["leases"].items()}
            if key == "concurrency":
                leases = state["slots"]
            to = ", ".join(f"{numbers.get(worker, worker)} {amount:g}" for worker, amount in leases.items() if amount)
            used, left, leased = (
                f"{text(quota['used'])} / {quota['limit']}",
                text(quota["left"]),
                f"{quota['leased']:g}",
            )
            limit = f"{dimension} {scope}".rstrip()
            yield name, breaker, limit, used, percent(quota), left, leased, moment(quota["reset_at"]), to
            name = breaker = ""
    if not any(quotas.values()):
        yield name, breaker, "-", "", "", "", "", "", ""


def _remark(state: Mapping[str, Any], numbers: Mapping[str, str]) -> str:
    parts = _breaker_remarks(state["breaker"], numbers)
    if state["paused_for"]:
        parts.append(f"paused for {state['paused_for']:.1f} s")
    parts += _ends(state.get("quota", {}))
    for model, own in state.get("models", {}).items():
        of_model = _breaker_remarks(own["breaker"], numbers) if "breaker" in own else []
        of_model += _ends(own.get("quota", {}))
        if own["paused_for"]:
            of_model.append(f"paused for {own['paused_for']:.1f} s")
        if of_model:
            parts.append(f"{model} {', '.join(of_model)}")
    return "; ".join(parts)


def _ends(quotas: Mapping[str, Any]) -> list[str]:
    """When the limits are used up that are before they reset."""
    return [f"{name} ends {ends(quota)} UTC" for name, quota in quotas.items() if quota.get("exhausts_at")]


def _breaker_remarks(breaker: Mapping[str, Any], numbers: Mapping[str, str]) -> list[str]:
    """What is to be said of a breaker that is not closed."""
    is_closed = breaker["state"] in (None, "closed")
    parts = [] if is_closed else [": ".join(filter(None, (breaker["state"], breaker["reason"])))]
    if breaker["next_probe_in"] is not None:
        parts.append(next_probe(breaker["next_probe_in"]))
    if breaker["probe_held_by"]:
        parts.append("probe held by " + ", ".join(numbers.get(name, name) for name in breaker["probe_held_by"]))
    return parts
