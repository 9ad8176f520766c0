"""Tiers: what a request names, and the chain that comes of it. No call is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fake_clock import FakeClock

from wallie_litellm.config import parse_config
from wallie_litellm.core.prompt_complexity import PromptComplexity
from wallie_litellm.errors import UnknownTier
from wallie_litellm.guard import Guard
from wallie_litellm.guard.chain import stated_chain
from wallie_litellm.guard.context import Caller
from wallie_litellm.guard.planner import Planner
from wallie_litellm.routing.auto import MOST_SESSIONS, SESSION_KEPT
from wallie_litellm.routing.plan import Member, Plan

GROUPS = ("mini", "sonnet", "opus", "gpt")
TIERS = {"flash": ["mini", "sonnet"], "standard": ["sonnet", "gpt"], "premium": ["opus", "gpt"]}
AUTO = {"simple": "flash", "medium": "standard", "complex": "premium"}
LEVELS = {"hi": "simple", "summarize": "medium", "prove": "reasoning", "design": "complex"}


class Planning:
    """Plans by a file, with a classifier that looks at the first word."""

    def __init__(self, **auto: Any) -> None:
        routing = {"tiers": TIERS, **({"auto": {**AUTO, **auto}} if auto is not None else {})}
        features = {"chat": {"tier": "flash"}, "smart": {"tier": "auto"}, "plain": {}}
        models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}"}} for name in GROUPS]
        data = {"model_list": models, "wallie": {"routing": routing, "features": features}}
        self.clock = FakeClock()
        self.routing = Guard(parse_config(data, env={}).wallie, clock=self.clock).routing
        self.looked_at: list[str] = []
        tiers = self.routing.tiers
        assert tiers is not None
        assert tiers.auto is not None
        self.auto = tiers.auto
        self.auto.classify = self._classify
        self._planner = Planner(self.routing, lambda group: stated_chain(group, ["gpt"]))

    def _classify(self, prompt: str) -> PromptComplexity:
        self.looked_at.append(prompt)
        return PromptComplexity(LEVELS[prompt.split()[0]], 0.5, ("code (python)",))  # type: ignore[arg-type]

    def plan(
        self, model: str | None = None, text: str = "hi", feature: str | None = None, user: str | None = None,
        metadata: Mapping[str, Any] = {}, operation: str = "chat", **stated: Any,
    ) -> Plan:  # fmt: skip
        arguments = {"messages": [{"role": "user", "content": text}]}
        return self._planner.plan(model, arguments, Caller(feature, user, metadata), stated, operation)


def groups(plan: Plan) -> list[str]:
    return [plan.group, *(member.group for member in plan.members)]


@pytest.mark.parametrize(
    ("request_", "chain", "tier", "requested"),
    [
        ({"model": "flash"}, ["mini", "sonnet"], "flash", "flash"),
        ({"model": "mini"}, ["mini", "gpt"], None, None),
        ({"model": "mini", "tier": "premium"}, ["opus", "gpt"], "premium", "mini"),
        ({"model": "mini", "metadata": {"tier": "premium"}}, ["opus", "gpt"], "premium", "mini"),
        ({"model": "mini", "metadata": {"tier": "gold"}}, ["mini", "gpt"], None, None),
        ({"feature": "chat"}, ["mini", "sonnet"], "flash", "flash"),
        ({"model": "", "feature": "chat"}, ["mini", "sonnet"], "flash", "flash"),
        ({"model": "opus", "feature": "chat"}, ["opus", "gpt"], None, None),
        ({"feature": "chat", "tier": "standard"}, ["sonnet", "gpt"], "standard", "standard"),
        ({"model": "auto", "text": "hi"}, ["mini", "sonnet"], "flash", "auto"),
        ({"feature": "smart", "text": "design it"}, ["opus", "gpt"], "premium", "auto"),
        ({"model": "auto", "text": "prove it"}, ["opus", "gpt"], "premium", "auto"),
        ({"model": "flash", "fallbacks": ["opus"]}, ["mini", "opus"], "flash", "flash"),
        ({"model": "flash", "fallbacks": ["mini", "gpt"]}, ["mini", "gpt"], "flash", "flash"),
        ({"model": "flash", "disable_fallbacks": True}, ["mini"], "flash", "flash"),
        ({"model": "opus", "fallbacks": ["flash", "gpt"]}, ["opus", "mini", "sonnet", "gpt"], None, None),
    ],
)
def test_a_tier_is_its_chain_wherever_a_request_names_it(
    request_: dict[str, Any], chain: list[str], tier: str | None, requested: str | None
) -> None:
    plan = Planning().plan(**request_)
    assert groups(plan) == chain
    assert plan.decided is not None
    assert (plan.decided.tier, plan.decided.requested) == (tier, requested)


def test_a_request_without_a_model_needs_a_tier_of_its_feature() -> None:
    with pytest.raises(TypeError, match="a model is missing"):
        Planning().plan(feature="plain")


def test_an_unknown_tier_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownTier, match="found 'premum', which is no tier; did you mean 'premium'") as caught:
        Planning().plan("mini", tier="premum")
    assert caught.value.status_code == 400
    with pytest.raises(UnknownTier, match="which is no tier"):
        Planning().plan("mini", tier=["flash"])


def test_a_member_with_parameters_may_be_the_first_group_again() -> None:
    plan = Planning().plan("flash", fallbacks=[{"model": "mini", "temperature": 0}, "gpt"])
    assert plan.members == (Member("mini", {"temperature": 0}), Member("gpt"))


def test_the_permission_for_a_tiers_name_is_one_for_its_groups() -> None:
    planning = Planning()
    assert planning.plan("flash").granted == {"mini", "sonnet"}
    assert planning.plan("auto").granted == set(GROUPS)
    assert planning.plan("mini").granted == set()


def test_a_session_stays_with_the_tier_of_its_first_request() -> None:
    planning = Planning()
    own = {"user": "u1", "metadata": {"session_id": "s1"}}
    assert planning.plan("auto", "hi", **own).group == "mini"
    assert planning.plan("auto", "design it", **own).group == "mini"
    assert planning.plan("auto", "design it", user="u2", metadata={"session_id": "s1"}).group == "opus"
    planning.clock.advance(SESSION_KEPT - 1)
    assert planning.plan("auto", "design it", **own).group == "mini"
    planning.clock.advance(SESSION_KEPT - 1)  # after the last request of the session, not the first
    assert planning.plan("auto", "design it", **own).group == "mini"
    planning.clock.advance(SESSION_KEPT + 1)
    assert planning.plan("auto", "design it", **own).group == "opus"


def test_sessions_are_remembered_to_a_bound() -> None:
    planning = Planning()
    planning.plan("auto", "design it", metadata={"session_id": "first"})
    for number in range(MOST_SESSIONS):
        planning.plan("auto", "hi", metadata={"session_id": str(number)})
    assert planning.auto.describe()["sessions"] == MOST_SESSIONS
    assert planning.plan("auto", "hi", metadata={"session_id": "first"}).group == "mini"


def test_the_same_prompt_is_looked_at_once() -> None:
    planning = Planning()
    for _ in range(3):
        planning.plan("auto", "design it")
    assert planning.looked_at == ["design it"]


def test_reasons_name_no_word_of_the_prompt() -> None:
    decided = Planning().plan("auto", "design it").decided
    assert decided is not None
    assert decided.why == ["tier auto by its name", "auto: premium, as the prompt is complex (0.5: code)"]


def test_reasoning_may_have_a_tier_of_its_own() -> None:
    assert Planning(reasoning="standard").plan("auto", "prove it").group == "sonnet"


def test_a_prompt_without_text_goes_to_the_middle_tier() -> None:
    assert Planning().plan("auto", "").group == "sonnet"


def test_in_shadow_requests_go_where_they_say_and_the_choice_is_on_record() -> None:
    planning = Planning(shadow=True)
    plan = planning.plan("opus", "hi")
    assert groups(plan) == ["opus", "gpt"]
    assert plan.decided is not None
    assert (plan.decided.tier, plan.decided.auto_tier, plan.decided.shadow) == (None, "flash", True)
    assert plan.decided.auto_against == "mini"
    plan = planning.plan("auto", "design it")
    assert (plan.group, plan.decided and plan.decided.auto_tier) == ("sonnet", "premium")
    plan = planning.plan("premium", "hi")
    assert (plan.group, plan.decided and plan.decided.auto_tier) == ("opus", "flash")
    embedding = planning.plan("opus", "hi", operation="embedding").decided
    assert embedding is not None
    assert embedding.auto_tier is None


def test_switched_off_auto_goes_to_its_middle_tier_and_tiers_stay() -> None:
    planning = Planning()
    planning.routing.switches.set("auto", on=False)
    assert groups(planning.plan("auto", "design it")) == ["sonnet", "gpt"]
    assert groups(planning.plan("premium")) == ["opus", "gpt"]
    assert planning.looked_at == []
    planning.routing.switches.set("auto", on=True)
    assert planning.plan("auto", "design it").group == "opus"


def test_switched_off_nothing_is_noted_in_shadow() -> None:
    planning = Planning(shadow=True)
    planning.routing.switches.set("auto", on=False)
    decided = planning.plan("opus", "hi").decided
    assert decided is not None
    assert decided.auto_tier is None
    assert planning.looked_at == []
