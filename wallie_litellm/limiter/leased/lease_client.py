"""A worker's side of the exchange with a lease server: its reports, its requests, and the leases that are granted.

The server is :class:`~wallie_litellm.core.lease_server.LeaseServer`: in Redis, or in this process while Redis is away.
Nothing here sends anything: requests are built, and answers applied.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Final, Literal, NamedTuple

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.lease_exchange import (
    VERSION,
    Away,
    BreakerSnapshot,
    LeaseAnswer,
    Need,
    RenewalRequest,
    Seed,
    WorkerReport,
)
from wallie_litellm.core.limit_keys import ACCOUNT, scope_in
from wallie_litellm.core.outage import Outage
from wallie_litellm.limiter.leased.breaker_replica import BreakerReplica
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.limits_in_force import LimitsInForce
from wallie_litellm.limiter.leased.prefetch import Prefetch, PrefetchState
from wallie_litellm.limiter.leased.usage_mirror import UsageMirror

LEASE_TTL: Final = 3.0  # seconds that a lease lives without a renewal
LEASE_SAFETY: Final = 0.98  # part of that for which it is spent: clocks do not run equally fast
RETRY_AFTER_DENIAL: Final = 0.2  # seconds until a denied need is asked for again, unless a broadcast comes
IDLE_AFTER: Final = 1.0  # seconds without an admission after which a lease is returned
MODEL_IDLE_AFTER: Final = 10.0  # seconds without one of a model's, where the worker admits others
SEEDED_WITHIN: Final = 1e-3  # seconds, more than the rounding of Unix time: a refund of the seed is later than the seed
REPORTED_STATES: Final = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN, BreakerState.DISABLED)

_FROM_LEASE: Final[tuple[Literal["spent", "returned"], ...]] = ("spent", "returned")  # what a report says of one
_IDLE, _ASKED = PrefetchState.IDLE, PrefetchState.ASKED


class Head(NamedTuple):
    """The first call that waits in one scope; one that ``waits_for_model`` needs the account only later."""

    scope: str
    demand: Demand
    waits_for_model: bool = False


class Waiting(NamedTuple):
    """The calls that wait: the first of each scope, in the order in which they are to be served.

    ``queued`` is what all of them demand, by scope; of the account, without those that wait for their model.
    """

    heads: Sequence[Head] = ()
    queued: Mapping[str, Demand] = {}
    max_wait: float = inf  # seconds, of the most patient of them

    @classmethod
    def one(cls, head: Head, max_wait: float) -> Waiting:
        """One call alone."""
        return cls((head,), {ACCOUNT: head.demand, head.scope: head.demand}, max_wait)

    def units(self, key: str, kind: int) -> int:
        """What is demanded of one limit."""
        return self.queued.get(scope_in(key), NOTHING)[kind]


NONE_WAITING: Final = Waiting()


class Calls(NamedTuple):
    """The calls of a worker that a request speaks for."""

    waiting: Waiting
    in_flight: Mapping[str, int]  # by the key of a limit for them
    admitted: Mapping[str, int]  # requests since the last report, by scope
    idle: Container[str]  # scopes in which nothing was admitted lately
    paused_for: float  # nothing is admitted for so many seconds


@dataclass
class ServerSession:
    """The exchange with one server: Redis, or the local one during an outage."""

    is_local: bool = False  # it answers at once, and leases nothing ahead
    began_at: float = -inf  # seconds of the worker's clock, of a local one
    born: str | None = None  # when the server's state began, by its last answer
    lease_id: int = 0
    acked: int = 0  # the last report that the server has applied, by its last answer
    unacknowledged: list[WorkerReport] = field(default_factory=list)


@dataclass
class PendingReport:
    """The next report, besides what was spent."""

    charge: dict[str, float] = field(default_factory=dict)  # units by limit
    refunds: list[tuple[str, float, float]] = field(default_factory=list)  # limit, units, when they were reserved
    resets: list[str] = field(default_factory=list)  # scopes
    pause: bool = False  # a pause was set here that the server does not have yet
    breaker_trip: BreakerSnapshot | None = None  # the breaker is open since an outage
    away: Away | None = None  # an outage that has ended
    retired: dict[str, LeaseBalance] = field(default_factory=dict)  # of limits that are no more


@dataclass
class Seeding:
    """The state for a server that has none."""

    is_requested: bool = False
    is_done: bool = False  # the server has this worker's seed
    usage: dict[str, float] = field(default_factory=dict)  # in place of the mirror's
    last_minute: dict[str, float] = field(default_factory=dict)  # likewise
    held: dict[str, float] = field(default_factory=dict)  # units on lease by a state that was lost


@dataclass
class Slots:
    """Capacity for calls in flight, of one limit."""

    limit: int  # of the whole fleet
    granted: int = 0
    are_short: bool = False  # some worker has fewer than it needs


class LastDenial(NamedTuple):
    """The need that the server denied last. Times are seconds of the worker's clock."""

    limit: str = ""
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
        *,
        is_local: bool,
    ) -> None:
        self.worker = worker
        self.balances = balances
        self.mirror = mirror
        self.breaker = breaker
        self.slots: dict[str, Slots] = {}  # by the key of a limit
        self.expires_at = -inf
        self.denials: dict[str, LastDenial] = {}  # by scope: of the account's limits, or of a model's
        self.limits = LimitsInForce()
        self.prefetch = Prefetch()
        self.pending = PendingReport()
        self.seeding = Seeding()
        self.answer_due = False  # a request for the first call that waits is on its way
        self.answer_is_ours = True  # the last answer's news was brought about by this process
        self.reclaim: Mapping[str, bool] = {}  # limits of which another worker needs what is on lease
        self.reported_at = -inf  # what was spent before is reported
        self.outage: Outage | None = None  # from the server's last answer to its next
        self._breaker_rules = asdict(breaker.rules)
        self.seq = 0  # of the last report
        self._session = ServerSession(is_local)
        self._suspended = ServerSession()  # the exchange with Redis, during an outage

    def use(self, rules: BreakerRules) -> None:
        """Have the breaker go by other rules."""
        self.breaker.use(rules)
        self._breaker_rules = asdict(rules)

    def retire(self, key: str, balance: LeaseBalance) -> None:
        """A limit is no more: what was spent of it is reported once, and what is left goes back."""
        balance.release()
        self.pending.retired[key] = balance

    def revive(self, key: str) -> LeaseBalance | None:
        """The balance of a limit that is there again, if it has not been reported since it was retired."""
        return self.pending.retired.pop(key, None)

    def release(self) -> None:
        """Return all that is left."""
        for balance in self.balances.values():
            balance.release()

    # The request

    def denials_for(self, scope: str) -> tuple[LastDenial, LastDenial]:
        """The last denials by the account's limits and by those of ``scope``."""
        none = LastDenial()
        return self.denials.get(ACCOUNT, none), self.denials.get(scope, none) if scope else none

    def retry_at(self, scope: str) -> float:
        """When a need that was denied is asked for again, in seconds of this process."""
        return max(denial.retry_at for denial in self.denials_for(scope))

    def can_return(self) -> bool:
        """Whether more is left of what another worker needs than calls here wait for."""
        return any(one.left > one.kept for name, one in self.balances.items() if name in self.reclaim)

    def unreported(self, key: str) -> float:
        """Units of a limit that were used since the last report."""
        units: float = self.balances[key].spent + self.pending.charge.get(key, 0)
        return units - sum(amount for refunded, amount, _ in self.pending.refunds if refunded == key)

    def build_renewal(self, now: float, calls: Calls) -> RenewalRequest:
        """The reports that are not acknowledged, a new one, and what ``calls`` need."""
        if now >= self.expires_at:
            self.release()
        self.mirror.roll_day(now)
        waiting = calls.waiting
        if not waiting.heads:
            self.breaker.return_permits(now)
        idle = not waiting.heads and self.prefetch.state is _IDLE and ACCOUNT in calls.idle
        self._session.unacknowledged.append(self._build_report(now, calls, idle=idle))
        request: RenewalRequest = {
            "version": VERSION,
            "worker": self.worker,
            "ack": self._session.acked,
            "lease_ttl": LEASE_TTL,
            "rate_limits": self.mirror.rate_limits(),
            "daily_limits": self.mirror.daily_limits(),
            "breaker_rules": self._breaker_rules,
            "reports": self._session.unacknowledged,
            "max_wait": min(waiting.max_wait, 1e9),
            "queued": {name: waiting.units(name, balance.kind) for name, balance in self.balances.items()},
            "slots": {name: self._slots_wanted(name, slots, calls, idle=idle) for name, slots in self.slots.items()},
            "probe": bool(waiting.heads) and self.breaker.needs_permit(now),
            "needs": [] if calls.paused_for else [*self._needs(waiting)],
        }
        self.answer_due = bool(waiting.heads) and not self._session.is_local
        if self._session.born is not None:
            request["born"] = self._session.born
        self._ask_for_prefetch(request, calls, idle=idle)
        if self.limits.pending:
            request["limits"] = dict(self.limits.pending)
        if self.limits.bounds:
            request["bounds"] = self.limits.take_bounds()
        if not self._session.is_local and (served := self.mirror.serves.report(now)):
            request["served"] = {model: self.mirror.server_time_at(at) for model, at in served.items()}
        if self.seeding.is_requested:
            request["seed"] = self._build_seed(now, calls.paused_for)
        return request

    @staticmethod
    def _slots_wanted(name: str, slots: Slots, calls: Calls, *, idle: bool) -> list[int]:
        scope, in_flight = scope_in(name), calls.in_flight[name]
        waiting = calls.waiting.queued.get(scope, NOTHING).requests if calls.waiting.heads else 0
        is_idle = idle or (scope != ACCOUNT and scope in calls.idle and not waiting)
        spare = 0 if slots.are_short or is_idle else max(1, in_flight // 4)
        return [slots.limit, in_flight, in_flight + waiting + spare]

    def _needs(self, waiting: Waiting) -> Iterator[Need]:
        """What the first call of each scope lacks; one that waits for its model will ask for the account's later."""
        for head in waiting.heads:
            need = {
                name: head.demand[balance.kind] - balance.left
                for name, balance in self.balances.items()
                if scope_in(name) in ((head.scope,) if head.waits_for_model else (ACCOUNT, head.scope))
                and head.demand[balance.kind] > balance.left
            }
            if need:
                yield [head.scope, need]

    def _ask_for_prefetch(self, request: RenewalRequest, calls: Calls, *, idle: bool) -> None:
        """Ask for more of the account's limits and of those of the models that are in use."""
        for chunk in self.prefetch.chunks.values():
            chunk.asked_for = {}
        wanted = request["needs"] or self.prefetch.state is not _IDLE
        if not wanted or idle or self._session.is_local:
            return
        self.prefetch.state = _ASKED
        asked_for: dict[str, dict[str, int]] = {}
        for name, balance in self.balances.items():
            scope, queued = scope_in(name), calls.waiting.units(name, balance.kind)
            if name in self.reclaim:
                continue
            if scope == ACCOUNT or scope not in calls.idle or scope in calls.waiting.queued:
                units = self.prefetch.chunk(scope).units(balance.kind, queued, balance.left)
                asked_for.setdefault(scope, {})[name] = units
        for scope, units_by_name in asked_for.items():
            self.prefetch.chunk(scope).asked_for = units_by_name
        request["prefetch"] = {name: units for one in asked_for.values() for name, units in one.items()}

    def _build_seed(self, now: float, paused_for: float) -> Seed:
        held = self.seeding.held
        return {
            "workers": self.mirror.workers,
            "held": held,
            "others": {name: max(0.0, units - held.get(name, 0.0)) for name, units in self._leased_to_all().items()},
            "used": {**self.mirror.used(now), **self.seeding.usage},
            "last_minute": {**self.mirror.minute.answered, **self.seeding.last_minute},
            "pause": paused_for,
            "breaker": self.breaker.snapshot(now),
        }

    def _leased_to_all(self) -> Mapping[str, float]:
        """Units on lease to all workers, as the server that they share last answered."""
        if self.outage is None:
            return self.mirror.leased
        rates = {name: rate.leased for name, rate in self.outage.rates.items()}
        return {**rates, **{name: day.leased for name, day in self.outage.days.items()}}

    def _build_report(self, now: float, calls: Calls, *, idle: bool) -> WorkerReport:
        self.seq += 1  # each report has its own: the server applies every number once
        outcomes, actions = self.breaker.report()
        balances = {**self.pending.retired, **self.balances}
        spent = {name: balance.spent for name, balance in balances.items() if balance.spent}
        for name, balance in self.balances.items():
            scope = scope_in(name)
            if requests := calls.admitted.get(scope):
                self.prefetch.chunk(scope).note_spent(balance.kind, spent.get(name, 0) / requests)
            if idle or (scope != ACCOUNT and scope in calls.idle and scope not in calls.waiting.queued):
                balance.release()
            elif name in self.reclaim:
                balance.kept = calls.waiting.units(name, balance.kind)
                balance.release(balance.kept)
        pending = self.pending
        report: WorkerReport = {
            "seq": self.seq,
            "lease_id": self._session.lease_id,
            "spent": spent,
            "returned": {name: balance.returned for name, balance in balances.items() if balance.returned},
            "charge": {name: amount for name, amount in pending.charge.items() if amount},
            "refunds": [[name, units, self.mirror.server_time_at(at)] for name, units, at in pending.refunds],
            "recent": self.mirror.minute.report(self.mirror.server_time_at(0.0)),
            "outcomes": outcomes,
            "actions": actions,
            "pause": calls.paused_for if pending.pause else 0.0,
            "reset": pending.resets,
        }
        if pending.breaker_trip is not None:
            report["breaker_trip"] = pending.breaker_trip
        if pending.away is not None:
            report["away"] = pending.away
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
        for name, balance in self.balances.items():
            reported = [report[kind].get(name, 0.0) for report in self._session.unacknowledged for kind in _FROM_LEASE]
            self.seeding.held.setdefault(name, balance.left + balance.spent + balance.returned + sum(reported))
            balance.release()
            balance.returned = 0

    def apply_grant(self, now: float, sent_at: float, answer: LeaseAnswer) -> None:
        """Apply the answer to a request that was built at ``sent_at``."""
        session, is_local = self._session, self._session.is_local
        self.answer_due = False
        self.seeding = Seeding(is_done=self.seeding.is_done or self.seeding.is_requested)
        if not is_local:
            self.outage = None
            self.mirror.serves.receive(now, answer["served"])
        session.unacknowledged = [report for report in session.unacknowledged if report["seq"] > answer["seq"]]
        session.acked, session.born = answer["seq"], answer["born"]
        if answer["lease_id"] != session.lease_id:
            session.lease_id = answer["lease_id"]
            for balance in self.balances.values():
                balance.forget()
        self.expires_at = max(self.expires_at, sent_at + answer["expires_in"] * LEASE_SAFETY)
        self._note_prefetch(now, answer)
        for name, (amount, at_once, delay) in answer["grants"].items():
            if name not in self.balances:  # the limit has been dropped meanwhile
                continue
            balance = self.balances[name]
            balance.add(now, int(amount), at_once, delay, self.mirror.refill_rate(name))
            balance.refill_below = balance.left / 4 if at_once == amount else 0.0
        self.denials = self._denials(now, answer["denied"], 0.0 if is_local else RETRY_AFTER_DENIAL)
        self.answer_is_ours = is_local or answer["broadcast"]
        for name, slots in self.slots.items():
            slots.granted, slots.are_short = answer["slots"].get(name, 0), name in answer["short_of_slots"]
        self.reclaim = answer["reclaim"]
        self.breaker.update(now, answer["breaker"])
        self.mirror.update(now, answer)

    def _note_prefetch(self, now: float, answer: LeaseAnswer) -> None:
        prefetch, grants = self.prefetch, answer["grants"]
        for chunk in prefetch.chunks.values():
            if any(name in grants for name in chunk.asked_for):
                chunk.resize(now, grants)
            for name, units in chunk.asked_for.items():
                if units and name not in grants and name in self.balances:
                    self.balances[name].not_before = now + RETRY_AFTER_DENIAL
        if prefetch.state is _ASKED:
            prefetch.state = _IDLE

    @staticmethod
    def _denials(now: float, denied: Mapping[str, Sequence[Any]], retry_after: float) -> dict[str, LastDenial]:
        denials = [
            LastDenial(limit, now + max(wait, retry_after), now + retry_after) for limit, wait in denied.values()
        ]
        return {scope_in(denial.limit): denial for denial in denials}

    # Outages

    def disconnect(self, now: float, paused_for: float, *, confirmed: bool) -> None:
        """Begin a session with a local server: the one that all workers share does not answer."""
        is_live = now < self.expires_at
        in_hand = {name: balance.left if is_live else 0 for name, balance in self.balances.items()}
        nothing = Calls(Waiting(), {}, {}, (), paused_for)
        self._session.unacknowledged.append(self._build_report(now, nothing, idle=True))
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

    def reconnect(self, now: float, outage: Outage, uncounted: Mapping[str, float], *, refused: bool) -> None:
        """Resume the session with the server that all workers share, and charge it with the use meanwhile."""
        charge = outage.reconcile(now, self.mirror.used(now), uncounted, self.mirror.days_end_at())
        self._session = self._suspended
        self.pending.charge = {**charge}
        if not refused:
            self.pending.away = [self.mirror.server_time_at(outage.began_at), outage.workers]
        self.mirror.minute.reconnect(now)
        self.mirror.end_outage(outage)
        is_reported = self.breaker.state in REPORTED_STATES
        self.pending.breaker_trip = self.breaker.snapshot(now) if is_reported else None
        self.breaker.permits.clear()
        self._void_lease()

    def _void_lease(self) -> None:
        self.answer_due, self.prefetch.state = False, _IDLE
        self.expires_at, self.denials = -inf, {}

    def forked(self, worker: str) -> None:
        """Begin anew in a child process: the leases are the parent's."""
        self.worker = worker
        for balance in self.balances.values():
            balance.forget()
        self._session, self.seq, self.expires_at, self.outage = ServerSession(), 0, -inf, None
        self.pending = PendingReport(pause=self.pending.pause, breaker_trip=self.pending.breaker_trip)
        self.mirror.forget()
        self.mirror.minute.forked()
