"""The checks of experiments: whether what the file says of them can be measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wallie_litellm.check.models import DeploymentFacts
from wallie_litellm.config import ExperimentSettings, RouterConfig


def experiment_notes(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Iterator[str]:
    """Arms whose cost is not known, and arms that one request cannot tell apart."""
    tiers = config.wallie.routing.tiers
    for name, experiment in config.wallie.experiments.items():
        where = f"wallie.experiments.{name}"
        unpriced = {one.group for one in deployments if not one.has_price}
        without = [arm for arm in experiment.arms if not unpriced.isdisjoint(tiers.get(arm, (arm,)))]
        if experiment.metric == "cost" and without:
            yield f"{where}.metric: without a known price, requests of {', '.join(without)} are left out of the cost"
        for one, other in _alike(experiment, tiers):
            yield f"{where}.arms: {one} and {other} ask the same group first, {tiers.get(one, (one,))[0]}"


def _alike(experiment: ExperimentSettings, tiers: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for arm in experiment.arms:
        group = tiers.get(arm, (arm,))[0]
        if group in first:
            yield first[group], arm
        first.setdefault(group, arm)
