"""What the file says of learning limits, by scope."""

from __future__ import annotations

from typing import Any

import pytest

from wallie_litellm.config import DEFAULT_PROVIDERS, WallieConfig
from wallie_litellm.limiter.learn_rules import LearnRules, learn_rules

RPM = frozenset({"rpm"})


def rules(limits: dict[str, Any] | None, provider: str = "openai", **begins: int) -> dict[str, LearnRules]:
    config = WallieConfig.model_validate({"providers": {} if limits is None else {provider: limits}})
    return learn_rules(config.providers.get(provider), {("", name): amount for name, amount in begins.items()})


@pytest.mark.parametrize(
    ("limits", "begins", "expected"),
    [
        ({"rpm": 5}, {}, {"": LearnRules("advise", stated={"rpm": 5})}),
        ({"rpm": 5, "learn": False}, {}, {"": LearnRules("off", stated={"rpm": 5})}),
        (
            {"learn": "enforce", "models": {"a": {"tpm": 7}, "b": {"learn": "off"}}, "rpm": 1},
            {},
            {
                "": LearnRules("enforce", stated={"rpm": 1}),
                "a": LearnRules("enforce", stated={"tpm": 7}),
                "b": LearnRules("off"),
            },
        ),
        # The vendor's usual limit is where it begins; one that the limiter does not have is another server's.
        ({"rpm": "auto"}, {"rpm": 500}, {"": LearnRules("advise", RPM)}),
        ({"rpm": "auto"}, {}, {"": LearnRules("advise")}),
        ({"itpm": "auto"}, {}, {"": LearnRules("advise", frozenset({"itpm"}))}),
        (
            None,
            {"rpm": 500, "tpm": 150_000, "rpd": 10_000},
            {"": LearnRules("advise", frozenset({"rpm", "tpm", "rpd"}))},
        ),
    ],
)
def test_the_rules_of_each_scope_are_the_files(
    limits: dict[str, Any] | None, begins: dict[str, int], expected: dict[str, LearnRules]
) -> None:
    assert rules(limits, **begins) == expected


def test_a_provider_that_the_file_does_not_know_is_learned_of_too() -> None:
    assert rules(None, "mistral") == {"": LearnRules("advise")}


def test_a_limit_auto_begins_as_the_known_vendors_and_at_others_without_one() -> None:
    found = WallieConfig.model_validate(
        {"providers": {"openai": {"tpm": "auto"}, "mistral": {"tpm": "auto"}}}
    ).providers
    assert found["openai"].by_dimension() == {"tpm": 150_000}
    assert found["openai"].autos() == {"tpm": 150_000}
    assert found["mistral"].by_dimension() == {}
    assert found["mistral"].autos() == {"tpm": 0}
    assert DEFAULT_PROVIDERS["openai"].autos() == {"rpm": 500, "tpm": 150_000, "rpd": 10_000}


@pytest.mark.parametrize(("mode", "keeps"), [("off", False), ("advise", False), ("enforce", True)])
def test_what_vendors_tell_is_kept_to_with_enforce_and_of_limits_without_a_number(mode: str, keeps: bool) -> None:
    assert LearnRules(mode).keeps_to("rpm") is keeps
    assert LearnRules(mode, RPM).keeps_to("rpm") is (mode != "off")
