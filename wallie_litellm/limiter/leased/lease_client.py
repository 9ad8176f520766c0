"""A process that borrows one provider's capacity: what it has on loan, what it tells the lender, what it is told.

The lender is :class:`~wallie_litellm.core.lease_server.LeaseServer`, in Redis or, while that is away, in this
process. This file knows no Redis: it composes what to say to the lender and takes in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import ceil, inf
from typing import Any

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState
from wallie_litellm.core.daily_quota import next_midnight
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS
from wallie_litellm.limiter.accounting import StoreAccounting
from wallie_litellm.limiter.leased.breaker_replica import BreakerReplica
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.local_lease_server import LocalLeaseServer
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import LimiterListener

LIFE = 3.0  # seconds that a loan lives without a word to the lender
SAFETY = 0.98  # of that, the part for which it is spent: clocks do not run equally fast
QUIET = 0.2  # seconds without asking again after a refusal, unless there is news
MOST_CHUNK = 4096  # requests' worth of a loan
QUICK = 0.5  # seconds: a chunk that is spent sooner was too small
IDLE = 1.0  # seconds without spending after which a loan goes back
WANTED, ASKED = 1, 2
ANOTHER_TIME = 1_000_000  # generations of a breaker: what ends later must not be taken for its present one's
TELLING = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN, BreakerState.DISABLED)

Exchange = Callable[[float, Mapping[str, Any]], dict[str, Any]]


class LeaseClient(StoreAccounting):
    """Buckets and counters mirror what the lender last said; purses hold what it has lent."""

    def __init__(
        self,
        name: str,
        limits: AccountLimits,
        rules: BreakerRules,
        wall: Callable[[], float],
        levels: Mapping[str, float] | None = None,
        listener: LimiterListener | None = None,
        *,
        worker: str = "worker",
        exchange: Exchange | None = None,
    ) -> None:
        super().__init__(name, limits, levels, listener)
        self.breaker = BreakerReplica(rules)
        self.worker = worker
        self.workers = 1
        #: Called, under the limiter's lock, when the lender should be asked soon.
        self.on_renewal_due: Callable[[], None] = lambda: None
        #: The refusal in place of capacity while the store is away, if any.
        self.closed = False
        self._exchange = exchange  # a lender that answers at once
        self._wall = wall
        self.caused = True  # what the lender said last was brought about by this process
        self.skew = 0.0  # seconds that the lender's clock is ahead of ours
        self._rules = asdict(rules)
        self._balances = {name: LeaseBalance(int(DIMENSION_KINDS[name])) for name in (*self._buckets, *self._days)}
        self._hot = tuple((purse, purse.kind) for purse in self._balances.values())
        self._lent = dict.fromkeys(self._balances, 0.0)
        self._free = False  # nothing is counted: `on_store_error: open`
        self._ends = -inf
        self._lease = 0
        self._seq = 0
        self._ack = 0
        self._unconfirmed: list[dict[str, Any]] = []
        self._seeded = False
        self._founder = False  # the lender knew nothing before it heard of this process
        self._seed: dict[str, float] = {}
        self._first_sight = True
        self._charge: dict[str, float] = {}
        self._refunds: list[tuple[str, int, float]] = []
        self._resets = 0
        self._new_pause = False
        self._places = 0
        self._hungry = False
        self._squeezed = False
        self._awaiting = False  # an answer that lets in whoever waits, if anything does
        self._quiet_until = -inf
        self._blocked: tuple[str, float] = ("", -inf)
        self._chunk = 4.0
        self._wanted: Mapping[str, int] = {}  # beyond need, when the lender was last asked
        self._mean = [1.0, 0.0, 0.0, 0.0]
        self._lent_at = -inf
        self._spent_at = -inf
        self._granted_at = -inf
        self._low = 0  # more should be asked for, before anybody has to wait for it: 0, WANTED or ASKED
        self._prefetch_at = -inf
        self._trip: dict[str, Any] | None = None  # the breaker's state, if it opened while the lender was away
        self._absent: tuple[list[dict[str, Any]], int, int] = ([], 0, 0)
        self._parting: dict[str, float] | None = None  # the fleet's use when the lender left; None since it answered
        self._part: dict[str, float] = {}  # then: when our part of a rate is there again, what is missing of a day's
        self._day_ends: dict[str, float] = {}  # of the days in it
        self._own: tuple[float, dict[str, float]] = (-inf, {})  # when the lender was last thought back: our part
        self._charged: dict[str, float] = {}  # of what was used without the lender, the part that it is being told
        self._owed: dict[str, int] = {}  # used while nothing was counted

    def _trade(self, now: float, demand: Demand) -> bool:
        """Ask the lender: at once where it answers at once, which is what is returned."""
        if now < self._quiet_until or self._awaiting:
            return False
        self._mean = list(map(max, self._mean, demand))  # a chunk is to hold several of these
        if self._exchange is None:
            self._low = self._low or WANTED
            self.on_renewal_due()
            return False
        self.exchange_now(now, demand)
        return True

    def exchange_now(self, now: float, demand: Demand | None = None, queued: Demand = NOTHING) -> None:
        """Settle with a lender that answers at once."""
        assert self._exchange is not None, "only asked of such"  # noqa: S101 - narrows the type
        # Without patience nothing is lent of the future: asking again costs nothing here.
        if not self.apply_grant(now, now, self._exchange(now, self.compose(now, demand, queued, 0.0))):
            self.apply_grant(now, now, self._exchange(now, self.compose(now, demand, queued, 0.0)))

    def _settle_soon(self, now: float) -> None:
        if self._exchange is not None:
            self.exchange_now(now)
        else:
            self.on_renewal_due()

    def _run_out(self) -> None:
        """The loan's time is up: what is left is not spent any more."""
        for purse in self._balances.values():
            purse.give_up()

    # What is said to the lender

    def compose(self, now: float, head: Demand | None = None, queued: Demand = NOTHING, patience: float = inf) -> Any:
        """What to tell the lender, and what to ask of it: for ``head`` now, and for all who are ``queued``."""
        if now >= self._ends:
            self._run_out()
        self._roll(now)
        if head is None:
            self.breaker.give_back_permits(now)
        idle = head is None and not self._low and now - self._spent_at > IDLE
        waiting = queued if queued.requests else head or NOTHING
        spare = 0 if self._hungry or idle else max(1, len(self._live) // 4)
        self._unconfirmed.append(self._report_of(now, waiting, idle))
        request: dict[str, Any] = {
            "worker": self.worker,
            "ack": self._ack,
            "ttl": LIFE,
            "buckets": {name: [60.0 / bucket.cost, bucket.capacity] for name, bucket in self._buckets.items()},
            "days": self._day_terms(),
            "rules": self._rules,
            "reports": self._unconfirmed,
            "patience": min(patience, 1e9),
            "queued": {name: waiting[purse.kind] for name, purse in self._balances.items()},
            "live": len(self._live),
            "places": len(self._live) + (waiting.requests if head else 0) + spare,
            "probe": head is not None and self.breaker.needs_permit(now),
        }
        if self._concurrency is not None:
            request["slots"] = self._concurrency
        self._awaiting = head is not None and self._exchange is None
        need = {}
        if head is not None and now >= self.paused_until:
            need = {
                name: head[purse.kind] - purse.left
                for name, purse in self._balances.items()
                if head[purse.kind] > purse.left
            }
        if need:
            request["need"] = need
        if (need or self._low) and not idle and not self._squeezed and self._exchange is None:
            self._low = ASKED
            request["want"] = {name: self._want(purse, waiting) for name, purse in self._balances.items()}
        self._wanted = request.get("want", {})
        if self._seeded:
            request["seed"] = {
                "used": {**self._known_use(now), **self._seed},
                "pause": max(0.0, self.paused_until - now),
                "breaker": self.breaker.memory(now),
            }
        return request

    def _want(self, purse: LeaseBalance, waiting: Demand) -> int:
        chunk = ceil(self._chunk * max(self._mean[purse.kind], 1.0 if purse.kind == 0 else 0.0))
        return max(0, max(chunk, waiting[purse.kind]) - purse.left)

    def _report_of(self, now: float, waiting: Demand, idle: bool) -> dict[str, Any]:
        self._seq += 1  # each has its own: the lender takes every number in once
        outcomes, orders = self.breaker.report()
        spent = {name: purse.spent for name, purse in self._balances.items() if purse.spent}
        for name, purse in self._balances.items():
            requests = spent.get("rpm", spent.get("rpd", 0))
            if requests:
                self._mean[purse.kind] += 0.3 * (spent.get(name, 0) / requests - self._mean[purse.kind])
        if idle or self._squeezed:
            for purse in self._balances.values():
                purse.give_up(0 if idle else waiting[purse.kind])
        report = {
            "seq": self._seq,
            "lease": self._lease,
            "spent": spent,
            "back": {name: purse.back for name, purse in self._balances.items() if purse.back},
            "charge": {name: amount for name, amount in self._charge.items() if amount},
            "refunds": [[name, amount, now - at] for name, amount, at in self._refunds],
            "outcomes": outcomes,
            "orders": orders,
            "pause": max(0.0, self.paused_until - now) if self._new_pause else 0.0,
            "reset": self._resets > 0,
        }
        if self._trip is not None:
            report["trip"], self._trip = self._trip, None
        for purse in self._balances.values():
            purse.spent = purse.back = 0
        self._charge, self._refunds, self._resets, self._new_pause = {}, [], 0, False
        self._lent_at = now  # what was spent before is reported
        return report

    def _roll(self, now: float) -> None:
        """Begin a new day where the lender's midnight has passed, though it has not said so yet."""
        for name, counter in self._days.items():
            if now >= counter.resets_at:
                self._new_day(name, counter.resets_at)
                wall = self._wall() + self.skew
                counter.resets_at = now + next_midnight(wall, self.limits.reset_timezone) - wall

    def _new_day(self, name: str, began: float) -> None:
        self._days[name].reset(began)
        for meter in self._meters:
            if meter.dimension == name:
                meter.restart()

    def _day_terms(self) -> dict[str, list[float]]:
        if not self._days:
            return {}
        midnight = next_midnight(self._wall() + self.skew, self.limits.reset_timezone)
        return {name: [counter.limit, midnight] for name, counter in self._days.items()}

    def _known_use(self, now: float) -> dict[str, float]:
        return {
            **{name: bucket.used(now) for name, bucket in self._buckets.items()},
            **{name: float(counter.used) for name, counter in self._days.items()},
        }

    # What the lender answers

    def apply_grant(self, now: float, sent_at: float, answer: Mapping[str, Any]) -> bool:
        """Take in an answer to what was composed at ``sent_at``; ``False`` if it has to be asked again."""
        self._awaiting = False
        if not answer["known"]:
            self._seeded = True
            for purse in self._balances.values():
                purse.give_up()  # nobody knows of this loan any more
                purse.back = 0
            return False
        self._founder = self._founder or self._seeded
        self._seeded, self._seed = False, {}
        if self._exchange is None:
            self._parting = None
        self._unconfirmed = [report for report in self._unconfirmed if report["seq"] > answer["seq"]]
        self._ack = answer["seq"]
        if answer["lease"] != self._lease:
            self._lease = answer["lease"]
            for purse in self._balances.values():
                purse.empty()
        self._ends = max(self._ends, sent_at + answer["lives"] * SAFETY)
        if answer["grants"] and self._wanted:  # of ourselves, while the lender is away, nothing is wanted
            self._size_chunk(now, answer["grants"])
        elif self._low == ASKED:
            self._prefetch_at = now + QUIET
        if self._low == ASKED:
            self._low = 0
        for name, (amount, at_once, delay) in answer["grants"].items():
            bucket = self._buckets.get(name)
            purse = self._balances[name]
            purse.add(now, int(amount), at_once, delay, 1 / bucket.cost if bucket else inf)
            purse.low = purse.left / 4 if at_once == amount else 0.0
        blocked = answer.get("blocked")
        if blocked is None:
            self._blocked, self._quiet_until = ("", -inf), -inf
        else:
            self._blocked = (blocked[0], now + max(blocked[1], QUIET if self._exchange is None else 0.0))
            self._quiet_until = now + (QUIET if self._exchange is None else 0.0)
        self.skew = float(answer["now"]) - self._wall()
        self.caused = self._exchange is not None or answer["news"]
        self.epoch, self.workers = answer["epoch"], answer["workers"]
        self._places, self._hungry, self._squeezed = answer["places"], answer["hungry"], answer["squeezed"]
        if not self._new_pause:
            self.paused_until = now + answer["pause"] if answer["pause"] > 0 else -inf
        self.breaker.learn(now, answer["breaker"])
        self._mirror(now, answer)
        if self._squeezed and any(purse.left for purse in self._balances.values()):
            self.on_renewal_due()
        return True

    def _size_chunk(self, now: float, grants: Mapping[str, Any]) -> None:
        since, self._granted_at = now - self._granted_at, now
        if any(name not in grants or grants[name][0] < wanted for name, wanted in self._wanted.items() if wanted):
            # Something is scarce: that it is soon spent says nothing of how much to have of the rest.
            self._chunk = max(self._chunk / 2, 4.0)
        elif since < QUICK:
            self._chunk = min(self._chunk * 2, MOST_CHUNK)
        elif since > 4 * QUICK:
            self._chunk = max(self._chunk / 2, 4.0)

    def _mirror(self, now: float, answer: Mapping[str, Any]) -> None:
        before = {meter.dimension: meter.used(now) for meter in self._meters}
        for name, bucket in self._buckets.items():
            bucket.full_at = now + answer["used"][name] * bucket.cost
        for name, counter in self._days.items():
            ends = now + answer["ends"][name]
            if inf > ends > counter.resets_at + 1:
                self._new_day(name, now)
            counter.used = int(answer["used"][name])
            counter.resets_at = ends
        self._lent = answer["lent"]
        for meter in self._meters:
            if self._first_sight:
                meter.announce(now, inf)  # whoever used that much has said so
            else:
                self._report(meter, now, min(before[meter.dimension], meter.used(now)))
        self._first_sight = False

    def build_release(self, now: float) -> Any:
        """:meth:`compose`, with everything that is left given back."""
        for purse in self._balances.values():
            purse.give_up()
        return self.compose(now)

    def forked(self, worker: str) -> None:
        """Begin anew in a child process: what the parent has on loan is the parent's."""
        self.worker = worker
        for purse in self._balances.values():
            purse.empty()
        self._live.clear()
        self._unconfirmed, self._ack, self._lease, self._seq = [], 0, 0, 0
        self._charge, self._refunds, self._resets, self._exchange = {}, [], 0, None
        self._ends, self.closed, self._free, self._first_sight, self._parting = -inf, False, False, True, None

    # While the lender that all share is away

    def lease_server_lost(self, now: float, policy: str) -> None:
        """Go on alone: with this process's share of the limits, with none (``open``), or not at all (``closed``)."""
        in_hand = {name: purse.left if now < self._ends else 0 for name, purse in self._balances.items()}
        self._unconfirmed.append(self._report_of(now, NOTHING, idle=True))
        self._absent = (self._unconfirmed, self._ack, self._lease)
        self._awaiting, self._low = False, 0
        self._unconfirmed, self._ack, self._lease, self._seeded = [], 0, 0, True
        self.closed, self._free, self._owed = policy == "closed", policy != "local", {}
        if self._parting is None:
            self._parting = {name: bucket.full_at for name, bucket in self._buckets.items()}
            self._parting |= {name: float(counter.used) for name, counter in self._days.items()}
            self._day_ends = {name: counter.resets_at for name, counter in self._days.items()}
            self._charged = {}
            self._part = self._part_at_parting(now, in_hand)
            self._seed = self._inherited(now)
        else:  # the lender seemed to be back, but never answered
            back_at, own = self._own
            refill = {name: (now - back_at) / bucket.cost / self.workers for name, bucket in self._buckets.items()}
            self._seed = {name: max(0.0, used - refill.get(name, 0.0)) for name, used in own.items()}
        alone = LocalLeaseServer(self.workers, self.breaker.generation + ANOTHER_TIME, counting=policy == "local")
        self._exchange = lambda now, request: alone.exchange(now, request, self._wall() + self.skew)
        self._ends, self._quiet_until, self._blocked = -inf, -inf, ("", -inf)
        self.exchange_now(now)

    def lease_server_found(self, now: float) -> None:
        """Tell the lender that all share what was used without it, and ask it again from now on."""
        for purse in self._balances.values():
            purse.give_up()
        self._low = 0
        self.exchange_now(now)
        own, inherited = self._known_use(now), self._inherited(now)
        owed: dict[str, float] = {
            name: used - inherited[name] - self._charged.get(name, 0) for name, used in own.items()
        }
        self._own = (now, own)
        for name, uncounted in self._owed.items():
            bucket = self._buckets.get(name)
            owed[name] = min(uncounted, bucket.capacity) if bucket else uncounted
        self._unconfirmed, self._ack, self._lease = self._absent
        self._exchange, self.closed, self._free, self._owed = None, False, False, {}
        self._ends, self._quiet_until, self._blocked = -inf, -inf, ("", -inf)
        self._charge = {name: ceil(amount) for name, amount in owed.items() if amount > 0}
        for name, amount in self._charge.items():
            self._charged[name] = self._charged.get(name, 0) + amount
        self._remember()
        self._trip = self.breaker.memory(now) if self.breaker.state in TELLING else None
        self.breaker.permits.clear()
        self.on_renewal_due()

    def _part_at_parting(self, now: float, in_hand: Mapping[str, int]) -> dict[str, float]:
        """What is missing of this process's part of the limits: of a rate, when that will be there again.

        What others have on loan is as good as used; what is in hand here, and goes back, may be spent all the same.
        """
        known = self._known_use(now)
        missing = {
            name: max(0.0, (known[name] + self._lent[name]) / self.workers - in_hand[name]) for name in self._balances
        }
        for name, bucket in self._buckets.items():
            missing[name] = now + missing[name] * bucket.cost * self.workers
        return missing

    def _inherited(self, now: float) -> dict[str, float]:
        """What is still missing of this process's part because of what the fleet had used when the lender left."""
        return {
            **{
                name: max(0.0, self._part.get(name, now) - now) / bucket.cost / self.workers
                for name, bucket in self._buckets.items()
            },
            **{name: 0.0 if self._is_new_day(name) else self._part.get(name, 0.0) for name in self._days},
        }

    def _is_new_day(self, name: str) -> bool:
        return self._days[name].resets_at > self._day_ends.get(name, inf) + 1

    def _remember(self) -> None:
        """Take the fleet's use for what it was when the lender left: a lender without memory is told of that."""
        parting = self._parting or {}
        for name, bucket in self._buckets.items():
            bucket.full_at = parting.get(name, bucket.full_at)
        for name, counter in self._days.items():
            counter.used = 0 if self._is_new_day(name) else int(parting.get(name, counter.used))
