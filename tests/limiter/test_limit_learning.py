"""Limits that vendors tell: shown, announced where the file promises more, and kept to."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from fake_clock import FakeClock

from wallie_litellm.core.circuit_breaker import BreakerRules, Verdict
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.limit_headers import VOCABULARIES, Vocabulary
from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.core.token_bucket import TokenBucket
from wallie_litellm.limiter.learn_rules import LearnRules
from wallie_litellm.limiter.learned_model import LearnedModel
from wallie_litellm.limiter.limit_learning import MOST_MODELS, MOST_SCOPES, UNKNOWN_CALLERS, Callers, LimitLearning
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits
from wallie_litellm.limiter.memory_store import MemoryStore
from wallie_litellm.limiter.store import Reservation

STEP = 0.1  # seconds between two attempts at sending


class Account:
    """A vendor's account: one model, a limit of requests per minute, and a tier that may change."""

    def __init__(self, clock: FakeClock, rpm: int) -> None:
        self.clock = clock
        self.rpm = rpm
        self.bucket = TokenBucket(rpm, rpm + 1)  # a request may travel longer than those before it
        self.served = self.refused = 0

    def raise_to(self, rpm: int) -> None:
        self.rpm = rpm
        self.bucket.resize(self.clock.now(), rpm, rpm + 1)

    def take(self) -> bool:
        return self.bucket.take_if_there(self.clock.now(), 1)

    def call(self) -> tuple[bool, dict[str, str]]:
        """Whether a call is served, and the headers of its answer."""
        served = self.take()
        self.served += served
        self.refused += not served
        left = max(0, int(self.rpm - self.bucket.used(self.clock.now())))
        return served, self.headers(left)

    def headers(self, left: int) -> dict[str, str]:
        said = {
            "x-ratelimit-limit-requests": str(self.rpm),
            "x-ratelimit-remaining-requests": str(left),
            "date": formatdate(self.clock.wall(), usegmt=True),
        }
        return {f"llm_provider-{name}": value for name, value in said.items()}


class Program:
    """An application that calls one model as often as its limiter lets it, with what answers say learned."""

    said: tuple[Sighting, ...] = ()  # of its limits, in the text of a refusal

    def __init__(
        self,
        clock: FakeClock,
        rules: dict[str, LearnRules],
        limits: AccountLimits,
        vocabulary: Vocabulary = VOCABULARIES["openai"],
        processes: int = 1,
        callers: Callers = UNKNOWN_CALLERS,
    ) -> None:
        self.clock = clock
        self.vocabulary = vocabulary
        self.limiter = Limiter("openai", MemoryStore("openai", limits, BreakerRules(), clock.wall), clock, 600.0)
        self.announced: list[tuple[Any, ...]] = []
        announce = lambda *event: self.announced.append(event)  # noqa: E731
        self.learning = LimitLearning(self.limiter, rules, clock, announce, processes, callers=callers)
        self._under_way: list[tuple[float, Reservation, bool, dict[str, str]]] = []

    def model(self, name: str = "gpt-4o", account: str = "openai") -> LearnedModel:
        found = self.learning.model(name, self.limiter.scope_of(name), account, self.vocabulary)
        assert found is not None
        return found

    def run(self, account: Account, seconds: float, latency: float = 0.4, per_second: float = 10.0) -> None:
        """Send as much as fits for so long; an answer comes ``latency`` seconds after its call."""
        clock, model = self.clock, self.model()
        due, end = clock.now(), clock.now() + seconds
        while clock.now() < end:
            self._answer()
            while due <= clock.now():
                due += 1 / per_second
                taken = self.limiter.reserve(Demand(1, 10, 5, 5), scope=self.limiter.scope_of(model.model))
                if isinstance(taken, Reservation):
                    self._under_way.append((clock.now() + latency, taken, *account.call()))
            clock.advance(STEP)

    def _answer(self) -> None:
        while self._under_way and self._under_way[0][0] <= self.clock.now():
            _, reservation, served, headers = self._under_way.pop(0)
            if served:
                self.model().answered(headers, reservation.at)
            else:
                plain = {name.removeprefix("llm_provider-"): value for name, value in headers.items()}
                self.model().rejected(self.said, plain, reservation.at)
            self.limiter.settle(reservation, reservation.demand, Verdict.SUCCESS if served else Verdict.IGNORED)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    clock = FakeClock()
    yield clock
    clock.close()


def of_file(mode: str, rpm: int = 500) -> tuple[dict[str, LearnRules], AccountLimits]:
    return {"": LearnRules(mode, stated={"rpm": rpm})}, AccountLimits({"rpm": rpm})


@pytest.mark.parametrize("latency", [0.4, 12.0])
def test_enforce_keeps_to_the_accounts_limit_and_uses_it(clock: FakeClock, latency: float) -> None:
    program, account = Program(clock, *of_file("enforce")), Account(clock, 60)
    program.run(account, 1.0, latency=0.1, per_second=2)  # the first answer
    assert account.refused <= 3
    first, before = account.refused, account.served
    program.run(account, 600.0, latency=latency)
    assert account.refused == first
    assert account.served - before >= 0.95 * 600
    assert len(program.announced) == 1


def test_advise_changes_nothing_and_announces_once(clock: FakeClock) -> None:
    program, account = Program(clock, *of_file("advise")), Account(clock, 60)
    program.run(account, 120.0, per_second=1)
    assert program.announced == [("openai", "gpt-4o", "rpm", 500, 60)]
    assert program.limiter.scopes == ()
    assert program.learning.learned("", "rpm") == program.learning.learned("gpt-4o", "rpm") == 60
    assert program.limiter.state().usage["rpm"].limit == 500


def test_a_raised_tier_is_used_within_a_minute(clock: FakeClock) -> None:
    program, account = Program(clock, *of_file("enforce", 5000)), Account(clock, 60)
    program.run(account, 120.0, per_second=2)
    account.raise_to(1200)
    program.run(account, 60.0, per_second=30)
    refused, before = account.refused, account.served
    program.run(account, 60.0, per_second=30)
    assert account.served - before >= 0.95 * 1200
    assert account.refused == refused


def test_of_an_account_that_another_program_half_uses_few_of_our_calls_are_refused(clock: FakeClock) -> None:
    program, account = Program(clock, *of_file("enforce", 600)), Account(clock, 600)
    program.run(account, 2.0)
    served, refused = account.served, account.refused
    for _ in range(600):
        for _ in range(5):
            account.take()  # half of what there is
        program.run(account, 1.0, per_second=20)
    assert account.refused - refused <= 0.02 * (account.served - served)
    assert account.served - served >= 0.9 * 3000


def test_a_limit_that_has_no_number_takes_the_vendors(clock: FakeClock) -> None:
    rules = {"": LearnRules("advise", autos=frozenset({"rpm"}))}
    program, account = Program(clock, rules, AccountLimits({"rpm": 500})), Account(clock, 60)
    program.run(account, 60.0, per_second=2)
    state = program.limiter.state()
    assert state.usage["rpm"].limit == 500, "other models may have more than this one"
    assert state.models["gpt-4o"].usage["rpm"].limit == 60
    assert program.announced == []
    for _ in range(2):
        program.model("gpt-4o-mini").answered(Account(clock, 4000).headers(4000), clock.now())
    state = program.limiter.state()
    assert state.usage["rpm"].limit == 4060
    assert [own.usage["rpm"].limit for own in state.models.values()] == [60, 4000]


def test_models_that_share_an_entry_are_kept_to_the_smallest_of_their_limits(clock: FakeClock) -> None:
    rules = {"": LearnRules("off"), "gpt-*": LearnRules("enforce", stated={"rpm": 500})}
    limits = AccountLimits(models={"gpt-*": ScopeLimits({"rpm": 500})})
    program = Program(clock, rules, limits)
    for name, rpm in (("gpt-4o", 60), ("gpt-4o-mini", 300)):
        for _ in range(2):
            program.model(name).answered(Account(clock, rpm).headers(rpm), clock.now())
    assert program.limiter.state().models["gpt-*"].usage["rpm"].limit == 60
    assert program.learning.model("o3", "", "openai", VOCABULARIES["openai"]) is None


def test_keys_of_several_organisations_do_not_hold_each_other_down(clock: FakeClock) -> None:
    program = Program(clock, *of_file("enforce"))
    small, large = (program.model(account=f"openai#{digest}") for digest in ("11111111", "22222222"))
    for _ in range(3):
        small.answered(Account(clock, 60).headers(0), clock.now())
        large.answered(Account(clock, 400).headers(300), clock.now())
    usage = program.limiter.state().models["gpt-4o"].usage["rpm"]
    assert usage.limit == 400
    assert usage.left == pytest.approx(301)
    assert program.announced == [("openai", "gpt-4o", "rpm", 500, 400)]


@pytest.mark.parametrize("left", [990, 500], ids=["all but a few", "half"])
def test_a_key_whose_day_is_used_up_leaves_the_other_ones_alone(clock: FakeClock, left: int) -> None:
    program = Program(clock, *of_file("enforce"), vocabulary=VOCABULARIES["groq"])
    keys = [program.model(account=f"openai#{key}") for key in "ab"]
    requests = "llm_provider-x-ratelimit-{}-requests"
    said = [{requests.format("limit"): "1000", requests.format("remaining"): str(one)} for one in (left, 0)]
    for _ in range(2):
        for key, headers in zip(keys, said, strict=True):
            key.answered(headers, clock.now())
    clock.advance(3600)  # the first key is not called for a while
    keys[1].answered(said[1], clock.now())
    assert program.limiter.state().models["gpt-4o"].usage["rpd"].left >= left


@pytest.mark.parametrize("vendor", ["groq", "openai"], ids=["a day", "a minute"])
def test_a_key_that_is_used_up_bounds_nothing_while_another_one_has_said_nothing(clock: FakeClock, vendor: str) -> None:
    keys = [f"openai#{key}" for key in "ab"]
    callers = Callers(accounts_of=lambda _model: keys)
    program = Program(clock, *of_file("enforce"), vocabulary=VOCABULARIES[vendor], callers=callers)
    used_up, other = (program.model(account=key) for key in keys)
    requests = "llm_provider-x-ratelimit-{}-requests"
    said = {requests.format("limit"): "1000", requests.format("remaining"): "0"}
    for _ in range(3):
        used_up.answered(said, clock.now())
        clock.advance(1)
    (usage,) = program.limiter.state().models["gpt-4o"].usage.values()
    assert usage.left == usage.limit
    for _ in range(2):
        other.answered({**said, requests.format("remaining"): "30"}, clock.now())
    (usage,) = program.limiter.state().models["gpt-4o"].usage.values()
    assert usage.left <= 31


def test_a_key_that_is_called_no_longer_says_nothing(clock: FakeClock) -> None:
    left: set[str] = set()
    program = Program(clock, *of_file("enforce"), callers=Callers(has_left=left.__contains__))
    gone, kept = (program.model(account=f"openai#{key}") for key in "ab")
    for _ in range(3):
        gone.answered(Account(clock, 400).headers(400), clock.now())
        kept.answered(Account(clock, 60).headers(60), clock.now())
    assert program.limiter.state().models["gpt-4o"].usage["rpm"].limit == 400
    left.add("openai#a")
    program.learning.accounts_changed()
    clock.advance(1)
    kept.answered(Account(clock, 60).headers(0), clock.now())
    usage = program.limiter.state().models["gpt-4o"].usage["rpm"]
    assert (program.learning.learned("gpt-4o", "rpm"), usage.limit, usage.left) == (60, 60, pytest.approx(1))


@pytest.mark.parametrize("latency", [0.1, 0.4])
def test_of_an_account_that_is_empty_at_first_little_is_lost(clock: FakeClock, latency: float) -> None:
    program, account = Program(clock, *of_file("enforce")), Account(clock, 60)
    account.bucket.take(clock.now(), 61)
    program.run(account, 60.0, latency=latency, per_second=6)
    assert account.refused <= 3
    assert account.served >= 0.93 * 60


def test_answers_that_come_late_say_nothing(clock: FakeClock) -> None:
    program, account = Program(clock, *of_file("enforce")), Account(clock, 60)
    old = account.headers(3)
    clock.advance(30)
    program.model().answered(account.headers(50), clock.now())
    program.model().answered(old, clock.now())
    assert program.limiter.state().models["gpt-4o"].usage["rpm"].left == pytest.approx(51)
    older = Account(clock, 40).headers(40) | {"llm_provider-date": old["llm_provider-date"]}
    program.model().answered(older, clock.now())
    assert program.learning.learned("gpt-4o", "rpm") == 60


def test_a_limit_that_is_said_again_is_as_old_as_the_last_answer(clock: FakeClock) -> None:
    program, account = Program(clock, *of_file("advise")), Account(clock, 60)
    model = program.model()
    for _ in range(5):
        clock.advance(100)
        model.answered(account.headers(60), clock.now())
    assert program.learning.said("gpt-4o", "rpm") == ("headers", clock.now())
    seen_at = clock.now()
    for _ in range(3):
        clock.advance(100)
        model.answered({}, clock.now())
    assert program.learning.said("", "rpm") == ("headers", seen_at)


def test_several_processes_divide_what_the_vendor_allows_and_leaves(clock: FakeClock) -> None:
    rules, limits = of_file("enforce")
    program = Program(clock, rules, limits.share(4), processes=4)
    program.model().answered(Account(clock, 60).headers(19), clock.now())
    usage = program.limiter.state().models["gpt-4o"].usage["rpm"]
    assert (usage.limit, usage.left) == (15, 5)


@pytest.mark.parametrize("named", [(), (Sighting("rpm"),)])
def test_refusals_that_name_no_amount_make_careful_and_are_forgotten(
    clock: FakeClock, named: tuple[Sighting, ...]
) -> None:
    program, account = Program(clock, *of_file("enforce", 60), vocabulary=Vocabulary((), "")), Account(clock, 40)
    program.said = named
    program.run(account, 120.0)
    refused, served = account.refused, account.served
    program.run(account, 600.0)
    assert account.refused - refused <= 0.08 * (account.served - served)
    assert account.served - served >= 0.85 * 400
    account.raise_to(1000)
    program.run(account, 240.0)
    served = account.served
    program.run(account, 60.0)
    assert account.served - served >= 0.98 * 60


def test_a_refusal_for_one_dimension_leaves_the_others_alone(clock: FakeClock) -> None:
    rules = {"": LearnRules("enforce", stated={"rpm": 60, "tpm": 6000})}
    program = Program(clock, rules, AccountLimits({"rpm": 60, "tpm": 6000}), vocabulary=Vocabulary((), ""))
    program.limiter.reserve(Demand(50, 5000, 5000, 0))
    for _ in range(2):
        program.model().rejected((Sighting("tpm"),), {}, clock.now())
        program.model().answered({}, clock.now())
        clock.advance(1.0)
    usage = program.limiter.state().usage
    assert usage["rpm"].left == pytest.approx(12)
    assert usage["tpm"].left < 1200


def test_a_refusal_that_names_the_limit_is_learned_from(clock: FakeClock) -> None:
    program = Program(clock, *of_file("enforce"))
    program.model("gemini-2.5-flash").rejected((Sighting("rpm", 10), Sighting("rpd", 250)), {}, clock.now())
    usage = program.limiter.state().models["gemini-2.5-flash"].usage
    assert {name: one.limit for name, one in usage.items()} == {"rpm": 10, "rpd": 250}


def test_models_that_callers_invent_get_a_bounded_number_of_scopes(clock: FakeClock) -> None:
    program = Program(clock, *of_file("enforce"))
    for number in range(MOST_SCOPES + 5):
        program.model(f"model-{number}").answered(Account(clock, 60).headers(60), clock.now())
    assert len(program.limiter.scopes) == MOST_SCOPES


def test_a_model_that_a_router_names_has_a_scope_whatever_models_callers_invent(clock: FakeClock) -> None:
    program = Program(clock, *of_file("enforce"), callers=Callers(names="openai|gpt-4o".__eq__))
    for model in [*(f"model-{number}" for number in range(MOST_SCOPES)), "gpt-4o"]:
        program.model(model).answered(Account(clock, 60).headers(60), clock.now())
    assert program.limiter.scope_of("gpt-4o") == "gpt-4o"


def test_of_more_models_than_are_learned_of_the_one_that_was_called_longest_ago_is_forgotten(clock: FakeClock) -> None:
    called: dict[str, float] = {}
    program = Program(clock, *of_file("advise"), callers=Callers(last_call=called.__getitem__))
    for number in range(MOST_MODELS + 50):
        for model in ("gpt-4o", f"model-{number}"):
            clock.advance(0.1)
            called[f"openai|{model}"] = clock.now()
            program.model(model).answered(Account(clock, 60).headers(60), clock.now())
    scopes = program.learning.scopes()
    assert len(scopes) == MOST_MODELS + 1  # with the account's
    assert {"gpt-4o", "model-51", f"model-{MOST_MODELS + 49}"} <= set(scopes)
    assert "model-50" not in scopes


def test_a_model_whose_name_has_characters_of_a_pattern_has_a_scope_of_its_own(clock: FakeClock) -> None:
    program = Program(clock, *of_file("enforce"))
    program.model("m[1]*").answered(Account(clock, 60).headers(60), clock.now())
    assert program.limiter.scope_of("openai/m[1]*")
    assert not program.limiter.scope_of("openai/m1x")


@pytest.mark.parametrize("headers", [{}, {"llm_provider-x-ratelimit-limit-requests": "-1"}])
def test_answers_without_limits_change_nothing(clock: FakeClock, headers: dict[str, str]) -> None:
    program = Program(clock, *of_file("enforce"))
    program.model().answered(headers, clock.now())
    assert program.limiter.scopes == ()
    assert program.learning.scopes() == [""]
