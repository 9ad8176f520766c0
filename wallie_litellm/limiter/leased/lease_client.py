"""A worker's side of the exchange with a lease server: its reports, its requests, and the leases that are granted.

The server is :class:`~wallie_litellm.core.lease_server.LeaseServer`: in Redis, or in this process while Redis is away.
Nothing here sends anything: requests are built, and answers applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Final, NamedTuple

from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.lease_exchange import VERSION, BreakerSnapshot, LeaseAnswer, RenewalRequest, Seed, WorkerReport
from wallie_litellm.core.outage import Outage
from wallie_litellm.limiter.leased.breaker_replica import BreakerReplica
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.prefetch import Prefetch, PrefetchState
from wallie_litellm.limiter.leased.usage_mirror import UsageMirror

LEASE_TTL: Final = 3.0  # seconds that a lease lives without a renewal
LEASE_SAFETY: Final = 0.98  # part of that for which it is spent: clocks do not run equally fast
RETRY_AFTER_DENIAL: Final = 0.2  # seconds until a denied need is asked for again, unless a broadcast comes
IDLE_AFTER: Final = 1.0  # seconds without an admission after which a lease is returned
SEEDED_WITHIN: Final = 1e-3  # seconds, more than the rounding of Unix time: a refund of the seed is later than the seed
REPORTED_STATES: Final = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN, BreakerState.DISABLED)

_IDLE, _ASKED = PrefetchState.IDLE, PrefetchState.ASKED


class Calls(NamedTuple):
    """The calls of a worker that a request speaks for. Times are seconds."""

    in_flight: int
    head: Demand | None  # of the first call that cannot be admitted
    queued: Demand  # of all that wait
    max_wait: float  # of the most patient of them
    idle_for: float  # since the last admission
    paused_for: float  # nothing is admitted for so long


@dataclass
class ServerSession:
    """The exchange with one server: Redis, or the local one during an outage."""

    is_local: bool = False  # it answers at once, and leases nothing ahead
    began_at: float = -inf  # seconds of the worker's clock, of a local one
    lease_id: int = 0
    acked: int = 0  # the last report that the server has applied, by its last answer
    unacknowledged: list[WorkerReport] = field(default_factory=list)


@dataclass
class PendingReport:
    """The next report, besides what was spent."""

    charge: dict[str, int] = field(default_factory=dict)  # units by dimension
    refunds: list[tuple[str, float, float]] = field(default_factory=list)  # dimension, units, when they were reserved
    resets: int = 0
    pause: bool = False  # a pause was set here that the server does not have yet
    breaker_trip: BreakerSnapshot | None = None  # the breaker is open since an outage


@dataclass
class Seeding:
    """The state for a server that has none."""

    is_requested: bool = False
    is_done: bool = False  # the server began with this worker's seed
    usage: dict[str, float] = field(default_factory=dict)  # in place of the mirror's
    last_minute: dict[str, float] = field(default_factory=dict)  # likewise


@dataclass
class Slots:
    """Capacity for calls in flight."""

    limit: int | None  # of the whole fleet
    granted: int = 0
    are_short: bool = False  # some worker has fewer than it needs


class LastDenial(NamedTuple):
    """The need that the server denied last. Times are seconds of the worker's clock."""

    dimension: str = ""
    until: float = -inf
    retry_at: float = -inf


class LeaseClient:
    """One provider's leases at one worker."""

    def __init__(
        self,
        worker: str,
        balances: Mapping[str, LeaseBalance],
        mirror: UsageMirror,
        breaker: BreakerReplica,
        concurrency_limit: int | None,
        *,
        is_local: bool,
    ) -> None:
        self.worker = worker
        self.balances = balances
        self.mirror = mirror
        self.breaker = breaker
        self.slots = Slots(concurrency_limit)
        self.expires_at = -inf
        self.denial = LastDenial()
        self.prefetch = Prefetch()
        self.pending = PendingReport()
        self.seeding = Seeding()
        self.answer_due = False  # a request for the first call that waits is on its way
        self.answer_is_ours = True  # the last answer's news was brought about by this process
        self.reclaim = False  # another worker needs what is on lease
        self.reported_at = -inf  # what was spent before is reported
        self.outage: Outage | None = None  # from the server's last answer to its next
        self._breaker_rules = asdict(breaker.rules)
        self.seq = 0  # of the last report
        self._session = ServerSession(is_local)
        self._suspended = ServerSession()  # the exchange with Redis, during an outage

    def release(self) -> None:
        """Return all that is left."""
        for balance in self.balances.values():
            balance.release()

    # The request

    def build_renewal(self, now: float, calls: Calls) -> RenewalRequest:
        """The reports that are not acknowledged, a new one, and what ``calls`` need."""
        if now >= self.expires_at:
            self.release()
        self.mirror.roll_day(now)
        head = calls.head
        if head is None:
            self.breaker.return_permits(now)
        idle = head is None and self.prefetch.state is _IDLE and calls.idle_for > IDLE_AFTER
        waiting = calls.queued if calls.queued.requests else head or NOTHING
        spare_slots = 0 if self.slots.are_short or idle else max(1, calls.in_flight // 4)
        self._session.unacknowledged.append(self._build_report(now, waiting, calls.paused_for, idle=idle))
        request: RenewalRequest = {
            "version": VERSION,
            "worker": self.worker,
            "ack": self._session.acked,
            "lease_ttl": LEASE_TTL,
            "rate_limits": self.mirror.rate_limits(),
            "daily_limits": self.mirror.daily_limits(),
            "breaker_rules": self._breaker_rules,
            "reports": self._session.unacknowledged,
            "max_wait": min(calls.max_wait, 1e9),
            "queued": {name: waiting[balance.kind] for name, balance in self.balances.items()},
            "in_flight": calls.in_flight,
            "slots_wanted": calls.in_flight + (waiting.requests if head else 0) + spare_slots,
            "probe": head is not None and self.breaker.needs_permit(now),
        }
        if self.slots.limit is not None:
            request["concurrency_limit"] = self.slots.limit
        self._ask_for_lease(request, calls, waiting, idle=idle)
        if self.seeding.is_requested:
            request["seed"] = self._build_seed(now, calls.paused_for)
        return request

    def _ask_for_lease(self, request: RenewalRequest, calls: Calls, waiting: Demand, *, idle: bool) -> None:
        head, is_local = calls.head, self._session.is_local
        self.answer_due = head is not None and not is_local
        need: dict[str, int] = {}
        if head is not None and not calls.paused_for:
            need = {
                name: head[balance.kind] - balance.left
                for name, balance in self.balances.items()
                if head[balance.kind] > balance.left
            }
        if need:
            request["need"] = need
        self.prefetch.asked_for = {}
        if (need or self.prefetch.state is not _IDLE) and not idle and not self.reclaim and not is_local:
            self.prefetch.state = _ASKED
            self.prefetch.asked_for = {
                name: self.prefetch.units(balance.kind, waiting[balance.kind], balance.left)
                for name, balance in self.balances.items()
            }
            request["prefetch"] = self.prefetch.asked_for

    def _build_seed(self, now: float, paused_for: float) -> Seed:
        return {
            "used": {**self.mirror.used(now), **self.seeding.usage},
            "last_minute": {**self.mirror.minute.answered, **self.seeding.last_minute},
            "pause": paused_for,
            "breaker": self.breaker.snapshot(now),
        }

    def _build_report(self, now: float, waiting: Demand, paused_for: float, *, idle: bool) -> WorkerReport:
        self.seq += 1  # each report has its own: the server applies every number once
        outcomes, actions = self.breaker.report()
        spent = {name: balance.spent for name, balance in self.balances.items() if balance.spent}
        requests = spent.get("rpm", spent.get("rpd", 0))
        for name, balance in self.balances.items():
            if requests:
                self.prefetch.note_spent(balance.kind, spent.get(name, 0) / requests)
        if idle or self.reclaim:
            for balance in self.balances.values():
                balance.release(0 if idle else waiting[balance.kind])
        pending = self.pending
        report: WorkerReport = {
            "seq": self.seq,
            "lease_id": self._session.lease_id,
            "spent": spent,
            "returned": {name: balance.returned for name, balance in self.balances.items() if balance.returned},
            "charge": {name: amount for name, amount in pending.charge.items() if amount},
            "refunds": [[name, units, self.mirror.server_time_at(at)] for name, units, at in pending.refunds],
            "recent": self.mirror.minute.report(self.mirror.server_time_at(0.0)),
            "outcomes": outcomes,
            "actions": actions,
            "pause": paused_for if pending.pause else 0.0,
            "reset": pending.resets > 0,
        }
        if pending.breaker_trip is not None:
            report["breaker_trip"] = pending.breaker_trip
        for balance in self.balances.values():
            balance.spent = balance.returned = 0
        self.pending = PendingReport()
        self.reported_at = now
        return report

    # The answer

    def request_seed(self) -> None:
        """The server has no state: leases that an earlier one granted are void."""
        self.answer_due = False
        self.seeding.is_requested = True
        for balance in self.balances.values():
            balance.release()
            balance.returned = 0

    def apply_grant(self, now: float, sent_at: float, answer: LeaseAnswer) -> None:
        """Apply the answer to a request that was built at ``sent_at``."""
        session, is_local = self._session, self._session.is_local
        self.answer_due = False
        self.seeding = Seeding(is_done=self.seeding.is_done or self.seeding.is_requested)
        if not is_local:
            self.outage = None
        session.unacknowledged = [report for report in session.unacknowledged if report["seq"] > answer["seq"]]
        session.acked = answer["seq"]
        if answer["lease_id"] != session.lease_id:
            session.lease_id = answer["lease_id"]
            for balance in self.balances.values():
                balance.forget()
        self.expires_at = max(self.expires_at, sent_at + answer["expires_in"] * LEASE_SAFETY)
        self._note_prefetch(now, answer)
        for name, (amount, at_once, delay) in answer["grants"].items():
            balance = self.balances[name]
            balance.add(now, int(amount), at_once, delay, self.mirror.refill_rate(name))
            balance.refill_below = balance.left / 4 if at_once == amount else 0.0
        self.denial = self._denial(now, answer.get("denied"), 0.0 if is_local else RETRY_AFTER_DENIAL)
        self.answer_is_ours = is_local or answer["broadcast"]
        self.slots.granted, self.slots.are_short = answer["slots"], answer["short_of_slots"]
        self.reclaim = answer["reclaim"]
        self.breaker.update(now, answer["breaker"])
        self.mirror.update(now, answer)

    def _note_prefetch(self, now: float, answer: LeaseAnswer) -> None:
        prefetch = self.prefetch
        if answer["grants"] and prefetch.asked_for:
            prefetch.resize(now, answer["grants"])
        elif prefetch.state is _ASKED:
            prefetch.not_before = now + RETRY_AFTER_DENIAL
        if prefetch.state is _ASKED:
            prefetch.state = _IDLE

    @staticmethod
    def _denial(now: float, denied: Any, retry_after: float) -> LastDenial:
        if denied is None:
            return LastDenial()
        dimension, wait = denied
        return LastDenial(dimension, now + max(wait, retry_after), now + retry_after)

    # Outages

    def disconnect(self, now: float, paused_for: float, *, confirmed: bool) -> None:
        """Begin a session with a local server: the one that all workers share does not answer."""
        is_live = now < self.expires_at
        in_hand = {name: balance.left if is_live else 0 for name, balance in self.balances.items()}
        self._session.unacknowledged.append(self._build_report(now, NOTHING, paused_for, idle=True))
        self._suspended, self._session = self._session, ServerSession(is_local=True)
        if self.outage is None:
            self.outage = self.mirror.begin_outage(now, in_hand, confirmed=confirmed)
            usage = self.outage.carried_usage(now, self.mirror.days_end_at())
        else:  # it was reconnected, and did not answer
            usage = self.outage.resumed_usage(now)
        self.seeding = Seeding(True, self.seeding.is_done, usage, self.mirror.minute.used(now))
        self.mirror.minute.begin_outage(now)
        self._session.began_at = now
        self._void_lease()

    def confirm_outage(self) -> None:
        """Have the local server refund what is withheld from this worker's part, as if it had never been used."""
        if self.outage is not None and self._session.is_local:
            released = self.outage.confirm()
            since = self._session.began_at + SEEDED_WITHIN
            self.pending.refunds += [(name, units, since) for name, units in released.items()]

    def reconnect(self, now: float, outage: Outage, uncounted: Mapping[str, float]) -> None:
        """Resume the session with the server that all workers share, and charge it with the use meanwhile."""
        charge = outage.reconcile(now, self.mirror.used(now), uncounted, self.mirror.days_end_at())
        self._session = self._suspended
        self.pending.charge = charge
        self.mirror.minute.reconnect(now)
        self.mirror.end_outage(outage)
        is_reported = self.breaker.state in REPORTED_STATES
        self.pending.breaker_trip = self.breaker.snapshot(now) if is_reported else None
        self.breaker.permits.clear()
        self._void_lease()

    def _void_lease(self) -> None:
        self.answer_due, self.prefetch.state = False, _IDLE
        self.expires_at, self.denial = -inf, LastDenial()

    def forked(self, worker: str) -> None:
        """Begin anew in a child process: the leases are the parent's."""
        self.worker = worker
        for balance in self.balances.values():
            balance.forget()
        self._session, self.seq, self.expires_at, self.outage = ServerSession(), 0, -inf, None
        self.pending = PendingReport(pause=self.pending.pause, breaker_trip=self.pending.breaker_trip)
        self.mirror.forget()
        self.mirror.minute.forked()
