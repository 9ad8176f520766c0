"""The lease server: one provider's limits and breaker, shared by the workers of a fleet.

Workers have one operation, :meth:`LeaseServer.exchange`: a worker reports what it has spent and asks for capacity; it
is granted a lease, which it spends on its own. ``limiter/redis/lua`` has the same in Lua, for Redis; a test
drives both with the same sequences. The messages are those of :mod:`~wallie_litellm.core.lease_exchange`.

Why a fleet never admits too much. A bucket is charged when spending is reported, which is never before it happens, so
its level is at most that of a bucket charged at once plus what is on lease. Leased capacity counts against the level
and against the capacity: level - leased is what can still be leased, and the level never rises above the capacity, so
idle leases cannot meet a full bucket. A lease may also be of future capacity: then the bucket is in debt for it, and
the worker may spend it only as it is refilled, after all debts before it. A lease that is not renewed is charged in
full when it expires, and its worker stops spending it a little earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wallie_litellm.core.absent_workers import AbsentWorkers
from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, CircuitBreaker, Verdict, apply_action
from wallie_litellm.core.earlier_state import EARLIER, EarlierState
from wallie_litellm.core.lease_exchange import (
    VERSION,
    Amounts,
    BreakerSnapshot,
    LeaseAnswer,
    LimitInForce,
    RenewalRequest,
    Seed,
    Uninitialised,
    WorkerReport,
    version_error,
)
from wallie_litellm.core.lease_terms import (
    ROUNDING,
    WORKER_TIMEOUT,
    Availability,
    Claim,
    Denied,
    Grant,
    LeasingWorker,
    Shortage,
    decide,
)
from wallie_litellm.core.limit_keys import scope_in
from wallie_litellm.core.served_models import ServedModels
from wallie_litellm.core.sliding_window import SlidingWindow
from wallie_litellm.core.stated_limits import StatedLimits
from wallie_litellm.core.token_bucket import TOLERANCE, TokenBucket

WORKER_FORGOTTEN_AFTER: Final = 60.0  # seconds without a request after which a worker is not listed any more
MAX_LOWS: Final = 64  # low points that a bucket keeps; see TokenBucket


class LeaseServer:
    """One provider's limits and breaker, and the leases of all workers. ``now`` is seconds of one clock for all."""

    def __init__(self) -> None:
        self.initialised = False
        self.born = ""
        self.quota_resets = 0
        self.paused_until = 0.0
        self.workers: dict[str, LeasingWorker] = {}
        self.buckets: dict[str, TokenBucket] = {}
        self.windows: dict[str, SlidingWindow] = {}
        self.daily_usage: dict[str, float] = {}
        self.day_ends_at: dict[str, float] = {}
        self.limits: dict[str, LimitInForce] = {}  # that workers have set, in place of those of their files
        self.breaker = CircuitBreaker(BreakerRules())
        self.served = ServedModels()
        self._last_ticket = 0
        self._now = 0.0
        self._origin = 0
        self._earlier = EarlierState()
        self._absent = AbsentWorkers()
        self._stated = StatedLimits()

    def exchange(self, now: float, request: RenewalRequest) -> LeaseAnswer | Uninitialised:
        """Apply a worker's reports, and grant what it asks for."""
        if request["version"] != VERSION:
            return {"initialised": False, "error": version_error(request["version"])}
        if not self.initialised:
            self._origin = int(now)  # small numbers are exact ones
        self._now = now = max(now - self._origin, self._now)
        seed, is_new = request.get("seed"), not self.initialised
        joins = is_new or (request.get("born", self.born) != self.born and request["worker"] not in self.workers)
        if joins and seed is None:
            return {"initialised": False, "now": now + self._origin}
        if is_new:
            self.initialised, self.born = True, f"{now + self._origin:.6f}"
        self._configure(now, request)
        before = () if is_new else self._broadcastable()
        if joins and seed is not None:
            self._join(now, request, seed, is_new=is_new)
        self._expire_leases(now)
        self.served.note(now, {name: at - self._origin for name, at in request.get("served", {}).items()})
        worker = self._worker(now, request)
        if request["reports"] and request["reports"][-1]["seq"] <= worker.seq:
            # A later request of this worker has overtaken this one: its reports are applied, and its answer is not
            # read, so that a grant in it would be lost, and what the later one was granted taken back.
            return self._answer(now, worker, {}, {}, 0, before)
        self._confirm(worker, request["ack"])
        for report in request["reports"]:
            if report["seq"] > worker.seq:
                self._apply_report(now, worker, report)
                worker.seq = report["seq"]
        for name, left, said_at in request.get("bounds", ()):
            self._bound(now, worker, name, left, said_at - self._origin, request)
        grants, denied = self._lease(now, worker, request)
        self._allocate_slots(now, worker, request)
        permit = self._permit(now, request)
        return self._answer(now, worker, grants, denied, permit, before)

    # State

    def _configure(self, now: float, request: RenewalRequest) -> None:
        newer = {
            name: limit
            for name, limit in request.get("limits", {}).items()
            if name not in self.limits or limit[0] > self.limits[name][0]
        }
        self.limits.update(newer)
        for name, configured in request["rate_limits"].items():
            limit, stated = self.limits.get(name), self._stated.state(now, name, request["worker"], configured)
            per_minute, capacity = limit[2:] if limit is not None and limit[1] else stated
            bucket = self.buckets.get(name)
            if bucket is None:
                bucket = self.buckets[name] = TokenBucket(per_minute, capacity, MAX_LOWS)
                self.windows[name] = SlidingWindow()
            before = bucket.capacity
            bucket.resize(now, per_minute, capacity)
            if name in newer or capacity < before:
                bucket.forgive(now)
        for name, (_, ends_at) in request["daily_limits"].items():
            if now >= self.day_ends_at.get(name, 0.0):
                self.daily_usage[name] = 0.0
                self._earlier.end_day(name)
                self.day_ends_at[name] = max(ends_at - self._origin, now + 1)
        self.breaker.rules = BreakerRules(**request["breaker_rules"])

    def _usable(self, now: float, name: str, request: RenewalRequest) -> float:
        """Units a day, or at once, of a limit."""
        configured = (request["daily_limits"].get(name) or request["slots"][name])[0]
        stated, limit = self._stated.state(now, name, request["worker"], [configured]), self.limits.get(name)
        return limit[2] if limit is not None and limit[1] else stated[0]

    def _join(self, now: float, request: RenewalRequest, seed: Seed, *, is_new: bool) -> None:
        """Add what a worker has of an earlier state that was lost, beyond what others had of it.

        Its reports since follow. While others are awaited nothing is leased, and what they held stays theirs until it
        would have expired.
        """
        if is_new:
            self._earlier.begin(now, seed["workers"])
            leased = {name: units for name, units in seed["others"].items() if units > 0}
            self.workers[EARLIER] = LeasingWorker(
                -WORKER_FORGOTTEN_AFTER, lease_expires_at=now + WORKER_TIMEOUT, leased=leased
            )
        else:
            self._earlier.join()
            if (earlier := self.workers.get(EARLIER)) is not None:
                earlier.unlease(seed["held"] if self._earlier.awaited else dict(earlier.leased))
        reports = request["reports"]
        lease_id = reports[-1]["lease_id"] if reports else 0  # what was spent of it is still to be charged
        self.workers[request["worker"]] = LeasingWorker(now, lease_id=lease_id)
        if not self.quota_resets:  # else the seed may be older
            self._charge(now, self._earlier.beyond(now, seed["used"], self.buckets, self.daily_usage))
            for name, units in seed["last_minute"].items():
                if name in self.windows:
                    self.windows[name].add(now, max(0.0, units - self.windows[name].used(now)))
        self.paused_until = max(self.paused_until, now + seed["pause"])
        breaker = seed["breaker"]
        if is_new:
            self._set_breaker(now, breaker, breaker.get("generation", 0))
        elif self.breaker.state is BreakerState.CLOSED and breaker["state"] != BreakerState.CLOSED.value:
            self._set_breaker(now, breaker, max(breaker.get("generation", 0), self.breaker.generation) + 1)

    def _set_breaker(self, now: float, snapshot: BreakerSnapshot, generation: int) -> None:
        generation = max(generation, self.breaker.generation)
        state, reopens_at = BreakerState(snapshot["state"]), now + snapshot["reopens_in"]
        self.breaker.take_over(state, snapshot.get("reason"), reopens_at, snapshot["open_for"])
        self.breaker.generation = generation

    def _expire_leases(self, now: float) -> None:
        for name, worker in sorted(self.workers.items(), key=lambda one: one[1].lease_expires_at):
            if worker.leased and now >= worker.lease_expires_at:
                self._charge(worker.lease_expires_at, worker.leased)
                worker.leased, worker.unconfirmed = {}, {}
                worker.lease_id += 1
            if now - worker.seen_at > WORKER_FORGOTTEN_AFTER and not worker.leased:  # future capacity may be longer
                del self.workers[name]

    def _charge(self, now: float, amounts: Amounts) -> None:
        for name, amount in amounts.items():
            if name in self.buckets:
                self.buckets[name].take(now, amount)
            elif name in self.daily_usage:
                self.daily_usage[name] += amount

    def _leased(self, name: str) -> float:
        return sum(worker.leased.get(name, 0.0) for worker in self.workers.values())

    def _alive(self, now: float) -> int:
        return sum(worker.is_alive(now) for worker in self.workers.values())

    # Reports

    def _worker(self, now: float, request: RenewalRequest) -> LeasingWorker:
        worker = self.workers.get(request["worker"])
        self._absent.hear(worker, self.workers)
        if worker is None:
            worker = self.workers[request["worker"]] = LeasingWorker(now)
        worker.seen_at = now
        worker.lease_expires_at = max(worker.lease_expires_at, now + request["lease_ttl"])
        return worker

    @staticmethod
    def _confirm(worker: LeasingWorker, ack: int) -> None:
        """Take back what was granted in an answer that never arrived."""
        if ack < worker.seq:
            worker.unlease(worker.unconfirmed)
        worker.unconfirmed = {}

    def _apply_report(self, now: float, worker: LeasingWorker, report: WorkerReport) -> None:
        if report["lease_id"] == worker.lease_id:  # else that lease has expired, and is charged
            worker.unlease(report["spent"])
            self._charge(now, report["spent"])
            worker.unlease(report["returned"])
        self._charge(now, report["charge"])
        if (away := report.get("away")) is not None:
            self._absent.hold(now, away[0] - self._origin, int(away[1]), self.workers, self.buckets)
        for name, amount, reserved_at in report["refunds"]:
            if name in self.buckets:
                self.buckets[name].give_back(now, min(now, reserved_at - self._origin), amount)
            elif name in self.daily_usage:
                self.daily_usage[name] = max(0.0, self.daily_usage[name] - amount)
        for name, units, used_at in report["recent"]:
            if name in self.windows and units > 0:
                self.windows[name].add_at(now, used_at - self._origin, units)
            elif name in self.windows:
                self.windows[name].take_back(now, used_at - self._origin, -units)
        for scope in report["reset"]:
            self._reset(now, scope)
        if report["pause"]:
            self.paused_until = max(self.paused_until, now + report["pause"])
        self._apply_breaker_report(now, report)

    def _apply_breaker_report(self, now: float, report: WorkerReport) -> None:
        for generation, verdict, permit, reason, count in report["outcomes"]:
            for _ in range(count):
                self.breaker.record(now, generation, Verdict(verdict), probe=permit, reason=reason)
        for action in report["actions"]:
            apply_action(self.breaker, action)
        trip = report.get("breaker_trip")
        if trip is not None and self.breaker.state is BreakerState.CLOSED:
            self._set_breaker(now, trip, self.breaker.generation + 1)

    def _bound(
        self, now: float, worker: LeasingWorker, name: str, left: float, said_at: float, request: RenewalRequest
    ) -> None:
        """Leave what was ``left`` then, and has been refilled since; others may have spent all of their leases."""
        left += self._leased(name) - worker.leased.get(name, 0.0)
        if name in self.buckets:
            bucket = self.buckets[name]
            excess = bucket.capacity - bucket.used(now) - left - max(0.0, now - said_at) / bucket.cost
            if excess > 0:
                bucket.take(now, excess)
        elif name in request["daily_limits"]:
            limit = self._usable(now, name, request)
            self.daily_usage[name] = max(self.daily_usage[name], limit - left)

    def _reset(self, now: float, scope: str) -> None:
        self.quota_resets += 1
        if not scope:
            self.paused_until = 0.0
        for name, bucket in self.buckets.items():
            if scope in ("", scope_in(name)):
                bucket.reset()
                self.windows[name].reset(now)
        for name in self.daily_usage:
            if scope in ("", scope_in(name)):
                self.daily_usage[name] = 0.0

    # Leases

    def _lease(
        self, now: float, worker: LeasingWorker, request: RenewalRequest
    ) -> tuple[Mapping[str, Grant], Mapping[str, Denied]]:
        """Grant each need in full, or nothing of it and a claim on what others hold; and a part of the surplus.

        A need that the account's limits cannot cover ends the line: those behind it would take what it waits for.
        """
        needs, prefetch = request["needs"], request.get("prefetch") or {}
        for scope in set(worker.claims).difference(scope for scope, _ in needs):
            del worker.claims[scope]
        if self._earlier.is_awaited(now):
            return {}, {scope: Denied(min(units), 0.0) for scope, units in needs if units}
        grants: dict[str, Grant] = {}
        denied: dict[str, Denied] = {}
        alive = self._alive(now)
        spare: dict[str, float] = {}  # granted beyond the needs so far
        for scope, whole in needs:
            need = {name: units - spare.get(name, 0.0) for name, units in whole.items() if units > spare.get(name, 0.0)}
            decision = self._decide_all(now, worker, request, scope, need, alive)
            if isinstance(decision, Denied):
                denied[scope] = decision
                if not scope_in(decision.limit):
                    return grants, denied
            else:
                worker.claims.pop(scope, None)
                self._apply(now, worker, decision, request["lease_ttl"])
                for name, grant in decision.items():
                    grants[name] = grants[name].plus(grant) if name in grants else grant
                    spare[name] = spare.get(name, 0.0) + grant.amount
                for name, units in whole.items():
                    spare[name] = spare.get(name, 0.0) - units
        more = dict.fromkeys((name for name in prefetch if name not in grants and scope_in(name) not in denied), 0.0)
        surplus = self._decide_all(now, worker, request, None, more, alive)
        assert not isinstance(surplus, Denied), "nothing is needed"  # noqa: S101 - narrows the type
        self._apply(now, worker, surplus, request["lease_ttl"])
        return {**grants, **surplus}, denied

    def _decide_all(
        self, now: float, worker: LeasingWorker, request: RenewalRequest, scope: str | None, need: Amounts, alive: int
    ) -> Mapping[str, Grant] | Denied:
        """A grant for all of one need, or the longest denial; of equal ones, that of the account's limits."""
        grants: dict[str, Grant] = {}
        denied: Denied | None = None
        contended: set[str] = set()  # limits of which other workers hold what is needed
        ticket = worker.claims[scope].ticket if scope in worker.claims else None
        for name in need:
            if name not in request["rate_limits"] and name not in request["daily_limits"]:
                continue
            available = self._availability(now, name, request, worker, ticket)
            shortage = self._shortage(now, name, need[name], available, request["max_wait"])
            if shortage.contended:
                contended.add(name)
            decision = decide(name, request, worker, need[name], available, shortage, alive)
            if isinstance(decision, Denied):
                denied = decision if denied is None else max(denied, decision, key=_rank)
            elif decision.amount > 0:
                grants[name] = decision
        if denied is None:
            return grants
        if scope is not None and request["max_wait"] > 0:  # else nothing waits for what others return
            is_models = scope_in(denied.limit) != ""  # its limits are what is waited for, and not the account's
            claimed = {name: units for name, units in need.items() if scope_in(name) or not is_models}
            self._claim(worker, scope, claimed if contended.intersection(claimed) else None)
        return denied

    def _claim(self, worker: LeasingWorker, scope: str, units: Amounts | None) -> None:
        if units is None:
            worker.claims.pop(scope, None)
            return
        if scope not in worker.claims:
            self._last_ticket += 1
        ticket = worker.claims[scope].ticket if scope in worker.claims else self._last_ticket
        worker.claims[scope] = Claim(ticket, units)

    def _availability(
        self, now: float, name: str, request: RenewalRequest, worker: LeasingWorker, ticket: int | None
    ) -> Availability:
        leased, claimed = self._leased(name), self._claimed(now, name, worker, ticket)
        if name in self.buckets:
            bucket = self.buckets[name]
            level = (bucket.depth - max(0.0, bucket.full_at - now)) / bucket.cost
            using = sum(other is worker or other.uses(name) for other in self.workers.values())
            part = (bucket.capacity - claimed) / using - worker.leased.get(name, 0.0)
            return Availability(level - leased, bucket.capacity - leased - claimed, 1 / bucket.cost, part)
        left = self._usable(now, name, request) - self.daily_usage[name] - leased
        return Availability(left, left - claimed, 0.0, left - claimed)

    def _claimed(self, now: float, name: str, worker: LeasingWorker, ticket: int | None) -> float:
        """Units that other workers claim, and claimed before the one with this ``ticket``, if there is one."""
        return sum(
            claim.units.get(name, 0.0)
            for other in self.workers.values()
            if other is not worker and other.is_alive(now)
            for claim in other.claims.values()
            if ticket is None or claim.ticket < ticket
        )

    def _shortage(self, now: float, name: str, need: float, available: Availability, max_wait: float) -> Shortage:
        if available.rate:
            wait = (need - available.now) / available.rate
            if wait > 0:
                wait += TOLERANCE / 2  # so that waiting exactly this long is enough however it is rounded
        else:
            wait = 0.0 if need <= available.now else self.day_ends_at[name] - now
        used_up = not available.rate and need > available.now
        exhausted = need > available.total + ROUNDING or used_up
        contended = exhausted and (available.rate > 0 or need <= available.now + self._leased(name))
        if contended:
            wait = min(max(wait, 0.0), max_wait)
        return Shortage(wait, exhausted, contended)

    def _apply(self, now: float, worker: LeasingWorker, grants: Mapping[str, Grant], lease_ttl: float) -> None:
        for name, grant in grants.items():
            worker.unconfirmed[name] = worker.unconfirmed.get(name, 0.0) + grant.amount
            worker.leased[name] = worker.leased.get(name, 0.0) + grant.amount
            if name in self.buckets:
                refilled_at = now + grant.delay + (grant.amount - grant.at_once) * self.buckets[name].cost
                worker.lease_expires_at = max(worker.lease_expires_at, refilled_at + lease_ttl)

    def _allocate_slots(self, now: float, worker: LeasingWorker, request: RenewalRequest) -> None:
        """Slots for calls in flight: as many as the worker uses, and as many more as are free."""
        worker.slots, worker.short_of_slots = {}, {}
        for name, (_, in_flight, wanted) in request["slots"].items():
            limit = 0 if self._earlier.is_awaited(now) else int(self._usable(now, name, request))
            others = sum(
                other.slots.get(name, 0)
                for other in self.workers.values()
                if other is not worker and other.is_alive(now)
            )
            worker.slots[name] = max(in_flight, min(wanted, limit - others))
            if worker.slots[name] < wanted:
                worker.short_of_slots[name] = True

    def _permit(self, now: float, request: RenewalRequest) -> int:
        if not request["probe"] or self.breaker.wait(now) > 0:
            return 0
        return self.breaker.enter(now)

    # The answer

    def _broadcastable(self) -> tuple[Any, ...]:
        """What other workers need at once when it changes."""
        slots = sum(sum(worker.slots.values()) for worker in self.workers.values())
        short_of_slots = any(worker.short_of_slots for worker in self.workers.values())
        claimed = {name for worker in self.workers.values() for name in worker.claimed()}
        leased = sum(self._leased(name) for name in claimed)
        return (
            self.breaker.generation,
            self.breaker.failures > 0,
            self.quota_resets,
            self.paused_until,
            slots if short_of_slots else 0,
            leased,
            max((limit[0] for limit in self.limits.values()), default=0.0),
            self._earlier.awaited > 0,
        )

    def _answer(
        self,
        now: float,
        worker: LeasingWorker,
        grants: Mapping[str, Grant],
        denied: Mapping[str, Denied],
        permit: int,
        before: tuple[Any, ...],
    ) -> LeaseAnswer:
        breaker = self.breaker
        return {
            "initialised": True,
            "now": now + self._origin,
            "born": self.born,
            "seq": worker.seq,
            "lease_id": worker.lease_id,
            "expires_in": worker.lease_expires_at - now,
            "grants": {name: list(grant) for name, grant in grants.items()},
            "denied": {scope: list(one) for scope, one in denied.items()},
            "used": {
                **{name: max(0.0, bucket.full_at - now) / bucket.cost for name, bucket in self.buckets.items()},
                **self.daily_usage,
            },
            "last_minute": {name: window.used(now) for name, window in self.windows.items()},
            "leased": {name: self._leased(name) for name in (*self.buckets, *self.daily_usage)},
            "day_ends_in": {name: ends_at - now for name, ends_at in self.day_ends_at.items()},
            "slots": worker.slots,
            "short_of_slots": {name: True for other in self.workers.values() for name in other.short_of_slots},
            "limits": dict(self.limits),
            "reclaim": {
                name: True for other in self.workers.values() if other is not worker for name in other.claimed()
            },
            "workers": self._alive(now),
            "quota_resets": self.quota_resets,
            "pause": max(0.0, self.paused_until - now),
            "breaker": {
                "state": breaker.state.value,
                "generation": breaker.generation,
                "failures": breaker.failures,
                "reason": breaker.reason,
                "reopens_in": max(0.0, breaker.reopens_at - now),
                "open_for": breaker.open_for,
                "permit": permit,
                "probe_free_in": breaker.wait(now) if breaker.state is BreakerState.HALF_OPEN else 0.0,
            },
            "served": self.served.ages(now),
            "broadcast": self._broadcastable() != before,
        }


def _rank(denied: Denied) -> tuple[float, bool, str]:
    """Which of several denials counts: the longest, and of equal ones one of the account's limits."""
    return denied.wait, scope_in(denied.limit) == "", denied.limit
