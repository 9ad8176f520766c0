"""The script in Redis gives the answers of the pure core, whatever workers report and ask in whatever order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_support import RedisServer

from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.earlier_state import JOINED_WITHIN
from wallie_litellm.core.lease_exchange import VERSION
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.core.lease_terms import WORKER_TIMEOUT
from wallie_litellm.core.limit_keys import scope_in
from wallie_litellm.core.served_models import MOST_SERVED, SERVED_LATELY
from wallie_litellm.limiter.redis.layout import CHANNEL, SCRIPT, key_of

RULES = {
    "failures": 3,
    "error_rate": None,
    "slow_rate": None,
    "window": 60.0,
    "min_calls": 4,
    "open_for": 5.0,
    "max_open_for": 60.0,
    "probes": 2,
}
RATES = {"rpm": [60.0, 20.0], "tpm": [6000.0, 500.0], "rpm@a*": [30.0, 9.0], "tpm@b@1": [600.0, 40.0]}
DAYS = {"rpd": 60, "rpd@a*": 25}
SLOTS = {"concurrency": 7, "concurrency@b@1": 3}
DAY = 40.0  # seconds, so that some end
NAMES = (*RATES, *DAYS)
SCOPES = ("", "a*", "b@1")
ACTIONS = ("close", "force_open", "disable", "release")
AMOUNT = st.integers(0, 12)
SOME = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 12))
PASSED = {scope: [name for name in NAMES if scope_in(name) in ("", scope)] for scope in SCOPES}
NEED = st.sampled_from(SCOPES).flatmap(
    lambda scope: st.tuples(st.just(scope), st.dictionaries(st.sampled_from(PASSED[scope]), st.integers(1, 12)))
)
IN_FORCE = st.tuples(st.sampled_from([0.0, -1.0, -20.0]), st.sampled_from([0, 6, 30]), st.just(30.0), st.just(8.0))

outcomes = st.tuples(
    st.integers(-1, 0),  # of an earlier generation, or of this one
    st.sampled_from(["success", "slow", "failure", "ignored"]),
    st.booleans(),
    st.integers(1, 3),
)
steps = st.fixed_dictionaries(
    {
        "pause_before": st.sampled_from([0.0, 0.01, 0.4, 1.0, 3.5, 7.0, 70.0]),
        "worker": st.sampled_from(["a", "b", "c"]),
        "answered": st.sampled_from([True, True, True, False]),
        "overtaken": st.sampled_from([False] * 5 + [True]),  # by the next request of this worker
        "is_lost": st.sampled_from([False] * 9 + [True]),  # the state, before
        "spend": AMOUNT,
        "give_back": st.booleans(),
        "charge": SOME,
        "refunds": st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 12), st.floats(0, 9)), max_size=2),
        "recent": st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-9, 12), st.floats(-1, 70)), max_size=3),
        "outcomes": st.lists(outcomes, max_size=2),
        "actions": st.lists(st.sampled_from(ACTIONS), max_size=1) | st.just([]) | st.just([]),
        "pause": st.sampled_from([0.0, 0.0, 0.0, 2.0]),
        "reset": st.sampled_from([[]] * 9 + [[""], ["a*"]]),
        "needs": st.lists(NEED, max_size=3, unique_by=lambda need: need[0]),
        "prefetch": SOME,
        "queued": SOME,
        "max_wait": st.sampled_from([0.0, 2.0, 1e9]),
        "slots": st.dictionaries(st.sampled_from([*SLOTS]), st.tuples(st.integers(0, 3), st.integers(0, 9))),
        "limits": st.dictionaries(st.sampled_from([*NAMES, *SLOTS]), IN_FORCE, max_size=1) | st.just({}) | st.just({}),
        "bounds": st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 20), st.floats(0, 5)), max_size=1)
        | st.just([])
        | st.just([]),
        "served": st.dictionaries(st.sampled_from("mno"), st.sampled_from([0.0, 3.0, 590.0, 700.0]), max_size=2)
        | st.just({}),
        # Seconds since the server went away, and the workers that shared it then.
        "away": st.none() | st.none() | st.tuples(st.sampled_from([0.1, 2.0, 30.0]), st.integers(1, 4)),
        "part": st.sampled_from([1.0] * 5 + [0.5]),  # of the limits, in the worker's file
        "probe": st.booleans(),
        "error_rate": st.sampled_from([None, None, 0.5]),
        "slow_rate": st.sampled_from([None, None, 0.5]),
    }
)


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with RedisServer() as server:
        yield server.client().register_script(SCRIPT)


class Exchanges:
    """Workers whose requests, drawn at random, go to the core and to Redis at once."""

    def __init__(self, script: Any) -> None:
        self.now = 1_790_000_000.0
        self.core = LeaseServer()
        self.script = script
        self.workers: dict[str, dict[str, Any]] = {}
        self.overtaken: dict[str, dict[str, Any]] = {}
        script.registered_client.flushall()

    def step(self, step: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Both answers to each request that arrives in this step."""
        self.now = round(self.now + step["pause_before"], 6)
        if step["is_lost"]:
            self.core = LeaseServer()
            self.script.registered_client.flushall()
        request = self.request(step)
        late = self.overtaken.pop(step["worker"], None)
        if step["overtaken"]:
            self.overtaken[step["worker"]] = request
            return []
        answers = [self.arrive(step, request)]
        if late is not None:
            answers.append(self.exchange(late))
        return answers

    def arrive(self, step: dict[str, Any], request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        core, redis_ = self.exchange(request)
        if not core["initialised"]:
            assert redis_["initialised"] is False
            held = self.workers[step["worker"]]["leased"]
            seed = {
                "workers": step["spend"] % 4 + 1,
                "held": dict(held),
                "others": step["prefetch"],
                "used": {"rpm": 3.0, "rpd": 5.0, **step["queued"]},
                "last_minute": {"rpm": 4.0, "otpm": 1.0},
                "pause": 0.0,
                "breaker": {"state": "closed", "generation": 0, "reason": None, "reopens_in": 0.0, "open_for": 5.0},
            }
            held.clear()
            core, redis_ = self.exchange({**request, "seed": seed})
        me = self.workers[step["worker"]]
        me["generation"] = core["breaker"]["generation"]
        if step["answered"]:
            if me["lease_id"] != core["lease_id"]:
                me["leased"] = {}
            me["lease_id"], me["ack"], me["unconfirmed"] = core["lease_id"], core["seq"], []
            me["born"] = {"born": core["born"]}
            for name, (amount, _, _) in core["grants"].items():
                me["leased"][name] = me["leased"].get(name, 0) + amount
            if core["breaker"]["permit"]:
                me["permits"].append(core["breaker"]["permit"])
        return core, redis_

    def exchange(self, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        text = json.dumps(request)
        reply = self.script([key_of("p")], [text, CHANNEL, "p", 1000, repr(self.now)])
        core: Any = self.core.exchange(self.now, json.loads(text))
        return core, json.loads(reply)

    def request(self, step: dict[str, Any]) -> dict[str, Any]:
        fresh = {"seq": 0, "ack": 0, "lease_id": 0, "leased": {}, "unconfirmed": [], "permits": [], "generation": 0}
        me = self.workers.setdefault(step["worker"], {**fresh, "born": {}})
        me["seq"] += 1
        spent = {name: min(step["spend"], left) for name, left in me["leased"].items()}
        me["leased"] = {name: left - spent[name] for name, left in me["leased"].items()}
        back = dict(me["leased"]) if step["give_back"] else {}
        if back:
            me["leased"] = {}
        outcomes = [
            [me["generation"] + age, verdict, me["permits"].pop() if probe and me["permits"] else 0, verdict, count]
            for age, verdict, probe, count in step["outcomes"]
        ]
        me["unconfirmed"].append(
            {
                "seq": me["seq"],
                "lease_id": me["lease_id"],
                "spent": {name: amount for name, amount in spent.items() if amount},
                "returned": {name: amount for name, amount in back.items() if amount},
                "charge": step["charge"],
                "refunds": [[name, amount, self.now - age] for name, amount, age in step["refunds"]],
                "recent": [[name, amount, self.now - age] for name, amount, age in step["recent"]],
                "outcomes": outcomes,
                "actions": step["actions"],
                "pause": step["pause"],
                "reset": step["reset"],
                **({"away": [self.now - step["away"][0], step["away"][1]]} if step["away"] else {}),
            }
        )
        ends = (self.now // DAY + 1) * DAY
        return {
            "rate_limits": {name: [amount * step["part"] for amount in limit] for name, limit in RATES.items()},
            "daily_limits": {name: [int(limit * step["part"]), ends] for name, limit in DAYS.items()},
            "slots": {name: [int(SLOTS[name] * step["part"]), *counts] for name, counts in step["slots"].items()},
            "limits": {name: [self.now + age, *limit] for name, (age, *limit) in step["limits"].items()},
            "bounds": [[name, left, self.now - age] for name, left, age in step["bounds"]],
            "served": {name: self.now - age for name, age in step["served"].items()},
            "breaker_rules": {**RULES, "error_rate": step["error_rate"], "slow_rate": step["slow_rate"]},
            "version": VERSION,
            "worker": step["worker"],
            **me["born"],
            "ack": me["ack"],
            "lease_ttl": 3.0,
            "reports": me["unconfirmed"],
            **{name: step[name] for name in ("needs", "prefetch", "queued", "max_wait", "probe")},
        }


def differences(core: Any, other: Any, path: str = "") -> list[str]:
    """Where two answers differ by more than fourteen digits can express."""
    if isinstance(core, dict):
        other = other or {}
        keys = {key for key in core if core[key] is not None} | set(other)
        return [
            line
            for key in sorted(keys - {"now"})
            for line in differences(core.get(key), other.get(key), f"{path}.{key}")
        ]
    if isinstance(core, list | tuple) and isinstance(other, list) and len(core) == len(other):
        return [line for one, two in zip(core, other, strict=True) for line in differences(one, two, path)]
    if isinstance(core, float) and isinstance(other, float | int) and core == pytest.approx(other, abs=2e-5):
        return []
    return [] if core == other else [f"{path}: {core} in the core, {other} in Redis"]


@given(st.lists(steps, max_size=25))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_and_the_core_give_the_same_answers(script: Any, sequence: list[dict[str, Any]]) -> None:
    fleet = Exchanges(script)
    for step in sequence:
        for core, answer in fleet.step(step):
            assert not differences(core, answer)


def test_a_server_without_a_state_asks_for_a_seed_and_stores_nothing(script: Any) -> None:
    script.registered_client.flushall()
    request = {"version": VERSION, "worker": "a", "breaker_rules": RULES, "rate_limits": {}, "daily_limits": {}}
    assert json.loads(script([key_of("p")], [json.dumps(request), CHANNEL, "p", 9]))["initialised"] is False
    assert not script.registered_client.keys()


def request_of(worker: str, ack: int, used: float, state: str) -> dict[str, Any]:
    breaker = {"state": state, "generation": 3, "reason": state, "reopens_in": 0.0, "open_for": 5.0}
    return {
        "rate_limits": RATES,
        "daily_limits": {name: [limit, 1_790_000_900.0] for name, limit in DAYS.items()},
        "breaker_rules": RULES,
        "version": VERSION,
        "worker": worker,
        "ack": ack,
        "lease_ttl": 3.0,
        "reports": [],
        "needs": [],
        "prefetch": {},
        "queued": {},
        "max_wait": 0.0,
        "slots": {},
        "probe": False,
        **({"born": "an earlier state"} if ack else {}),
        "seed": {
            "workers": 1,
            "held": {},
            "others": {},
            "used": {"rpm": used, "rpd": used},
            "last_minute": {"rpm": used},
            "pause": 0.0,
            "breaker": breaker,
        },
    }


def reporting(worker: str, seq: int, *actions: str) -> dict[str, Any]:
    """A request with an operator's ``actions``, that asks for the permit to probe as well."""
    nothing: dict[str, Any] = {"spent": {}, "returned": {}, "charge": {}, "refunds": [], "recent": [], "outcomes": []}
    report = {**nothing, "seq": seq, "lease_id": 0, "actions": list(actions), "pause": 0.0, "reset": []}
    return {**request_of(worker, 0, 0.0, "closed"), "reports": [report], "probe": True}


@pytest.mark.parametrize(
    ("actions", "state", "changes"),
    [
        (["force_open", "release"], "half_open", 2),
        (["disable", "release"], "closed", 2),
        (["release"], "closed", 0),
        (["force_open", "release", "release"], "half_open", 2),
    ],
)
def test_a_release_ends_an_operators_action_and_nothing_else(
    script: Any, actions: list[str], state: str, changes: int
) -> None:
    fleet = Exchanges(script)
    answers = fleet.exchange(reporting("a", 1, *actions))
    assert not differences(*answers)
    assert (answers[0]["breaker"]["state"], answers[0]["breaker"]["generation"]) == (state, 3 + changes)


def test_after_a_release_as_many_workers_probe_as_the_rules_say(script: Any) -> None:
    fleet = Exchanges(script)
    fleet.exchange(reporting("a", 1, "force_open"))
    permits = []
    for request in (reporting("b", 1, "release"), reporting("a", 2), reporting("c", 1)):
        answers = fleet.exchange(request)
        assert not differences(*answers)
        permits.append(answers[0]["breaker"]["permit"])
    assert permits == [1, 2, 0]


def test_what_workers_of_a_lost_state_have_of_it_is_added_once_whatever_was_used_since(script: Any) -> None:
    fleet = Exchanges(script)
    for answer in fleet.exchange(request_of("new", 0, 2.0, "closed")):
        assert answer["breaker"]["state"] == "closed"
    unasked = {key: value for key, value in request_of("old", 7, 12.0, "forced_open").items() if key != "seed"}
    assert [answer["initialised"] for answer in fleet.exchange(unasked)] == [False, False]
    used = {"spent": {}, "returned": {}, "charge": {"rpd": 3, "rpm": 3}, "refunds": [], "recent": [], "outcomes": []}
    report = {**used, "seq": 1, "lease_id": 0, "actions": [], "pause": 0.0, "reset": []}
    fleet.exchange({**request_of("new", 0, 0.0, "closed"), "reports": [report]})
    for worker, units in (("old", 12.0), ("older", 9.0), ("old", 12.0)):
        answers = fleet.exchange(request_of(worker, 7, units, "forced_open"))
        assert not differences(*answers)
        assert answers[0]["breaker"]["state"] == "forced_open"
        assert answers[0]["used"]["rpd"] == 12 + 3
        assert answers[0]["used"]["rpm"] == pytest.approx(12 + 3)
        assert answers[0]["last_minute"]["rpm"] == 12


def test_nothing_is_leased_until_the_workers_of_a_lost_state_have_joined_or_had_the_time_to(script: Any) -> None:
    fleet = Exchanges(script)

    def ask(worker: str, held: float) -> tuple[float, float]:
        """Units granted to a worker, and on lease to all."""
        request = request_of(worker, 7, 30.0, "closed")
        request["seed"] |= {"workers": 3, "held": {"rpd": held}, "others": {"rpd": 10.0}}
        answers = fleet.exchange({**request, "needs": [["", {"rpd": 1.0}]]})
        assert not differences(*answers)
        return answers[0]["grants"].get("rpd", [0])[0], answers[0]["leased"]["rpd"]

    assert ask("a", held=2.0) == (0, 10)
    assert ask("b", held=4.0) == (0, 6)
    fleet.now += JOINED_WITHIN
    assert ask("b", held=4.0) == (1, 6 + 1)  # the third may still spend what it held
    fleet.now += WORKER_TIMEOUT - JOINED_WITHIN
    answers = fleet.exchange(request_of("a", 7, 30.0, "closed"))
    assert not differences(*answers)
    assert answers[0]["used"]["rpd"] == 30 + 6 + 1
    assert answers[0]["leased"]["rpd"] == 0


def test_a_request_of_another_version_is_refused_and_changes_nothing(script: Any) -> None:
    fleet = Exchanges(script)
    fleet.exchange(request_of("a", 4, 5.0, "closed"))
    stored = script.registered_client.get(key_of("p"))
    other = {**reporting("a", 1, "force_open"), "version": VERSION + 1}
    core, answer = fleet.exchange(other)
    assert core == answer
    assert core["initialised"] is False
    assert core["error"] == f"the request is of version {VERSION + 1}, the lease server of version {VERSION}"
    assert script.registered_client.get(key_of("p")) == stored
    assert (fleet.core.breaker.state, fleet.core.workers["a"].seq) == (BreakerState.CLOSED, 0)


def test_a_state_of_another_version_is_refused_and_left_as_it_is(script: Any) -> None:
    fleet = Exchanges(script)
    client = script.registered_client
    later = client.register_script(SCRIPT.replace(f"local VERSION = {VERSION}", f"local VERSION = {VERSION + 1}"))
    request = {**request_of("a", 4, 5.0, "closed"), "version": VERSION + 1}
    assert json.loads(later([key_of("p")], [json.dumps(request), CHANNEL, "p", 1000]))["initialised"] is True
    stored = client.get(key_of("p"))
    refused = json.loads(script([key_of("p")], [json.dumps(request_of("b", 4, 5.0, "closed")), CHANNEL, "p", 1000]))
    assert refused["initialised"] is False
    assert refused["error"] == f"the state is of version {VERSION + 1}, the lease server of version {VERSION}"
    assert client.get(key_of("p")) == stored
    assert fleet.core.initialised is False


def test_a_request_with_a_version_only_checks_it_and_changes_nothing(script: Any) -> None:
    script.registered_client.flushall()
    answer = json.loads(script([key_of("p")], [json.dumps({"version": VERSION}), CHANNEL, "p", 1000]))
    assert answer == {"initialised": False}
    assert not script.registered_client.keys()


def test_of_many_models_that_have_served_lately_the_latest_are_kept(script: Any) -> None:
    fleet = Exchanges(script)
    for first in (0, 10):
        served = {f"m{number}": fleet.now - number for number in range(first, first + 15)}
        request = {**request_of("a", 0, 0.0, "closed"), "served": served}
        core, answer = fleet.exchange(request)
        assert not differences(core, answer)
    assert core["served"] == {f"m{number}": number for number in range(MOST_SERVED)}
    fleet.now += SERVED_LATELY - 10.5
    core, answer = fleet.exchange(request_of("a", 0, 0.0, "closed"))
    assert not differences(core, answer)
    assert set(core["served"]) == {f"m{number}" for number in range(11)}
