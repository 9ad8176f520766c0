"""The sixteen scenarios of Failover Bench, modelled on the simulated providers.

The catalogue and the rules of its verdicts are those of github.com/failoverbench/failoverbench, methodology v0.1
(scenarios/catalogue.yaml and METHODOLOGY.md), in its full profile: two retries, 30 s an attempt, one fallback. Its own
runner and its fake provider are not used. Two things differ: all scenarios of a system run at once, each with models of
its own, and the healthy call that follows each scenario there follows all of them here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.reliability import stage
from benchmarks.reliability.faults import Request
from wallie_litellm.simulator import Fault, FaultKind, VisitRecord

TIMEOUT: Final = 30.0  # seconds of one attempt
FIRST_TOKEN: Final = 10.0  # seconds to the first content, where a system can bound that
DOWN: Final = 60.0  # seconds for which S15's primary is down
_AFTER: Final = 10.0  # seconds that the healthy call may take
_LEAD: Final = 1.0  # seconds before the first requests
_APART: Final = 1.5  # seconds between the first requests of two scenarios, the long ones first
_GRACE: Final = 30.0  # seconds beyond the longest scenario
_OK: Final = "S00"  # a group without a fault


@dataclass(frozen=True)
class Metrics:
    """What both sides saw of one scenario of one system."""

    outcomes: Sequence[dict[str, Any]]
    primary: Sequence[VisitRecord]
    fallback: Sequence[VisitRecord]
    fallback_model: str
    alive: bool

    @property
    def whole(self) -> bool:
        """Whether every caller has the whole answer."""
        return all(one["outcome"] == "answered" for one in self.outcomes)

    @property
    def ended(self) -> str:
        """How the worst of the requests ended."""
        kinds = [one["outcome"] for one in self.outcomes]
        return next((kind for kind in ("hang", "lie", "error") if kind in kinds), "answered")

    @property
    def seconds(self) -> float:
        """The longest of the requests."""
        return max(float(one["seconds"]) for one in self.outcomes)

    @property
    def gap(self) -> float:
        """Seconds between the first two attempts at the primary; 0 where there is one."""
        return self.primary[1].at - self.primary[0].at if len(self.primary) > 1 else 0.0

    def early(self, seconds: float) -> int:
        """Attempts at the primary within ``seconds`` of the first."""
        return sum(visit.at - self.primary[0].at < seconds for visit in self.primary)


@dataclass(frozen=True)
class Check:
    """One rule of the catalogue's; an advisory one costs a pass, any other the verdict."""

    name: str
    holds: Callable[[Metrics], bool]
    advisory: bool = False


@dataclass(frozen=True)
class Scenario:
    """One scenario; its model on the wire has its id as name."""

    id: str
    title: str
    faults: Sequence[Fault]
    checks: Sequence[Check] = ()
    within: float = 45.0  # seconds after which a caller counts as hung
    ends_well: bool = True  # False where an error is the right end
    fallback_faults: Sequence[Fault] = ()
    requests: Sequence[Request] = (Request(0.0, stream=True),)


def _attempts(most: int) -> Check:
    return Check(f"at most {most} attempts", lambda seen: len(seen.primary) <= most)


def _within(seconds: float, *, advisory: bool = False) -> Check:
    return Check(f"within {seconds:.0f} s", lambda seen: seen.seconds <= seconds, advisory)


def _in_outage(seen: Metrics) -> list[dict[str, Any]]:
    return [one for one in seen.outcomes if one["at"] < DOWN]


_ONE_ATTEMPT: Final = Check("one attempt", lambda seen: len(seen.primary) == 1)
_ALIVE: Final = Check("alive afterwards", lambda seen: seen.alive)
_RETRIED: Final = Check("retried", lambda seen: len(seen.primary) >= 2, advisory=True)
_USAGE: Final = Check("usage", lambda seen: all(one["usage"] for one in seen.outcomes), advisory=True)


def _fault(kind: FaultKind, scenario: str, **more: Any) -> Fault:
    return Fault(kind, model=scenario, **more)


SCENARIOS: Final = (
    Scenario(
        "S01",
        "429 with Retry-After, once",
        [_fault(FaultKind.RATE_LIMIT, "S01", retry_after=2, times=1)],
        [
            _RETRIED,
            Check("Retry-After heeded", lambda seen: seen.gap >= 1.8, advisory=True),
            Check("no hammering", lambda seen: seen.early(1.5) <= 2),
        ],
        20.0,
    ),
    Scenario(
        "S02",
        "429 without Retry-After, for good",
        [_fault(FaultKind.RATE_LIMIT, "S02")],
        [Check("no hammering", lambda seen: seen.early(3) <= 4), _attempts(6)],
        40.0,
    ),
    Scenario("S03", "500 once", [_fault(FaultKind.STATUS, "S03", status=500, times=1)], [_RETRIED], 20.0),
    Scenario("S04", "503 for good", [_fault(FaultKind.STATUS, "S04", status=503)], [_attempts(6)], 40.0),
    Scenario("S05", "reset before headers, once", [_fault(FaultKind.RESET, "S05", times=1)], (), 20.0),
    Scenario(
        "S06",
        "no response at all",
        [_fault(FaultKind.HANG, "S06", seconds=120.0)],
        [_within(100.0), Check("not retried", lambda seen: len(seen.primary) <= 1, advisory=True)],
        130.0,
    ),
    Scenario(
        "S07",
        "first token after 20 s",
        [_fault(FaultKind.SLOW, "S07", seconds=20.0, after_headers=True)],
        [_within(15.0, advisory=True)],
        60.0,
    ),
    Scenario("S08", "stream cut", [_fault(FaultKind.CUT_STREAM, "S08", after_chunks=9)], (), 40.0),
    Scenario(
        "S09",
        "stream stalls for 30 s, then closes",
        [_fault(FaultKind.HANG, "S09", after_chunks=5, seconds=30.0)],
        [_within(45.0), _ALIVE],
        70.0,
    ),
    Scenario(
        "S10",
        "malformed chunk",
        [_fault(FaultKind.MALFORMED, "S10", after_chunks=5)],
        [_ALIVE, Check("whole", lambda seen: seen.whole, advisory=True)],
        30.0,
    ),
    Scenario("S11", "no [DONE]", [_fault(FaultKind.OMIT_END, "S11")], [_within(8.0), _USAGE], 30.0),
    Scenario("S12", "context length exceeded", [_fault(FaultKind.CONTEXT_WINDOW, "S12")], [_ONE_ATTEMPT], 20.0),
    Scenario("S13", "content filter", [_fault(FaultKind.CONTENT_POLICY, "S13")], [_ONE_ATTEMPT], 20.0, ends_well=False),
    Scenario(
        "S14",
        "stream cut, and the fallback rejects prefill",
        [_fault(FaultKind.CUT_STREAM, "S14", after_chunks=9)],
        [
            Check(
                "the fallback's 400 is not the last word",
                lambda seen: seen.ended != "error" or all(visit.status != 400 for visit in seen.fallback),
            )
        ],
        40.0,
        fallback_faults=[Fault(FaultKind.REFUSE_PREFILL, model="S14-fallback")],
    ),
    Scenario(
        "S15",
        "down for a minute, then well; 20 requests",
        [_fault(FaultKind.STATUS, "S15", status=503)],
        [
            Check("served in the outage", lambda seen: all(one["outcome"] == "answered" for one in _in_outage(seen))),
            Check(
                "back within 30 s",
                lambda seen: any(visit.outcome == "succeeded" and visit.at <= DOWN + 30 for visit in seen.primary),
            ),
        ],
        30.0,
        requests=[Request(4.0 * number, stream=True) for number in range(20)],
    ),
    Scenario(
        "S16",
        "accounting of a fallback",
        [_fault(FaultKind.STATUS, "S16", status=503)],
        [
            Check(
                "the fallback's model is named",
                lambda seen: not seen.fallback or seen.fallback_model in str(seen.outcomes[0]["model"]),
            ),
            _USAGE,
            _attempts(6),
        ],
        40.0,
    ),
)


def groups() -> list[dict[str, Any]]:
    """A group for each scenario, and one without a fault."""
    names = [_OK, *(scenario.id for scenario in SCENARIOS)]
    timing = {"timeout": TIMEOUT, "first_token": FIRST_TOKEN}
    return [{"name": name, "model": name, "fallback_model": f"{name}-fallback", **timing} for name in names]


def play(running: list[stage.Contestant], missing: dict[str, str], raw: list[Any]) -> dict[str, Any]:
    """All scenarios with all systems side by side: verdict and reason by scenario and system."""
    began = time.monotonic()
    alive = [one for one in running if one.name not in missing]
    found: dict[str, dict[str, Any]] = {scenario.id: {} for scenario in SCENARIOS}

    def play_one(one: stage.Contestant) -> None:
        try:
            seen = _play(one, raw)
        except RuntimeError as error:
            missing[one.name] = str(error)
            return
        for scenario in SCENARIOS:
            found[scenario.id][one.name] = verdict(scenario, seen[scenario.id])

    with ThreadPoolExecutor(len(alive)) as pool:
        list(pool.map(play_one, alive))
    print(f"the scenarios of the failover benchmark: {time.monotonic() - began:.0f} s", flush=True)
    return found


def _play(one: stage.Contestant, raw: list[Any]) -> dict[str, Metrics]:
    stage.prepare(one, {})
    for scenario in SCENARIOS:
        _set_faults(one, scenario)
    start = time.time() + _LEAD
    long_first = sorted(SCENARIOS, key=lambda scenario: scenario.id not in ("S06", "S15"))
    offsets = {scenario.id: _APART * number for number, scenario in enumerate(long_first)}
    jobs = [
        {
            "group": scenario.id,
            "start": start + offsets[scenario.id],
            "deadline": scenario.within,
            "requests": list(map(asdict, scenario.requests)),
        }
        for scenario in SCENARIOS
    ]
    with ThreadPoolExecutor(1) as clock:
        healed = clock.submit(_end_the_outage, one, start + offsets["S15"])
        longest = max(offsets[scenario.id] + scenario.within + scenario.requests[-1].at for scenario in SCENARIOS)
        outcomes = one.play(jobs, _LEAD + longest + _GRACE)
        healed.result()
    after = {"group": _OK, "start": time.time(), "deadline": _AFTER, "requests": [asdict(Request(0.0, stream=False))]}
    (healthy,) = one.play(after, _AFTER + _GRACE)
    seen = {}
    for scenario, found in zip(SCENARIOS, outcomes, strict=True):
        visits = stage.observe(one, start + offsets[scenario.id])
        fallback_model = f"{scenario.id}-fallback"
        primary = [visit for visit in visits[0] if visit.model == scenario.id]
        fallback = [visit for visit in visits[1] if visit.model == fallback_model]
        raw.append(stage.raw(scenario.id, one.name, stage.Observed(found, primary, fallback)))
        seen[scenario.id] = Metrics(found, primary, fallback, fallback_model, healthy["outcome"] == "answered")
    return seen


def _set_faults(one: stage.Contestant, scenario: Scenario) -> None:
    for fault in scenario.faults:
        one.primary.set_fault(fault)
    for fault in scenario.fallback_faults:
        one.fallback.set_fault(fault)


def _end_the_outage(one: stage.Contestant, start: float) -> None:
    """Take S15's fault away and leave the others that last."""
    time.sleep(max(0.0, start + DOWN - time.time()))
    one.primary.heal()
    for scenario in SCENARIOS:
        for fault in scenario.faults:
            if scenario.id != "S15" and fault.times is None:
                one.primary.set_fault(fault)


def verdict(scenario: Scenario, seen: Metrics) -> dict[str, Any]:
    """By the rules of METHODOLOGY.md; ``calls`` are those of primary and fallback."""
    word, why = _verdict(scenario, seen)
    calls = [len(seen.primary), len(seen.fallback)]
    return {"verdict": word, "why": why, "calls": calls, "seconds": round(seen.seconds, 1)}


def _verdict(scenario: Scenario, seen: Metrics) -> tuple[str, str]:
    if seen.ended == "hang":
        return "fail", "hang"
    if seen.ended == "lie" and scenario.ends_well:
        return "fail", "a short answer that looks whole"
    broken = [check for check in scenario.checks if not check.holds(seen)]
    required = [check.name for check in broken if not check.advisory]
    if required:
        return "fail", "not: " + ", ".join(required)
    if not scenario.ends_well:
        return ("pass", "") if seen.ended == "error" else ("partial", "answered by the fallback")
    if not seen.whole:
        errors = [one["error"] for one in seen.outcomes if one["error"]]
        return "safe", errors[0][:80] if errors else ""
    advisory = [check.name for check in broken]
    return ("partial", "not: " + ", ".join(advisory)) if advisory else ("pass", "")
