"""One provider's limits and breaker as a whole fleet shares them: who has been lent what, and who may go next.

The only thing that workers do is :meth:`LeaseServer.exchange`: a worker reports what it has spent and asks for more,
and is lent capacity that it spends on its own. ``limiter/redis/lua/exchange.lua`` is the same in Lua, for Redis; a test
drives both with the same sequences.

Why a fleet never admits too much. A bucket is charged when spending is reported, which is never before it happens, so
its level is at most that of a bucket charged on the spot plus what is out on loan. Lent capacity counts against the
level and against the capacity: level - lent is what can still be lent, and the level never rises above the capacity, so
loans that lie idle cannot meet a full bucket. A loan may also be of the future: then the bucket is in debt for it, and
the borrower may spend it only as it is refilled, after all debts before it. A loan that nobody reports on is charged in
full when its time is up, and the borrower stops spending it a little earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, CircuitBreaker, Verdict
from wallie_litellm.core.token_bucket import TOLERANCE, TokenBucket

ALIVE = 5.0  # seconds without a word after which a worker's places and claims are free again
FORGOTTEN = 60.0  # seconds after which it is not even listed
BATCH = 0.5  # seconds of a limit's rate that one worker is lent ahead, where others wait as well
SMALLEST_BATCH = 12  # units: fewer would cost a round trip for every few requests
GENEROSITY = 2  # of what is there, a worker is lent this part of its fair share beyond its need
MOST_LOWS = 64

Request = Mapping[str, Any]


@dataclass
class _Worker:
    seen: float
    ticket: int
    seq: int = 0
    lease: int = 0  # a new number when a loan has run out
    ends: float = 0.0
    lent: dict[str, float] = field(default_factory=dict)
    unconfirmed: dict[str, float] = field(default_factory=dict)
    places: int = 0
    hungry: bool = False
    claim: dict[str, float] | None = None
    claimed: int = 0

    def take_back(self, amounts: Mapping[str, float]) -> None:
        """Count ``amounts`` as on loan no longer."""
        for name, amount in amounts.items():
            left = self.lent.pop(name, 0.0) - amount
            if left > 0:
                self.lent[name] = left


class LeaseServer:
    """What all workers know of one provider. Times are seconds of one clock that all of them are measured by."""

    def __init__(self) -> None:
        self.known = False
        self.epoch = 0
        self.paused_until = 0.0
        self.workers: dict[str, _Worker] = {}
        self.buckets: dict[str, TokenBucket] = {}
        self.used: dict[str, float] = {}  # of a day
        self.ends: dict[str, float] = {}
        self.breaker = CircuitBreaker(BreakerRules())
        self._tickets = 0
        self._now = 0.0
        self._origin = 0
        self._blank_until = 0.0  # until then, workers that have been told of earlier days are asked what they know

    def exchange(self, now: float, request: Request) -> dict[str, Any]:
        """Take in what a worker reports, and lend it what it asks for."""
        if not self.known:
            self._origin = int(now)  # small numbers are exact ones
        self._now = now = max(now - self._origin, self._now)
        if not self.known and request.get("seed") is None:
            return {"known": False, "now": now + self._origin}
        if self._could_remind(now, request) and request.get("seed") is None:
            return {"known": False, "now": now + self._origin}
        self._configure(now, request)
        if not self.known:
            self._plant(now, request)
        before = self._notable()
        if self._could_remind(now, request):
            self._be_reminded(now, request["seed"])
        self._run_out(now)
        worker = self._worker(now, request)
        if request["reports"] and request["reports"][-1]["seq"] <= worker.seq:
            # A later request of this worker has overtaken this one: all that it says is known, and nobody waits for
            # the answer, so that what it would be lent would be lost, and what the later one was lent taken back.
            return self._reply(now, worker, {}, None, 0, before)
        self._confirm(worker, request["ack"])
        for report in request["reports"]:
            if report["seq"] > worker.seq:
                self._take_in(now, worker, report)
                worker.seq = report["seq"]
        grants, blocked = self._lend(now, worker, request)
        self._seat(now, worker, request)
        probe = self._probe(now, request)
        return self._reply(now, worker, grants, blocked, probe, before)

    # What is there

    def _configure(self, now: float, request: Request) -> None:
        for name, (per_minute, capacity) in request["buckets"].items():
            bucket = self.buckets.get(name)
            if bucket is None:
                bucket = self.buckets[name] = TokenBucket(per_minute, capacity, MOST_LOWS)
            bucket.resize(per_minute, capacity)
        for name, (_, ends) in request["days"].items():
            if now >= self.ends.get(name, 0.0):
                self.used[name] = 0.0
                self.ends[name] = max(ends - self._origin, now + 1)
        self.breaker.rules = BreakerRules(**request["rules"])

    def _could_remind(self, now: float, request: Request) -> bool:
        """Whether a worker may remember more than the one that all this began with."""
        return self.known and now < self._blank_until and request["ack"] > 0 and request["worker"] not in self.workers

    def _be_reminded(self, now: float, seed: Mapping[str, Any]) -> None:
        for name, units in seed["used"].items():
            if name in self.buckets:
                bucket = self.buckets[name]
                bucket.take(now, max(0.0, units - bucket.used(now)))
            elif name in self.used:
                self.used[name] = max(units, self.used[name])
        self.paused_until = max(self.paused_until, now + seed["pause"])
        if self.breaker.state is BreakerState.CLOSED and seed["breaker"]["state"] != BreakerState.CLOSED.value:
            generation = max(seed["breaker"].get("generation", 0), self.breaker.generation) + 1
            self._take_over(now, {**seed["breaker"], "generation": generation})

    def _take_over(self, now: float, state: Mapping[str, Any]) -> None:
        reopens_at, generation = now + state["reopens_in"], self.breaker.generation
        self.breaker.take_over(BreakerState(state["state"]), state.get("reason"), reopens_at, state["open_for"])
        self.breaker.generation = max(state.get("generation", 0), generation)

    def _plant(self, now: float, request: Request) -> None:
        """Begin with what a worker remembers; others are heard for a while if it has never been told anything."""
        seed = request["seed"]
        self.known = True
        self._blank_until = 0.0 if request["ack"] else now + ALIVE
        self.paused_until = now + seed["pause"]
        for name, units in seed["used"].items():
            if name in self.buckets:
                self.buckets[name].take(now, units)
            elif name in self.used:
                self.used[name] = units
        self._take_over(now, seed["breaker"])

    def _run_out(self, now: float) -> None:
        for name, worker in sorted(self.workers.items(), key=lambda one: one[1].ends):
            if worker.lent and now >= worker.ends:
                self._charge(worker.ends, worker.lent)  # nobody has said anything since
                worker.lent, worker.unconfirmed = {}, {}
                worker.lease += 1
            if now - worker.seen > FORGOTTEN and not worker.lent:  # a loan of the future may live longer
                del self.workers[name]

    def _charge(self, now: float, amounts: Mapping[str, float]) -> None:
        for name, amount in amounts.items():
            if name in self.buckets:
                self.buckets[name].take(now, amount)
            elif name in self.used:
                self.used[name] += amount

    # What a worker says

    def _worker(self, now: float, request: Request) -> _Worker:
        worker = self.workers.get(request["worker"])
        if worker is None:
            self._tickets += 1
            worker = self.workers[request["worker"]] = _Worker(now, self._tickets)
        worker.seen = now
        worker.ends = max(worker.ends, now + request["ttl"])
        return worker

    @staticmethod
    def _confirm(worker: _Worker, ack: int) -> None:
        """Take back what was lent in an answer that never arrived."""
        if ack < worker.seq:
            worker.take_back(worker.unconfirmed)
        worker.unconfirmed = {}

    def _take_in(self, now: float, worker: _Worker, report: Mapping[str, Any]) -> None:
        if report["lease"] == worker.lease:
            worker.take_back(report["spent"])
            self._charge(now, report["spent"])
            worker.take_back(report["back"])
        self._charge(now, report["charge"])
        for name, amount, age in report["refunds"]:
            if name in self.buckets:
                self.buckets[name].give_back(now, now - age, amount)
            elif name in self.used:
                self.used[name] = max(0.0, self.used[name] - amount)
        if report["reset"]:
            self._reset()
        if report["pause"]:
            self.paused_until = max(self.paused_until, now + report["pause"])
        for generation, verdict, probe, reason, count in report["outcomes"]:
            for _ in range(count):
                self.breaker.record(now, generation, Verdict(verdict), probe=probe, reason=reason)
        for order in report["orders"]:
            getattr(self.breaker, order)()
        trip = report.get("trip")
        if trip is not None and self.breaker.state is BreakerState.CLOSED:
            self._take_over(now, {**trip, "generation": self.breaker.generation + 1})

    def _reset(self) -> None:
        self.epoch += 1
        self.paused_until = 0.0
        for bucket in self.buckets.values():
            bucket.reset()
        self.used = dict.fromkeys(self.used, 0.0)

    # What it is lent

    def _lend(
        self, now: float, worker: _Worker, request: Request
    ) -> tuple[dict[str, tuple[float, float, float]], tuple[str, float] | None]:
        need, want = request.get("need") or {}, request.get("want") or {}
        if not need and not want:
            worker.claim = None
            return {}, None
        alive = sum(now - other.seen <= ALIVE for other in self.workers.values())
        blocked: tuple[str, float] | None = None
        claim = False
        grants: dict[str, tuple[float, float, float]] = {}
        for name in (*self.buckets, *self.used):
            if name not in request["buckets"] and name not in request["days"]:
                continue
            least, most = need.get(name, 0.0), want.get(name, 0.0)
            there, room, rate = self._there(now, name, request, worker)
            wait = (least - there) / rate if rate else 0.0 if least <= there else self.ends[name] - now
            if rate and wait > 0:
                wait += TOLERANCE / 2  # so that waiting exactly this long is enough however it is rounded
            no_room, used_up = least > room + 1e-6, not rate and least > there
            if (no_room or used_up) and (rate or least <= there + self._lent(name)):
                claim = True  # others hold it, and may give it back
                wait = min(max(wait, 0.0), request["patience"])
            if least and (no_room or used_up or wait > request["patience"] + 1e-6):
                blocked = max(blocked or (name, -1.0), (name, max(wait, 0.0)), key=lambda one: one[1])
                continue
            spare = int(max(0.0, min(there, room)) / (GENEROSITY * max(1, alive)))
            amount = max(least, min(most, spare))
            if least and least > there and rate:
                ahead = int(max(rate * BATCH, SMALLEST_BATCH * (1 if least <= 1 else least)))
                amount = max(least, min(request["queued"].get(name, 0), ahead, int(room)))
            if amount > 0:
                at_once = min(amount, max(0.0, there))
                grants[name] = (amount, at_once, max(0.0, -there) / rate if rate else 0.0)
        if blocked is not None:
            grants = {}
            if claim and worker.claim is None:
                self._tickets += 1
                worker.claimed = self._tickets
            worker.claim = dict(need) if claim else None
            return grants, blocked
        worker.claim = None
        worker.unconfirmed = {name: amount for name, (amount, _, _) in grants.items()}
        for name, (amount, at_once, delay) in grants.items():
            worker.lent[name] = worker.lent.get(name, 0.0) + amount
            if name in self.buckets:
                rate = 1 / self.buckets[name].cost
                worker.ends = max(worker.ends, now + delay + (amount - at_once) / rate + request["ttl"])
        return grants, None

    def _there(self, now: float, name: str, request: Request, worker: _Worker) -> tuple[float, float, float]:
        """What can be lent at once, what can be lent at all, and the refill in units a second (0: none)."""
        lent = self._lent(name)
        claimed = sum(
            other.claim.get(name, 0.0)
            for other in self.workers.values()
            if other is not worker
            and other.claim is not None
            and now - other.seen <= ALIVE
            and (worker.claim is None or other.claimed < worker.claimed)
        )
        if name in self.buckets:
            bucket = self.buckets[name]
            level = (bucket.depth - max(0.0, bucket.full_at - now)) / bucket.cost
            return level - lent, bucket.capacity - lent - claimed, 1 / bucket.cost
        left = request["days"][name][0] - self.used[name] - lent
        return left, left - claimed, 0.0

    def _lent(self, name: str) -> float:
        return sum(worker.lent.get(name, 0.0) for worker in self.workers.values())

    def _seat(self, now: float, worker: _Worker, request: Request) -> None:
        """Places for calls at once: as many as it uses, and as many more as are free."""
        if request.get("slots") is None:
            return
        others = sum(
            other.places for other in self.workers.values() if other is not worker and now - other.seen <= ALIVE
        )
        worker.places = max(request["live"], min(request["places"], request["slots"] - others))
        worker.hungry = worker.places < request["places"]

    def _probe(self, now: float, request: Request) -> int:
        if not request["probe"] or self.breaker.wait(now) > 0:
            return 0
        return self.breaker.enter(now)

    # What it is told

    def _notable(self) -> tuple[Any, ...]:
        """What other workers want to hear of at once."""
        places = sum(worker.places for worker in self.workers.values())
        hungry = any(worker.hungry for worker in self.workers.values())
        claims = any(worker.claim is not None for worker in self.workers.values())
        lent = sum(sum(worker.lent.values()) for worker in self.workers.values())
        return (
            self.breaker.generation,
            self.breaker.failures > 0,
            self.epoch,
            self.paused_until,
            places if hungry else 0,
            lent if claims else 0,
        )

    def _reply(
        self,
        now: float,
        worker: _Worker,
        grants: Mapping[str, tuple[float, float, float]],
        blocked: tuple[str, float] | None,
        probe: int,
        before: tuple[Any, ...],
    ) -> dict[str, Any]:
        breaker = self.breaker
        return {
            "known": True,
            "now": now + self._origin,
            "seq": worker.seq,
            "lease": worker.lease,
            "lives": worker.ends - now,
            "grants": {name: list(grant) for name, grant in grants.items()},
            "blocked": None if blocked is None else list(blocked),
            "used": {
                **{name: max(0.0, bucket.full_at - now) / bucket.cost for name, bucket in self.buckets.items()},
                **self.used,
            },
            "lent": {name: self._lent(name) for name in (*self.buckets, *self.used)},
            "ends": {name: ends - now for name, ends in self.ends.items()},
            "places": worker.places,
            "hungry": any(other.hungry for other in self.workers.values()),
            "squeezed": any(other.claim is not None for other in self.workers.values() if other is not worker),
            "workers": sum(now - other.seen <= ALIVE for other in self.workers.values()),
            "epoch": self.epoch,
            "pause": max(0.0, self.paused_until - now),
            "breaker": {
                "state": breaker.state.value,
                "generation": breaker.generation,
                "failures": breaker.failures,
                "reason": breaker.reason,
                "reopens_in": max(0.0, breaker.reopens_at - now),
                "open_for": breaker.open_for,
                "probe": probe,
                "free_in": breaker.wait(now) if breaker.state is BreakerState.HALF_OPEN else 0.0,
            },
            "news": self._notable() != before,
        }
