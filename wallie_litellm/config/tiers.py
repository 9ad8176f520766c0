"""Tiers: names for chains, and which of them ``auto`` chooses by the complexity of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from wallie_litellm.config import value_schemas as schemas
from wallie_litellm.config.problems import Problem, did_you_mean, show
from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Switch, expected

AUTO: Final = "auto"  # the group whose tier is chosen for each prompt

Complexity = Literal["simple", "medium", "complex", "reasoning"]

_CHAIN_FORM: Final = "a list of model groups, at least one, none of them twice"


def _chain(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise expected(_CHAIN_FORM)
    if not all(isinstance(group, str) and group.strip() for group in value) or len(set(value)) < len(value):
        raise expected(_CHAIN_FORM)
    return tuple(value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise expected("the name of a tier")
    return value


Tier = Annotated[
    tuple[str, ...],
    PlainValidator(_chain),
    WithJsonSchema({**schemas.listed(schemas.text(), 1), "uniqueItems": True}),
]
TierName = Annotated[str, PlainValidator(_name), WithJsonSchema(schemas.text())]


class AutoSettings(Section):
    """The tiers of the group ``auto``, by what LiteLLM's complexity router says of a prompt."""

    simple: TierName = Field(description="Tier of simple prompts.")
    medium: TierName = Field(description="Tier of medium ones.")
    complex: TierName = Field(description="Tier of complex ones.")
    reasoning: TierName | None = Field(
        None,
        description="Tier of those that ask for reasoning; as `complex` unless set.",
    )
    shadow: Switch = Field(
        False,
        description="Whether requests go where they say, those for `auto` to `medium`, and what would have been "
        "chosen is on record alone.",
    )

    def tier_of(self, complexity: Complexity) -> str:
        """The tier for prompts of this complexity."""
        if complexity == "reasoning":
            return self.reasoning or self.complex
        return {"simple": self.simple, "medium": self.medium, "complex": self.complex}[complexity]


def tier_problems(
    tiers: Mapping[str, Sequence[str]],
    auto: AutoSettings | None,
    of_features: Mapping[str, str],
    groups: Sequence[str],
    is_group: Callable[[object], bool],
) -> Iterator[Problem]:
    """What is wrong with the tiers of a file that has these model ``groups``.

    ``of_features`` are the tiers that features name. ``is_group`` tells whether a name is a group, perhaps by a
    wildcard, or a deployment's.
    """
    for tier, members in tiers.items():
        if tier == AUTO:
            yield Problem(f"routing.tiers.{tier}", f"'{AUTO}' is the name of the group that routing.auto makes")
        elif tier in groups:
            yield Problem(f"routing.tiers.{tier}", f"'{tier}' is a group of model_list already")
        for index, group in enumerate(members):
            if not is_group(group):
                hint = did_you_mean(group, groups)
                text = f"'{group}' is not a group of model_list{hint} Groups: {', '.join(groups)}"
                yield Problem(f"routing.tiers.{tier}[{index}]", text)
    if auto is not None and AUTO in groups:
        yield Problem("routing.auto", f"'{AUTO}' is a group of model_list already")
    for level in ("simple", "medium", "complex", "reasoning"):
        named = None if auto is None else getattr(auto, level)
        if named is not None and named not in tiers:
            yield _no_tier(f"routing.auto.{level}", named, tuple(tiers))
    usable = tuple(tiers) if auto is None else (*tiers, AUTO)
    for feature, named in of_features.items():
        if named not in usable:
            yield _no_tier(f"features.{feature}.tier", named, usable)


def _no_tier(where: str, name: str, tiers: Sequence[str]) -> Problem:
    known = f"Tiers: {', '.join(tiers)}" if tiers else "routing.tiers has none"
    return Problem(where, f"{show(name)} is not a tier of routing.tiers{did_you_mean(name, tiers)} {known}")
