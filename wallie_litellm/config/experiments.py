"""Experiments: arms that are compared by what the ledger has on record of their requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from math import isclose
from typing import Literal

from pydantic import Field, model_validator

from wallie_litellm.config.problems import Problem, did_you_mean
from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Margin, ShareAboveZero, conflict

Metric = Literal["cost", "latency", "success", "feedback"]
Unit = Literal["user", "session", "request"]


class GuardrailSettings(Section):
    """When an arm is stopped: above this share of requests that it did not answer itself."""

    error_rate: ShareAboveZero = Field(
        description="Share of its requests that an arm did not answer itself, above which it is stopped.",
    )


class ExperimentSettings(Section):
    """One experiment on the requests of one ``feature``."""

    feature: str = Field(min_length=1, description="Feature whose requests are divided; one under `features`.")
    arms: Mapping[str, ShareAboveZero] = Field(
        description="Model groups or tiers, at least two, with the share of the units that each gets; the shares "
        "add up to 1.",
        json_schema_extra={"minProperties": 2},
    )
    unit: Unit = Field("user", description="What always gets the same arm.")
    metric: Metric = Field(description="What decides.")
    epsilon: Margin = Field(
        0.0,
        description="By how much the winner must at least be better, in the metric's own unit: a share for "
        "`success` and `feedback`, US dollars a request for `cost`, a share of the other's for "
        "`latency`.",
    )
    stop_arm_above: GuardrailSettings | None = Field(None, description="When an arm is stopped; null is never.")

    @model_validator(mode="after")
    def _arms_are_divided(self) -> ExperimentSettings:
        if len(self.arms) < 2:
            raise conflict("arms", f"found {len(self.arms)}, expected at least two, such as {{a: 0.5, b: 0.5}}")
        total = sum(self.arms.values())
        if not isclose(total, 1.0, abs_tol=1e-6):
            raise conflict("arms", f"found shares that add up to {total:g}, expected 1")
        return self

    @property
    def definition(self) -> str:
        """A hash of what the measurement rests on: with another one it begins anew."""
        stated = json.dumps([self.feature, list(self.arms.items()), self.unit])
        return sha256(stated.encode()).hexdigest()[:16]


def experiment_problems(
    experiments: Mapping[str, ExperimentSettings], tiers: Mapping[str, object], is_group: Callable[[object], bool]
) -> Iterator[Problem]:
    """Arms that are neither a model group nor a tier."""
    for name, experiment in experiments.items():
        for arm in experiment.arms:
            if arm not in tiers and not is_group(arm):
                yield Problem(f"experiments.{name}.arms.{arm}", "is neither a group of model_list nor a tier")


def conflicts(
    experiments: Mapping[str, ExperimentSettings], features: Mapping[str, object], *, has_ledger: bool
) -> Iterator[tuple[str, str]]:
    """What is wrong between experiments and the rest of ``wallie:``: the key, and a sentence."""
    first: dict[str, str] = {}
    for name, experiment in experiments.items():
        key, feature = f"experiments.{name}.feature", experiment.feature
        if feature not in features:
            yield key, f"'{feature}' is not under features{did_you_mean(feature, features)}"
        elif feature in first:
            yield key, f"'{feature}' has the experiment '{first[feature]}' already; one at a time"
        first.setdefault(feature, name)
    if experiments and not has_ledger:
        yield "experiments", "there is no ledger (ledger: null), and arms are compared by what it has on record"
