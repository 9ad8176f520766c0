"""A fleet under random faults: ``python benchmarks/fleet_chaos.py [--seconds 300] [--seed N]``.

Redis is killed, paused and flushed, workers are killed and replaced, providers fail and recover. Afterwards all workers
that are left must agree with Redis, and every call must have ended in time. Exits with 1 if not. Prints what was
admitted beyond the limit, which is expected only while Redis is away or has lost its state.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 4
PER_SECOND, BURST = 50.0, 50
OFFERED = 2 * PER_SECOND / WORKERS  # requests a second that each worker is asked for
MAX_WAIT = 2.0
HANG = MAX_WAIT + 1.0  # seconds
AFTERMATH = 5.0  # seconds that a fault may have consequences
RENEWED_EVERY = 2.2  # seconds between two exchanges, at most, and a little more
SETTLED = 15.0  # seconds that the fleet may take to agree unless told otherwise
START = 60.0  # seconds that a worker may take to begin
REDIS_FAULTS = ("kill redis", "pause redis", "flush redis")
FAULTS = (*REDIS_FAULTS, "kill a worker", "failing providers")
GENERATION = "return cmsgpack.unpack(redis.call('GET', KEYS[1])).breaker.generation"


# A worker


class _Load:
    """Calls through a real guard; the result of each goes to a file, so that those of a killed worker are there too."""

    def __init__(self, url: str, journal: str, seed: int) -> None:
        from wallie_litellm.config import WallieConfig
        from wallie_litellm.guard import Guard

        self.guard = Guard(
            WallieConfig(
                providers={"openai": {"rpm": int(PER_SECOND * 60), "rpd": 100_000_000, "burst": {"rpm": BURST}}},
                breaker={"failures": 3, "open_for": 1, "max_open_for": 3},
                store={"url": url},
                admission={"max_wait": MAX_WAIT},
                ledger=None,
            )
        )
        self.failing = False
        self.rate = 0.0
        self._random = random.Random(seed)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._made = 0
        self._running: set[asyncio.Task[None]] = set()
        self._late = 0.0  # seconds that this process had no CPU, at worst

    def _note(self, *words: object) -> None:
        os.write(self._journal, (" ".join(map(str, words)) + "\n").encode())

    async def _call(self, number: int) -> None:
        from wallie_litellm.core.circuit_breaker import Verdict
        from wallie_litellm.core.demand import NOTHING
        from wallie_litellm.errors import WallieError

        self._note("start", number, time.monotonic())
        try:
            lease = await self.guard.wait_for_capacity("openai")
        except WallieError as error:
            self._note("refused", number, time.monotonic(), type(error).__name__)
            return
        except Exception as error:  # noqa: BLE001 - it is reported
            self._note("error", number, time.monotonic(), repr(error))
            return
        reservation = lease._reservation
        self._note("admitted", number, time.monotonic(), reservation.at)
        await asyncio.sleep(self._random.uniform(0.005, 0.06))
        limiter = self.guard.limiter("openai")
        if self.failing:
            limiter.settle(reservation, NOTHING, Verdict.FAILURE, reason="x")
            self._note("failed", number, time.monotonic())
        else:
            limiter.settle(reservation, reservation.demand, Verdict.SUCCESS)

    async def run(self) -> None:
        """Offer ``rate`` calls a second for ever."""
        due, before = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            self._late = max(self._late, now - before - 0.01)
            due = min(due + (now - before) * self.rate, 50.0)
            before = now
            while due >= 1:
                due -= 1
                self._made += 1
                task = asyncio.ensure_future(self._call(self._made))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def status(self) -> dict[str, Any]:
        """The provider's state at this worker."""
        status = self.guard.status()
        provider = status["providers"]["openai"]
        limiter = self.guard.limiter("openai")
        return {
            "state": provider["breaker"]["state"],
            "generation": limiter._store.breaker.generation,
            # As Redis counts: what a bucket does not have, and what a day has used.
            "used": {name: limiter.capacity(name) - one.left for name, one in limiter.state().usage.items()},
            "store": status["store"]["state"],
            "workers": status["store"]["workers"],
            "running": len(self._running),
            "in_flight": provider["in_flight"],
            "waiting": provider["waiting"],
            "late": self._late,
            "name": status["store"]["worker"],
            "left": {name: balance.left for name, balance in self.guard.limiter("openai")._store._balances.items()},
        }


async def _work(plan: dict[str, Any]) -> None:
    load = _Load(plan["url"], plan["journal"], plan["seed"])
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def carry_out(command: str) -> None:
        if command == "go":
            load.rate = OFFERED
        elif command == "stop":
            load.rate = 0.0
        elif command in ("fail", "heal"):
            load.failing = command == "fail"
        elif command == "status":
            print(json.dumps(load.status()), flush=True)
        else:
            ended.set()

    def listen() -> None:
        with suppress(RuntimeError):  # the loop has ended
            for line in sys.stdin:
                loop.call_soon_threadsafe(carry_out, line.strip())
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=listen, daemon=True).start()
    offering = asyncio.ensure_future(load.run())
    carry_out("status")
    await ended.wait()
    offering.cancel()
    await load.guard.aclose()


# The workers, from outside


@dataclass
class _Journal:
    """Results of one worker's calls: instants by number of call."""

    started: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    admitted: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, path: Path) -> _Journal:
        found = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            kind, number, at, *rest = line.split(" ", 3)
            if kind == "start":
                found.started[int(number)] = float(at)
            elif kind == "failed":
                found.failed.add(int(number))
            else:
                found.ended[int(number)] = float(at)
                if kind == "admitted":
                    found.admitted[int(number)] = float(rest[0])
                elif kind == "refused":
                    found.refused[rest[0]] += 1
                else:
                    found.errors.append(rest[0])
        return found

    def longest(self) -> float:
        return max((at - self.started[number] for number, at in self.ended.items()), default=0.0)

    def unended(self, before: float) -> int:
        """The calls that began before ``before`` and have never ended."""
        return sum(at < before for number, at in self.started.items() if number not in self.ended)

    def charged(self) -> list[float]:
        return [at for number, at in self.admitted.items() if number not in self.failed]


class _Worker:
    def __init__(self, url: str, journal: Path, seed: int) -> None:
        self.journal = journal
        self.killed_at: float | None = None
        plan = json.dumps({"url": url, "journal": str(journal), "seed": seed})
        self.log = journal.with_suffix(".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, "--worker", plan],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._output: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._ready = False

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._output.put(line)

    def send(self, *commands: str) -> None:
        assert self._process.stdin is not None
        for command in commands:
            self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        if not self._ready:
            self._output.get(timeout=START)
            self._ready = True

    def unexpected_log(self) -> list[str]:
        """The lines of its log that do not report an outage of Redis."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if not line.startswith(("Redis does not serve", "Redis serves again"))]

    def status(self) -> dict[str, Any]:
        self.wait_until_ready()
        self.send("status")
        status: dict[str, Any] = json.loads(self._output.get(timeout=5))
        return status

    def kill(self) -> None:
        self.killed_at = time.monotonic()
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        with suppress(OSError):
            self.send("end")
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# The faults


@dataclass
class _Fault:
    kind: str
    at: float  # seconds from the beginning
    until: float
    seed: int


def faults_for(seconds: float, seed: int) -> list[_Fault]:
    """A sequence of faults: some at once or in quick succession, some with time to recover between."""
    dice = random.Random(seed)
    pace = min(1.0, seconds / 60)
    deck: list[str] = []
    found: list[_Fault] = []
    at, free = 1.0, {"redis": 0.0, "failing": 0.0}
    while True:
        if not deck:
            deck = [*FAULTS, *FAULTS]
            dice.shuffle(deck)
        kind, lasts = deck.pop(), 0.0
        if kind in REDIS_FAULTS:
            lasts = {"kill redis": dice.uniform(0.5, 3), "pause redis": dice.uniform(0.3, 2)}.get(kind, 0.0)
            at = max(at, free["redis"])
            free["redis"] = at + lasts + 0.1
        elif kind == "failing providers":
            lasts = dice.uniform(1, 4)
            at = max(at, free["failing"])
            free["failing"] = at + lasts + 0.1
        if at + lasts > seconds:
            return found
        found.append(_Fault(kind, at, at + lasts, dice.randrange(2**32)))
        at += dice.uniform(0.1, 1.5) if dice.random() < 0.5 else dice.uniform(6, 14) * pace


class _Chaos:
    def __init__(self, server: Any, seed: int, directory: Path) -> None:
        self.server = server
        self.workers: list[_Worker] = []
        self.dead: list[_Worker] = []
        self._failing: list[_Worker] = []
        self._seed = seed
        self._directory = directory

    def start_worker(self) -> _Worker:
        number = len(self.workers) + len(self.dead)
        worker = _Worker(self.server.url, self._directory / str(number), self._seed + number)
        self.workers.append(worker)
        return worker

    def begin(self, fault: _Fault) -> None:
        dice = random.Random(fault.seed)
        if fault.kind == "kill redis":
            self.server.kill()
        elif fault.kind == "pause redis":
            self.server.pause()
        elif fault.kind == "flush redis":
            self.server.flush_even_if_slow()
        elif fault.kind == "kill a worker":
            worker = self.workers.pop(dice.randrange(len(self.workers)))
            if worker in self._failing:
                self._failing.remove(worker)
            worker.kill()
            self.dead.append(worker)
            self.start_worker().send("go")
        else:
            self._failing = dice.sample(self.workers, dice.randint(2, WORKERS))
            for worker in self._failing:
                worker.send("fail")

    def finish(self, fault: _Fault) -> None:
        if fault.kind == "kill redis":
            self.server.start()
        elif fault.kind == "pause redis":
            self.server.resume()
        elif fault.kind == "failing providers":
            for worker in self._failing:
                worker.send("heal")
            self._failing = []

    def run(self, faults: Sequence[_Fault], began: float) -> None:
        steps: list[tuple[float, Callable[[_Fault], None], _Fault]] = [(one.at, self.begin, one) for one in faults]
        steps += [(one.until, self.finish, one) for one in faults if one.until > one.at]
        for at, step, fault in sorted(steps, key=lambda one: one[0]):
            time.sleep(max(0.0, began + at - time.monotonic()))
            step(fault)

    def fleet(self) -> dict[str, Any]:
        """The provider's state in Redis."""
        from wallie_litellm.limiter.redis.inspect import read_fleet
        from wallie_litellm.limiter.redis.layout import key_of

        found = read_fleet(self.server.url, ["openai"])["states"]["openai"]
        with self.server.client() as client:
            generation = int(client.eval(GENERATION, 1, key_of("openai")))
        return {
            "state": found["breaker"]["state"],
            "generation": generation,
            "used": found["used"],
            "leased": {name: dict(worker["leased"]) for name, worker in found["workers"].items()},
        }


# What is judged


def disagreements(fleet: dict[str, Any], workers: Sequence[dict[str, Any]], spent: float) -> list[str]:
    """Where a worker and Redis differ; in usage, by more than ``spent``."""
    found = []
    for number, worker in enumerate(workers):
        if worker["store"] != "ok":
            found.append(f"worker {number}: its store is {worker['store']}")
        found += [
            f"worker {number}: {name} {worker[name]!r}, Redis {fleet[name]!r}"
            for name in ("state", "generation")
            if worker[name] != fleet[name]
        ]
        found += [
            f"worker {number}: {used:.2f} {name} used, Redis {fleet['used'].get(name, 0.0):.2f}"
            for name, used in worker["used"].items()
            if abs(used - fleet["used"].get(name, 0.0)) > spent + 1
        ]
    return found


class _Meter:
    """One bucket that all admissions are charged to at once."""

    def __init__(self) -> None:
        self._used, self._at = 0.0, 0.0

    def over(self, at: float) -> float:
        """Charge one at ``at``; by how much the bucket is overdrawn then."""
        self._used = max(0.0, self._used - max(0.0, at - self._at) * PER_SECOND) + 1
        self._at = max(self._at, at)
        return self._used - BURST

    def forgive(self) -> None:
        self._used = min(self._used, float(BURST))


def over_admission(
    admitted: Sequence[float], spans: Sequence[tuple[float, float]], forgiven: Sequence[float] = ()
) -> tuple[float, float]:
    """The worst overdraft of one bucket within ``spans``, and outside of them; at ``forgiven`` any of before is."""
    within = outside = 0.0
    meter, pending = _Meter(), sorted(forgiven, reverse=True)
    for at in sorted(admitted):
        while pending and pending[-1] <= at:
            meter.forgive()
            pending.pop()
        over = meter.over(at)
        if any(start <= at <= end for start, end in spans):
            within = max(within, over)
        else:
            outside = max(outside, over)
    return within, outside


def quiet(spans: Sequence[tuple[float, float]], start: float, end: float) -> list[tuple[float, float]]:
    """What of ``start`` to ``end`` is in none of ``spans``, in pieces of a second or more."""
    found, at = [], start
    for begins, ends in [*sorted(spans), (end, end)]:
        if begins - at >= 1:
            found.append((at, min(begins, end)))
        at = max(at, ends)
    return [(begins, ends) for begins, ends in found if ends - begins >= 1]


def _settle(chaos: _Chaos, faults_end: float, patience: float) -> tuple[list[str], list[str], float]:
    """Wait until the breaker is closed, end the load, and wait until all agree.

    Returns where they do not agree, where they did not as the load ended, and how long it took.
    """
    deadline = faults_end + patience
    for worker in chaos.workers:
        worker.wait_until_ready()
    while time.monotonic() < deadline - 6:
        statuses = [worker.status() for worker in chaos.workers]
        if all(one["state"] == "closed" and one["store"] == "ok" for one in statuses):
            break
        time.sleep(0.1)
    time.sleep(1.0)  # under load, without faults
    for worker in chaos.workers:
        worker.send("stop")
    stopped = time.monotonic()
    statuses = [worker.status() for worker in chaos.workers]
    fleet = chaos.fleet()
    admitted = [at for worker in chaos.workers for at in _Journal.read(worker.journal).admitted.values()]
    spent = sum(stopped - RENEWED_EVERY <= at for at in admitted)
    at_once = disagreements(fleet, statuses, spent)
    while True:
        statuses = [worker.status() for worker in chaos.workers]
        found: list[str] = []
        for number, one in enumerate(statuses):
            if one["running"] or one["in_flight"] or one["waiting"]:
                found.append(f"worker {number}: {one['running']} calls, {one['waiting']} waiting")
        try:
            fleet = chaos.fleet()
            found += disagreements(fleet, statuses, 0)
            for number, one in enumerate(statuses):
                leased, left = fleet["leased"].get(one["name"], {}), {name: n for name, n in one["left"].items() if n}
                if leased != left:
                    found.append(f"worker {number}: {left} in hand, {leased} leased to it by Redis")
        except Exception as error:  # noqa: BLE001 - Redis may be gone, or empty until an exchange
            found.append(f"Redis: {error!r}")
        if not found or time.monotonic() >= deadline:
            return found, at_once, time.monotonic() - faults_end
        time.sleep(0.2)


def _judge(chaos: _Chaos, faults: Sequence[_Fault], began: float, load_end: float) -> tuple[list[str], list[str]]:
    """Figures, and what is wrong."""
    figures, wrong = [], []
    journals = [(worker, _Journal.read(worker.journal)) for worker in (*chaos.dead, *chaos.workers)]
    longest = max(journal.longest() for _, journal in journals)
    late = max(worker.status()["late"] for worker in chaos.workers)
    started = sum(len(journal.started) for _, journal in journals)
    admitted = sum(len(journal.admitted) for _, journal in journals)
    refused: Counter[str] = sum((journal.refused for _, journal in journals), Counter())
    died = sum(journal.unended(float("inf")) for worker, journal in journals if worker.killed_at is not None)
    refusals = ", ".join(f"{count} {name}" for name, count in sorted(refused.items()))
    figures.append(f"calls: {started} started, {admitted} admitted, refused: {refusals}; {died} died with their worker")
    figures.append(
        f"longest until admitted or refused: {longest:.2f} s (worst standstill of a worker that is left: {late:.2f} s)"
    )
    if longest > HANG + late:
        wrong.append(f"a call hung: {longest:.2f} s, at most {HANG + late:.2f} s expected")
    for worker, journal in journals:
        lost = journal.unended(float("inf") if worker.killed_at is None else worker.killed_at - HANG)
        if lost:
            wrong.append(f"worker {worker.journal.name}: {lost} calls never ended")
        wrong += [f"worker {worker.journal.name}: {error}" for error in (journal.errors + worker.unexpected_log())[-3:]]
    charged = [at for _, journal in journals for at in journal.charged()]
    counted = chaos.fleet()["used"].get("rpd", 0.0)
    figures.append(f"charged: {len(charged)} admitted and not refunded, {counted:.0f} by Redis' count of the day")

    every = [(began + fault.at, began + fault.until + AFTERMATH) for fault in faults]
    windows = quiet(every, began + 2, load_end)
    total = sum(end - start for start, end in windows)
    inside = sum(start <= at < end for at in charged for start, end in windows)
    share = f"{inside / (total * PER_SECOND):.1%} of the limit" if total else "none to judge"
    figures.append(
        f"fault-free for more than {AFTERMATH:g} s: {total:.1f} s in {len(windows)} windows, admitted {share}"
    )
    by_redis = [one for one, fault in zip(every, faults, strict=True) if fault.kind in REDIS_FAULTS]
    for name, spans in (("a fault of Redis", by_redis), ("any fault", every)):
        within, outside = over_admission(charged, spans)
        _, added = over_admission(charged, spans, [end for _, end in spans])
        figures.append(
            f"worst over-admission against one bucket: {within:.1f} with {name} active in the last {AFTERMATH:g} s; "
            f"{outside:.1f} otherwise, of which {added:.1f} is not left over from such a time"
        )
    for kind in REDIS_FAULTS:
        spans = [one for one, fault in zip(every, faults, strict=True) if fault.kind == kind]
        starts = [start for start, _ in by_redis]
        within, _ = over_admission(charged, spans, starts)
        figures.append(f"most that one '{kind}' has added: {within:.1f}" if spans else f"no '{kind}'")
    return figures, wrong


def run(seconds: float, seed: int, patience: float = SETTLED) -> int:
    """Print what happened; 1 if something is wrong."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.append(str(ROOT / "tests"))
    import redis_support

    class Server(redis_support.RedisServer):
        def flush_even_if_slow(self) -> None:
            with contextlib.suppress(Exception):
                self.flush()

    faults = faults_for(seconds, seed)
    print(f"seed {seed}, {seconds:g} s: {dict(Counter(fault.kind for fault in faults))}", flush=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wallie-chaos-")))
        chaos = _Chaos(stack.enter_context(Server()), seed, directory)
        stack.callback(lambda: [worker.end() for worker in chaos.workers])
        for _ in range(WORKERS):
            chaos.start_worker()
        for worker in chaos.workers:
            worker.wait_until_ready()
        for worker in chaos.workers:
            worker.send("go")
        began = time.monotonic()
        chaos.run(faults, began)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        apart, at_once, took = _settle(chaos, time.monotonic(), patience)
        figures, wrong = _judge(chaos, faults, began, began + seconds)
        figures.append(f"agreed {took:.1f} s after the faults ended; as the load ended: {at_once or 'agreed'}")
        fleet = chaos.fleet()
        leased = sum(sum(amounts.values()) for amounts in fleet["leased"].values())
        figures.append(f"Redis: {fleet['state']}, generation {fleet['generation']}, {leased:g} leased")
        wrong += apart + [f"as the load ended: {one}" for one in at_once]
    for line in figures:
        print(line)
    for line in wrong:
        print("WRONG:", line)
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--patience", type=float, default=SETTLED, help="seconds that the fleet may take to agree")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker is not None:
        signal.alarm(3600)  # in case its parent does not end it
        asyncio.run(_work(json.loads(options.worker)))
        return 0
    return run(options.seconds, random.randrange(10_000) if options.seed is None else options.seed, options.patience)


if __name__ == "__main__":
    sys.exit(main())
