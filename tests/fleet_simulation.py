"""A fleet on virtual time: real limiters and leased stores, the core's lease server, and a simulated network.

Run as a script it searches for one admission too many: ``python tests/fleet_simulation.py SECONDS [SEED]``.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from wallie_litellm.config.models import StoreSettings
from wallie_litellm.core.circuit_breaker import BreakerRules, Verdict
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.core.limit_keys import scope_in
from wallie_litellm.core.token_bucket import TokenBucket
from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits
from wallie_litellm.limiter.redis.fleet import CONFIRMED_AFTER, HEARTBEAT, RECONNECT
from wallie_litellm.limiter.store import Reservation
from wallie_litellm.limiter.waiter import Waiter

TIMEOUT = StoreSettings().timeout  # seconds
CONFIRMED = CONFIRMED_AFTER * TIMEOUT  # seconds
UNIX = 1_790_000_000.0  # seconds; the server's clock at 0 of the simulation's
ONE = Demand(1, 0, 0, 0)
A_HAIR = 1e-3  # of a request


class Events:
    """Future events, in order, on a clock of their own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._events: list[tuple[float, int, list[Callable[[], object]]]] = []
        self._sequence = itertools.count()

    def at(self, when: float, action: Callable[[], object]) -> Callable[[], None]:
        """Have ``action`` called at ``when``; the function that is returned cancels it."""
        cell = [action]
        heapq.heappush(self._events, (max(when, self.now), next(self._sequence), cell))
        return cell.clear

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        self.at(self.now + seconds, action)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, cell = heapq.heappop(self._events)
            if cell:
                cell[0]()
        self.now = until


class Network(NamedTuple):
    """How messages travel: their usual delay in seconds, and the shares of them that are late or lost.

    A late one takes up to a second. A lost one breaks its connection, which its sender notices.
    """

    delay: float = 0.001
    late: float = 0.0
    lost: float = 0.0

    @property
    def is_healthy(self) -> bool:
        return not self.late and not self.lost


HEALTHY = Network()


class Clock:
    """One process' clock: its wall clock is wrong, and timers wait while the process stands still."""

    def __init__(self, worker: SimulatedWorker, skew: float) -> None:
        self._worker = worker
        self._events = worker.fleet.events
        self._skew = skew

    def now(self) -> float:
        return self._events.now

    def wall(self) -> float:
        return self._events.now + UNIX + self._skew

    def call_at(self, when: float, callback: Callable[[], object]) -> Callable[[], None]:
        return self._events.at(when, self._worker.awake(callback))

    def close(self) -> None:
        """Nothing to end."""


@dataclass
class Admission:
    """A request that was admitted; one that was never sent does not count."""

    worker: str
    at: float
    alone: bool  # during an outage of the server
    scope: str = ""
    counts: bool = True


class SimulatedWorker:
    """A process with one provider, that exchanges with the server as ``RedisFleet`` does.

    A ``hasty`` one counts the time in which it stood still itself as time without an answer.
    """

    def __init__(self, fleet: FleetSimulation, name: str, *, skew: float, hasty: bool) -> None:
        self.fleet = fleet
        self.name = name
        self.alive = True
        self.stalled = 0.0  # seconds in all
        self._hasty = hasty
        self._stalled_until = 0.0
        self._is_due = self._is_busy = self._is_down = self._is_broken = False
        self._last_at = float("-inf")
        self._number = 0  # the number of the one under way, by which a late answer is recognised
        clock = Clock(self, skew)
        self.store = LeasedStore("openai", fleet.limits, BreakerRules(), clock.wall, worker=name)
        self.limiter = LeasedLimiter("openai", self.store, clock, 600.0)
        self.limiter.on_lease_needed(self._signal)
        self._signal()
        self._beat()

    def awake(self, action: Callable[[], object]) -> Callable[[], None]:
        """``action`` as it happens in this process: later if it stands still, never if it is dead."""

        def act() -> None:
            if self.alive and self.fleet.events.now < self._stalled_until:
                self.fleet.events.at(self._stalled_until, act)
            elif self.alive:
                action()

        return act

    def stall(self, seconds: float) -> None:
        """Let the process stand still, as one does that gets no processor or is stopped."""
        self._stalled_until = max(self._stalled_until, self.fleet.events.now + seconds)
        self.stalled += seconds

    def kill(self) -> None:
        self.alive = False

    def ask(self, max_wait: float, seconds: float, *, sent: bool = True, scope: str = "") -> None:
        """One request, which waits for at most ``max_wait`` seconds and lasts ``seconds``."""
        result = self.limiter.reserve(ONE, scope=scope)
        if isinstance(result, Reservation):
            self._admitted(result, seconds, sent=sent)
            return

        def woken(waiter: Waiter) -> None:
            if isinstance(waiter.result, Reservation):
                self._admitted(waiter.result, seconds, sent=sent)

        self.limiter.enqueue(Waiter(ONE, 0, self.fleet.events.now + max_wait, woken, scope))

    def _admitted(self, reservation: Reservation, seconds: float, *, sent: bool) -> None:
        admission = Admission(self.name, reservation.at, self._is_down, reservation.scope)
        self.fleet.admissions.append(admission)

        def end() -> None:
            admission.counts = sent
            verdict = Verdict.SUCCESS if sent else Verdict.IGNORED
            self.limiter.settle(reservation, ONE if sent else NOTHING, verdict)

        self.fleet.events.after(seconds, self.awake(end))

    def on_broadcast(self) -> None:
        """Another worker has changed what this one needs at once."""
        self.fleet.events.after(self.fleet.delay(), self.awake(self._signal))

    # Exchanges with the server, as RedisFleet makes them

    def _beat(self) -> None:
        if self.fleet.events.now - self._last_at >= HEARTBEAT * 0.9:
            self._signal()
        self.fleet.events.after(HEARTBEAT / 4, self.awake(self._beat))

    def _signal(self) -> None:
        self._is_due = True  # and a moment later another thread finds it
        self.fleet.events.after(self.fleet.chance.uniform(0, 2e-4), self.awake(self._exchange_if_due))

    def _exchange_if_due(self) -> None:
        if self._is_busy or self._is_down or not self._is_due:
            return
        self._is_busy, self._is_due = True, False
        self._last_at = sent_at = self.fleet.events.now
        self._number = number = self._number + 1
        request = copy(self.limiter.build_renewal())
        if self.fleet.loses():
            self.fleet.events.after(self.fleet.delay(), self.awake(lambda: self._broken(number)))
        else:
            self.fleet.events.after(self.fleet.delay(), lambda: self._reaches(request, number, sent_at))
        self.fleet.events.after(TIMEOUT, self.awake(lambda: self._lost(number)))

    def _reaches(self, request: dict[str, Any], number: int, sent_at: float) -> None:
        answer = self.fleet.exchange(request)
        delay = self.fleet.delay()
        if self.fleet.loses():
            self.fleet.events.after(delay, self.awake(lambda: self._broken(number)))
        else:
            self.fleet.events.after(delay, self.awake(lambda: self._answered(answer, number, sent_at)))

    def _answered(self, answer: dict[str, Any], number: int, sent_at: float) -> None:
        if number != self._number:
            return
        if self._hasty and self.fleet.events.now - sent_at >= TIMEOUT:
            self._lost(number)
            return
        self._number += 1
        self._is_busy = self._is_broken = False
        if not self.limiter.apply_grant(copy(answer), sent_at):
            self._is_due = True
        self._exchange_if_due()

    def _broken(self, number: int) -> None:
        if number != self._number:
            return
        if self._is_broken:
            self._lost(number)
            return
        self._number += 1
        self._is_busy, self._is_broken, self._is_due = False, True, True
        self._exchange_if_due()

    def _lost(self, number: int) -> None:
        if number != self._number:
            return
        self._number += 1
        self._is_down, self._is_busy, self._is_broken = True, False, False
        self.limiter.lease_server_lost(self.fleet.policy, confirmed=False)
        chance = self.fleet.chance
        lasts = RECONNECT * chance.uniform(0.9, 1.3) + (chance.uniform(0, 4) if chance.random() < 0.2 else 0.0)
        if lasts > CONFIRMED:
            self.fleet.events.after(CONFIRMED, self.awake(self._confirm))
        self.fleet.events.after(lasts, self.awake(self._found))

    def _confirm(self) -> None:
        if self._is_down:
            self.limiter.confirm_outage()

    def _found(self) -> None:
        self._is_down = False
        self.limiter.lease_server_found()
        self._signal()


def copy(message: Any) -> Any:
    """A message as it arrives."""
    return json.loads(json.dumps(message))


@dataclass
class FleetSimulation:
    """Workers, their lease server, and the network between them."""

    limits: AccountLimits
    chance: random.Random
    network: Network = HEALTHY
    policy: str = "closed"
    server: LeaseServer = field(default_factory=LeaseServer)
    events: Events = field(default_factory=Events)
    workers: list[SimulatedWorker] = field(default_factory=list)
    admissions: list[Admission] = field(default_factory=list)
    exchanges: int = 0
    away_until: float = 0.0  # the server takes no request
    unleased: float = 0.0  # units that a worker held without a lease by the server, at worst

    def start(self, *, skew: float = 0.0, hasty: bool = False) -> SimulatedWorker:
        worker = SimulatedWorker(self, f"w{len(self.workers)}", skew=skew, hasty=hasty)
        self.workers.append(worker)
        return worker

    def delay(self) -> float:
        """Seconds that a message takes."""
        if self.chance.random() < self.network.late:
            return self.chance.uniform(0.0, 1.0)
        return self.network.delay * self.chance.uniform(0.2, 3.0)

    def lose_state(self) -> None:
        """Empty the server, as FLUSHALL does."""
        self.server = LeaseServer()

    def go_away(self, seconds: float) -> None:
        """Have the server take no request for so long. It keeps its state."""
        self.away_until = self.events.now + seconds

    def loses(self) -> bool:
        return self.events.now < self.away_until or self.chance.random() < self.network.lost

    def exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        self.exchanges += 1
        answer = self.server.exchange(self.events.now + UNIX, request)
        for worker in self.workers:
            if answer.get("broadcast") and worker.alive and worker.name != request["worker"]:
                worker.on_broadcast()
            self.unleased = max(self.unleased, self._unleased_units(worker))
        return answer

    def _unleased_units(self, worker: SimulatedWorker) -> float:
        """Units that ``worker`` may spend, or has spent and not reported, and that the server has not leased to it."""
        store = worker.store
        if not worker.alive or store._exchange is not None or self.events.now >= store._lease.expires_at:
            return 0.0
        if store._lease._session.born != self.server.born:  # it has not heard yet that the state was lost
            return 0.0
        holder = self.server.workers.get(worker.name)
        return max(
            balance.left + balance.spent + balance.returned - (holder.leased.get(name, 0.0) if holder else 0.0)
            for name, balance in store._balances.items()
        )

    def over(self, *, alone: bool = True, scope: str | None = None) -> float:
        """By how many requests the admissions, also those ``alone`` or not, exceed what a bucket allows at worst.

        That is the account's, or that of the models of ``scope``.
        """
        limits = self.limits if scope is None else self.limits.models[scope]
        bucket, worst = TokenBucket(limits.usable("rpm"), limits.capacity("rpm")), 0.0
        counted = [one for one in self.admissions if one.counts and (alone or not one.alone)]
        for at in sorted(one.at for one in counted if scope in (None, one.scope)):
            bucket.take(at, 1)
            worst = max(worst, (bucket.full_at - at - bucket.depth) / bucket.cost)
        return worst

    def faults(self) -> list[str]:
        """What is wrong; workers that go on alone during an outage may together be over the limit."""
        found = []
        for scope in (None, *self.limits.models):
            over = self.over(alone=self.policy == "closed" or self.network.is_healthy, scope=scope)
            if over > A_HAIR:
                found.append(f"{over:.3f} requests over the limit of {scope or 'the account'}")
        if self.unleased > A_HAIR:
            found.append(f"{self.unleased:.3f} units held by a worker that were not leased to it")
        return found

    def balance(self) -> list[str]:
        """What does not add up once all are idle: leases have been returned or charged."""
        self.events.run(self.events.now + 130.0)  # longer than any wait and any stall
        network, self.network = self.network, HEALTHY
        self.events.run(self.events.now + 10.0)
        dead = {
            worker.name for worker in self.workers if not worker.alive
        }  # which have charged nothing since they died
        counted = [one for one in self.admissions if one.counts and not (one.alone and one.worker in dead)]
        found = [f"{worker} still has {one.leased}" for worker, one in self.server.workers.items() if one.leased]
        lost = any(worker.stalled > 0.5 or not worker.alive for worker in self.workers)  # a lease may have expired
        for key, charged in self.server.daily_usage.items():
            count = sum(scope_in(key) in ("", one.scope) for one in counted)
            if charged < count or (charged > count and not lost and self.policy == "closed" and network.is_healthy):
                found.append(f"{key}: {charged:g} charged for {count} requests")
        return found


def models_of(seed: int, per_minute: int) -> dict[str, ScopeLimits]:
    """Limits of models: of some most of the account's, and of some very little."""
    chance = random.Random(-seed)
    shares = {"half*": 0.5, "most": 0.9, "few": 0.1}
    rates = {name: max(6, int(per_minute * share)) for name, share in shares.items()}
    bursts = {name: chance.choice([rate, max(2, rate // 10)]) for name, rate in rates.items()}
    return {name: ScopeLimits({"rpm": rate, "rpd": 10**6}, {"rpm": bursts[name]}) for name, rate in rates.items()}


def crowd(
    seed: int, *, network: Network = HEALTHY, policy: str = "closed", hasty: bool = False, models: bool = False
) -> FleetSimulation:
    """Bursts and idle phases of a few workers that get stuck or die, drawn from ``seed``; of several ``models``."""
    chance = random.Random(seed)
    per_minute = chance.choice([6, 60, 120, 120, 600, 6000])
    capacity = chance.choice([per_minute, per_minute, max(5, per_minute // 10)])
    own = models_of(seed, per_minute) if models else {}
    limits = AccountLimits({"rpm": per_minute, "rpd": 10**6}, {"rpm": capacity}, models=own)
    which, scopes = random.Random(seed), ["", *own]
    fleet = FleetSimulation(limits, chance, network, policy)
    workers = [fleet.start(skew=chance.uniform(-300, 300), hasty=hasty) for _ in range(chance.randint(2, 8))]
    events, max_wait = fleet.events, chance.choice([0.5, 1.0, 3.0, 30.0])
    begin = events.now + chance.uniform(0.1, 2.0)
    for _ in range(chance.randint(2, 6)):
        size = int(chance.choice([0.05, 0.3, 1.0, 3.0]) * capacity / len(workers)) + 1
        spread = chance.choice([0.0, 0.0, 0.01, 1.0, 5.0])
        for worker in workers:
            late = chance.choice([0.0, 0.0, 0.5]) * chance.random()
            for _ in range(min(size, 200) if chance.random() < 0.85 else 0):
                seconds, sent = chance.choice([0.01, 0.01, 0.2]), chance.random() < 0.95
                ask = partial(worker.ask, max_wait, seconds, sent=sent, scope=which.choice(scopes))
                events.at(begin + late + spread * chance.random(), worker.awake(ask))
        if chance.random() < 0.5:
            victim, length = chance.choice(workers), chance.choice([0.3, 0.3, 1.0, 4.0, 8.0, 30.0, 90.0])
            events.at(
                begin + chance.choice([0.0005, 0.002, chance.uniform(-1, 3)]), lambda v=victim, s=length: v.stall(s)
            )  # type: ignore[misc]
        if chance.random() < 0.15 and len(workers) > 2:
            events.at(begin + chance.uniform(0, 2), workers.pop().kill)
        begin += spread + chance.choice([0.2, 1.0, 1.5, 2.5, 4.0, 6.0, 12.0, 12.0, 12.0, chance.uniform(0, 120)])
    events.run(begin + 5)
    return fleet


def flushed(seed: int, *, network: Network = HEALTHY) -> tuple[FleetSimulation, int]:
    """A fleet whose server loses its state once or twice while it uses up a day; with the requests of that day."""
    chance = random.Random(seed)
    per_day = chance.choice([40, 40, 200])
    fleet = FleetSimulation(AccountLimits({"rpm": chance.choice([600, 6000]), "rpd": per_day}), chance, network)
    workers = [fleet.start(skew=chance.uniform(-300, 300)) for _ in range(chance.randint(2, 4))]
    events = fleet.events
    began_at, at = events.now, events.now + 1
    for _ in range(chance.randint(1, 4)):
        for worker in workers:
            for _ in range(int(per_day * chance.choice([0.1, 0.3, 1.0]) / len(workers)) + 1):
                ask = partial(worker.ask, chance.choice([0.0, 0.5, 3.0]), chance.choice([0.01, 0.3]))
                events.at(at + chance.choice([0, 0.01, 0.5, 3]) * chance.random(), worker.awake(ask))
        at += chance.choice([0.3, 1, 2.5, 5])
    for _ in range(chance.choice([1, 1, 2])):
        events.at(chance.uniform(began_at + 1, at), fleet.lose_state)
    events.run(at + 15)
    return fleet, per_day


NETWORKS = (HEALTHY, HEALTHY, Network(0.01), Network(0.001, late=0.05), Network(0.001, lost=0.05))


def search(seeds: Iterable[int], *, hasty: bool = False, most: int = 10) -> tuple[int, list[str]]:
    """Try a fleet for each of ``seeds`` until ``most`` faults are found; how many were tried, and what is wrong."""
    tried, found = 0, []
    for seed in seeds:
        chance = random.Random(seed)
        network, policy = chance.choice(NETWORKS), chance.choice(["local", "closed"])
        fleet = crowd(seed, network=network, policy=policy, hasty=hasty, models=seed % 2 == 1)
        faults = fleet.faults() + fleet.balance()
        found += [f"seed {seed}, {len(fleet.workers)} workers, {policy}, {network}: {fault}" for fault in faults]
        tried += 1
        if len(found) >= most:
            break
    return tried, found


def main() -> int:
    end, first = time.monotonic() + float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    seeds = itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(first))
    tried, found = search(seeds, hasty="hasty" in sys.argv)
    print("\n".join(found))
    print(f"{tried} fleets, {len(found)} faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
