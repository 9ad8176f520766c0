"""One provider's state where a fleet shares it: spent from a loan, settled with the lender now and then.

The lender is :class:`~wallie_litellm.core.sharing.SharedProvider`, in Redis or, while that is away, in this process.
This file knows no Redis: it composes what to say to the lender and takes in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from math import ceil, inf
from typing import Any

from wallie_litellm.core.breaker import BreakerRules, BreakerState
from wallie_litellm.core.day import next_midnight
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS
from wallie_litellm.core.sharing import SharedProvider
from wallie_litellm.stores.base import CIRCUIT, LEASE, PAUSED, UNREACHABLE, DimensionUse, Hurdle, Reservation
from wallie_litellm.stores.books import Books
from wallie_litellm.stores.limits import Limits
from wallie_litellm.stores.purse import Purse
from wallie_litellm.stores.shared_breaker import SharedBreaker

_CLOSED = BreakerState.CLOSED

LIFE = 3.0  # seconds that a loan lives without a word to the lender
SAFETY = 0.98  # of that, the part for which it is spent: clocks do not run equally fast
SOON = 0.05  # seconds; capacity that is expected sooner is asked for rather than waited for
QUIET = 0.2  # seconds without asking again after a refusal, unless there is news
MOST_CHUNK = 4096  # requests' worth of a loan
QUICK = 0.5  # seconds: a chunk that is spent sooner was too small
IDLE = 1.0  # seconds without spending after which a loan goes back
ANOTHER_TIME = 1_000_000  # generations of a breaker: what ends later must not be taken for its present one's
TELLING = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.FORCED_OPEN, BreakerState.DISABLED)
RETRY = 1.0  # seconds to say when the store is away and `on_store_error` is `closed`

Exchange = Callable[[float, Mapping[str, Any]], dict[str, Any]]


class LeasedProvider(Books):
    """See :class:`~wallie_litellm.stores.base.ProviderStore`. Buckets and counters mirror what the lender last said."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        rules: BreakerRules,
        wall: Callable[[], float],
        levels: Mapping[str, float] | None = None,
        *,
        worker: str = "worker",
        exchange: Exchange | None = None,
    ) -> None:
        super().__init__(name, limits, levels)
        self.breaker = SharedBreaker(rules)
        self.worker = worker
        self.epoch = 0
        self.workers = 1
        #: Called, under the limiter's lock, when the lender should be asked soon.
        self.on_need: Callable[[], None] = lambda: None
        #: The refusal in place of capacity while the store is away, if any.
        self.closed = False
        self._exchange = exchange  # a lender that answers at once
        self._wall = wall
        self.caused = True  # what the lender said last was brought about by this process
        self.skew = 0.0  # seconds that the lender's clock is ahead of ours
        self._rules = asdict(rules)
        self._purses = {name: Purse(int(DIMENSION_KINDS[name])) for name in (*self._buckets, *self._days)}
        self._hot = tuple((purse, purse.kind) for purse in self._purses.values())
        self._lent = dict.fromkeys(self._purses, 0.0)
        self._free = False  # nothing is counted: `on_store_error: open`
        self._ends = -inf
        self._lease = 0
        self._seq = 0
        self._ack = 0
        self._unconfirmed: list[dict[str, Any]] = []
        self._seeded = False
        self._seed: dict[str, float] = {}
        self._first_sight = True
        self._charge: dict[str, float] = {}
        self._refunds: list[tuple[str, int, float]] = []
        self._resets = 0
        self._new_pause = False
        self._places = 0
        self._hungry = False
        self._squeezed = False
        self._asking = False
        self._quiet_until = -inf
        self._blocked: tuple[str, float] = ("", -inf)
        self._chunk = 4.0
        self._mean = [1.0, 0.0, 0.0, 0.0]
        self._lent_at = -inf
        self._spent_at = -inf
        self._granted_at = -inf
        self._low = False  # more has been asked for, before anybody had to wait for it
        self._prefetch_at = -inf
        self._trip: dict[str, Any] | None = None  # the breaker's state, if it opened while the lender was away
        self._lender = SharedProvider()
        self._absent: tuple[list[dict[str, Any]], int, int] = ([], 0, 0)
        self._begun_with: dict[str, float] = {}
        self._owed: dict[str, int] = {}  # used while nothing was counted

    # Taking

    def reserve(self, now: float, demand: Demand) -> Reservation | Hurdle:
        """Take all of ``demand`` or nothing."""
        breaker = self.breaker
        if now < self.paused_until or breaker.state is not _CLOSED or self._concurrency is not None or self.closed:
            obstacle = self._obstacle(now, demand)
            if obstacle is not None:
                return obstacle
        if not self._free:
            if now >= self._ends:
                self._run_out()
            for purse, kind in self._hot:
                amount = demand[kind]
                if purse.ready < amount and not purse.has(now, amount):
                    short = self._short(now, demand)
                    if short is not None:
                        return short
                    break
            low = False
            for purse, kind in self._hot:
                amount = demand[kind]
                purse.ready -= amount
                purse.left -= amount
                purse.spent += amount
                if purse.left < purse.low:
                    low = True
            if low and not self._low and now >= self._prefetch_at:
                self._low = True
                self._ask()
        else:
            for name, purse in self._purses.items():
                self._owed[name] = self._owed.get(name, 0) + demand[purse.kind]
        self._spent_at = now
        for kind in self._token_kinds:
            self._held[kind] += demand[kind]
        self._reserved.add(demand)
        probe = 0 if breaker.state is _CLOSED else breaker.enter(now)
        reservation = Reservation(demand, now, breaker.generation, probe)
        self._live[reservation] = None
        return reservation

    def _obstacle(self, now: float, demand: Demand) -> Hurdle | None:
        """What stands in the way besides what can be lent."""
        worst = self._too_large(demand)
        if worst is not None:
            return worst
        if self.closed:
            return Hurdle(UNREACHABLE, RETRY)
        blocked = self.breaker.wait(now)
        if blocked > 0:
            return Hurdle(CIRCUIT, blocked)
        if now < self.paused_until:
            return Hurdle(PAUSED, self.paused_until - now)
        if self.breaker.needs_permit(now):
            if self._trade(now, demand):
                return self._obstacle(now, demand)
            return Hurdle(LEASE, 0.0)
        if self._concurrency is not None and len(self._live) >= self._places:
            if self._trade(now, demand) and len(self._live) < self._places:
                return None
            return Hurdle("concurrency", 1e-3) if self._hungry else Hurdle(LEASE, 0.0)
        return None

    def _short(self, now: float, demand: Demand) -> Hurdle | None:
        """The loan does not cover ``demand``: ask for more, or say how long it takes; ``None`` if it does now."""
        worst = self._too_large(demand)
        if worst is not None:
            return worst
        if any(purse.left < demand[kind] for purse, kind in self._hot):
            if self._trade(now, demand) and all(purse.has(now, demand[kind]) for purse, kind in self._hot):
                return None
            reason, wait = self._forecast(now, demand)
            if self._exchange is not None or now < self._quiet_until:
                return Hurdle(reason or LEASE, max(wait, self._quiet_until - now, 1e-6))
            return Hurdle(reason, wait) if wait > SOON else Hurdle(LEASE, 0.0)
        reason, wait = self._forecast(now, demand)
        return Hurdle(reason, max(wait, 1e-6))

    def _trade(self, now: float, demand: Demand) -> bool:
        """Ask the lender: at once where it answers at once, which is what is returned."""
        if now < self._quiet_until:
            return False
        if self._exchange is None:
            self._ask()
            return False
        self.exchange_now(now, demand)
        return True

    def exchange_now(self, now: float, demand: Demand | None = None, queued: Demand = NOTHING) -> None:
        """Settle with a lender that answers at once."""
        assert self._exchange is not None, "only asked of such"  # noqa: S101 - narrows the type
        if not self.take_in(now, now, self._exchange(now, self.compose(now, demand, queued))):
            self.take_in(now, now, self._exchange(now, self.compose(now, demand, queued)))

    def _ask(self) -> None:
        self._asking = True
        self.on_need()

    def hurdle(self, now: float, demand: Demand, ahead: Demand) -> Hurdle | None:
        """What keeps ``demand`` from being admitted now, once ``ahead`` has been served; the longest wait wins."""
        worst = self._too_large(demand)
        if worst is not None:
            return worst
        if self.closed:
            return Hurdle(UNREACHABLE, RETRY)
        blocked = self.breaker.wait(now)
        if blocked > 0:
            return Hurdle(CIRCUIT, blocked)
        waits = [(self.paused_until - now, PAUSED)]
        if not self._free:
            reason, wait = self._forecast(now, demand.plus(ahead))
            waits.append((wait, reason))
        if self._concurrency is not None:
            taken = len(self._live) + ahead.requests >= (self._places if self._hungry else self._concurrency)
            waits.append((1e-3 if taken else 0.0, "concurrency"))
        wait, reason = max(waits)
        return Hurdle(reason, wait) if wait > 0 else None

    def _forecast(self, now: float, demand: Demand) -> tuple[str, float]:
        """The limit that is longest in the way of ``demand``, by what was last heard, and for how many seconds."""
        worst = ("", 0.0)
        lives = now < self._ends
        for name, purse in self._purses.items():
            amount = demand[purse.kind]
            if lives and purse.left >= amount:
                wait = purse.ready_in(now, amount)
            else:
                wait = self._wait_for_loan(now, name, amount - (purse.left if lives else 0))
            if wait > worst[1]:
                worst = (name, wait)
        name, until = self._blocked
        if until - now > worst[1]:
            return name, until - now
        return worst

    def _wait_for_loan(self, now: float, name: str, amount: float) -> float:
        bucket = self._buckets.get(name)
        if bucket is not None:
            short = max(0.0, bucket.full_at - now) + (self._lent[name] + amount) * bucket.cost - bucket.depth
            return max(0.0, short)
        counter = self._days[name]
        return 0.0 if counter.used + amount <= counter.limit else max(0.0, counter.resets_at - now)

    # Giving back

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by what was used; ``False`` when it had been settled before."""
        if not self._book(reservation, charged):
            return False
        demand = reservation.demand
        if charged != demand:
            for name, purse in self._purses.items():
                delta = charged[purse.kind] - demand[purse.kind]
                if delta > 0:
                    self._charge[name] = self._charge.get(name, 0) + delta
                elif delta:
                    self._refund(now, name, purse, -delta, reservation.at)
        if self._concurrency is not None and self._hungry:
            self._settle_soon(now)
        return True

    def told(self, now: float) -> None:
        """The breaker has been told how a call ended, or what the operator wants."""
        if self.breaker.urgent:
            self._settle_soon(now)

    def _refund(self, now: float, name: str, purse: Purse, amount: int, at: float) -> None:
        counter = self._days.get(name)
        if counter is not None and at < counter.started_at:
            return
        if at >= self._lent_at and now < self._ends:  # spent from what is still in hand and not yet reported
            amount -= purse.unspend(amount)
        if amount:
            self._refunds.append((name, amount, at))

    def consume(self, now: float, amount: Demand) -> None:
        """Charge an amount that was used without a reservation."""
        for name, purse in self._purses.items():
            self._charge[name] = self._charge.get(name, 0) + amount[purse.kind]
        self._reserved.add(amount)
        self._settled.add(amount)
        self._settle_soon(now)

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""
        if until > self.paused_until:
            self.paused_until = until
            self._new_pause = True
            self._ask()

    def reset(self, now: float) -> None:
        """Forget what was used and any pause."""
        self.paused_until = -inf
        self._new_pause = False
        self._resets += 1
        self._charge.clear()
        self._refunds.clear()
        self._quiet_until, self._blocked = -inf, ("", -inf)
        for bucket in self._buckets.values():
            bucket.reset()
        for counter in self._days.values():
            counter.reset(now)
        for purse in self._purses.values():
            purse.spent = 0
        for gauge in self._gauges:
            gauge.restart()
        self._settle_soon(now)

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]]) -> None:
        """What was used before this process began: for a lender that knows nothing yet."""
        oldest_first = sorted(recent, key=lambda use: -use[0])
        for name, bucket in self._buckets.items():
            missing = bucket.capacity
            last = self.memory
            for age, amount in oldest_first:
                missing = max(0.0, missing - (last - age) / bucket.cost) + amount.of(name)
                last = age
            self._seed[name] = max(0.0, missing - last / bucket.cost)
        for name in self._days:
            self._seed[name] = day.of(name)
        self._settle_soon(now)

    def _settle_soon(self, now: float) -> None:
        if self._exchange is not None:
            self.exchange_now(now)
        else:
            self._ask()

    def use(self, now: float) -> dict[str, DimensionUse]:
        """How much of each configured dimension is used, by what was last heard and what was spent here since."""
        use = super().use(now)
        for name, purse in self._purses.items():
            unreported = purse.spent + self._charge.get(name, 0)
            if unreported:
                use[name] = use[name]._replace(used=use[name].used + unreported)
        return use

    # What is said to the lender

    @property
    def urgent(self) -> bool:
        """Whether there is something to say or to ask."""
        return self._asking

    def compose(self, now: float, head: Demand | None = None, queued: Demand = NOTHING, patience: float = inf) -> Any:
        """What to tell the lender, and what to ask of it: for ``head`` now, and for all who are ``queued``."""
        self._asking = False
        if now >= self._ends:
            self._run_out()
        if head is None:
            self.breaker.give_back_permits(now)
        idle = head is None and now - self._spent_at > IDLE
        waiting = queued if queued.requests else head or NOTHING
        spare = 0 if self._hungry or idle else max(1, len(self._live) // 4)
        self._seq += 1
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
            "queued": {name: waiting[purse.kind] for name, purse in self._purses.items()},
            "live": len(self._live),
            "places": len(self._live) + (waiting.requests if head else 0) + spare,
            "probe": head is not None and self.breaker.needs_permit(now),
        }
        if self._concurrency is not None:
            request["slots"] = self._concurrency
        need = {}
        if head is not None and now >= self.paused_until:
            need = {
                name: head[purse.kind] - purse.left
                for name, purse in self._purses.items()
                if head[purse.kind] > purse.left
            }
        if need:
            request["need"] = need
        if (need or self._low) and not idle and not self._squeezed:
            request["want"] = {name: self._want(purse) for name, purse in self._purses.items()}
        if self._seeded:
            request["seed"] = {
                "used": {**self._known_use(now), **self._seed},
                "pause": max(0.0, self.paused_until - now),
                "breaker": self.breaker.memory(now),
            }
        return request

    def _want(self, purse: Purse) -> int:
        return max(0, ceil(self._chunk * max(self._mean[purse.kind], 1.0 if purse.kind == 0 else 0.0)) - purse.left)

    def _report_of(self, now: float, waiting: Demand, idle: bool) -> dict[str, Any]:
        outcomes, orders = self.breaker.report()
        spent = {name: purse.spent for name, purse in self._purses.items() if purse.spent}
        for name, purse in self._purses.items():
            requests = spent.get("rpm", spent.get("rpd", 0))
            if requests:
                self._mean[purse.kind] += 0.3 * (spent.get(name, 0) / requests - self._mean[purse.kind])
        if idle or self._squeezed:
            for purse in self._purses.values():
                purse.give_up(0 if idle else waiting[purse.kind])
        report = {
            "seq": self._seq,
            "lease": self._lease,
            "spent": spent,
            "back": {name: purse.back for name, purse in self._purses.items() if purse.back},
            "charge": {name: amount for name, amount in self._charge.items() if amount},
            "refunds": [[name, amount, now - at] for name, amount, at in self._refunds],
            "outcomes": outcomes,
            "orders": orders,
            "pause": max(0.0, self.paused_until - now) if self._new_pause else 0.0,
            "reset": self._resets > 0,
        }
        if self._trip is not None:
            report["trip"], self._trip = self._trip, None
        for purse in self._purses.values():
            purse.spent = purse.back = 0
        self._charge, self._refunds, self._resets, self._new_pause = {}, [], 0, False
        self._lent_at = now  # what was spent before is reported
        return report

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

    def take_in(self, now: float, sent_at: float, answer: Mapping[str, Any]) -> bool:
        """Take in an answer to what was composed at ``sent_at``; ``False`` if it has to be asked again."""
        if not answer["known"]:
            self._seeded = True
            for purse in self._purses.values():
                purse.give_up()  # nobody knows of this loan any more
                purse.back = 0
            return False
        self._seeded, self._seed = False, {}
        self._unconfirmed = [report for report in self._unconfirmed if report["seq"] > answer["seq"]]
        self._ack = answer["seq"]
        if answer["lease"] != self._lease:
            self._lease = answer["lease"]
            for purse in self._purses.values():
                purse.empty()
        self._ends = max(self._ends, sent_at + answer["lives"] * SAFETY)
        if answer["grants"]:
            self._size_chunk(now)
        elif self._low:
            self._prefetch_at = now + QUIET
        self._low = False
        for name, (amount, at_once, delay) in answer["grants"].items():
            bucket = self._buckets.get(name)
            purse = self._purses[name]
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
        if self._squeezed and any(purse.left for purse in self._purses.values()):
            self._ask()
        return True

    def _size_chunk(self, now: float) -> None:
        since, self._granted_at = now - self._granted_at, now
        if since < QUICK:
            self._chunk = min(self._chunk * 2, MOST_CHUNK)
        elif since > 4 * QUICK:
            self._chunk = max(self._chunk / 2, 4.0)

    def _mirror(self, now: float, answer: Mapping[str, Any]) -> None:
        before = {gauge.dimension: gauge.used(now) for gauge in self._gauges}
        for name, bucket in self._buckets.items():
            bucket.full_at = now + answer["used"][name] * bucket.cost
        for name, counter in self._days.items():
            ends = now + answer["ends"][name]
            if ends > counter.resets_at + 1:
                counter.reset(now)
                for gauge in self._gauges:
                    if gauge.dimension == name:
                        gauge.restart()
            counter.used = int(answer["used"][name])
            counter.resets_at = ends
        self._lent = answer["lent"]
        for gauge in self._gauges:
            if self._first_sight:
                gauge.news(now, inf)  # whoever used that much has said so
            else:
                self._report(gauge, now, min(before[gauge.dimension], gauge.used(now)))
        self._first_sight = False

    def _run_out(self) -> None:
        """The loan's time is up: the lender charges all of it."""
        for purse in self._purses.values():
            purse.give_up()

    def forked(self, worker: str) -> None:
        """Begin anew in a child process: what the parent has on loan is the parent's."""
        self.worker = worker
        for purse in self._purses.values():
            purse.empty()
        self._live.clear()
        self._unconfirmed, self._ack, self._lease, self._seq = [], 0, 0, 0
        self._charge, self._refunds, self._resets, self._exchange = {}, [], 0, None
        self._ends, self.closed, self._free, self._first_sight = -inf, False, False, True

    # While the lender that all share is away

    def lender_gone(self, now: float, policy: str) -> None:
        """Go on alone: with this process's share of the limits, with none (``open``), or not at all (``closed``)."""
        self._unconfirmed.append(self._report_of(now, NOTHING, idle=True))
        self._absent = (self._unconfirmed, self._ack, self._lease)
        self._unconfirmed, self._ack, self._lease, self._seeded = [], 0, 0, True
        self.closed, self._free, self._owed = policy == "closed", policy != "local", {}
        self._seed = {name: used / self.workers for name, used in self._known_use(now).items()}
        self._begun_with = dict(self._seed)
        self._lender = SharedProvider()
        self._lender.breaker.generation = self.breaker.generation + ANOTHER_TIME
        self._exchange = self._alone
        self._ends, self._quiet_until, self._blocked = -inf, -inf, ("", -inf)
        self.exchange_now(now)

    def _alone(self, now: float, request: Mapping[str, Any]) -> dict[str, Any]:
        share = 0 if self._free else 1 / self.workers
        request = dict(request)
        request["buckets"] = {
            name: [rate * share, max(1.0, capacity * share)]
            for name, (rate, capacity) in request["buckets"].items()
            if share
        }
        request["days"] = {
            name: [max(1, int(limit * share)), ends - self._wall() - self.skew + now]
            for name, (limit, ends) in request["days"].items()
            if share
        }
        if "slots" in request:
            request["slots"] = max(1, int(request["slots"] * share)) if share else 10**9
        answer = self._lender.exchange(now, request)
        answer["now"] = self._wall() + self.skew
        answer.setdefault("used", {}), answer.setdefault("ends", {})
        for name in self._purses:
            answer["used"].setdefault(name, 0.0)
        for name in self._days:
            answer["ends"].setdefault(name, self._days[name].resets_at - now)
        answer["lent"] = {**dict.fromkeys(self._purses, 0.0), **answer.get("lent", {})}
        answer["workers"] = self.workers
        return answer

    def lender_back(self, now: float) -> None:
        """Tell the lender that all share what was used without it, and ask it again from now on."""
        for purse in self._purses.values():
            purse.give_up()
        self.exchange_now(now)
        used = self._known_use(now)
        owed = {name: max(0.0, used[name] - self._begun_with.get(name, 0.0)) for name in self._days}
        owed |= {name: used[name] for name in self._buckets}
        for name, amount in self._owed.items():
            bucket = self._buckets.get(name)
            owed[name] = min(amount, bucket.capacity) if bucket else amount
        self._unconfirmed, self._ack, self._lease = self._absent
        self._exchange, self.closed, self._free, self._owed = None, False, False, {}
        self._ends, self._quiet_until, self._blocked = -inf, -inf, ("", -inf)
        self._charge = {name: ceil(amount) for name, amount in owed.items() if amount > 0}
        self._trip = self.breaker.memory(now) if self.breaker.state in TELLING else None
        self.breaker.permits.clear()
        self._ask()
