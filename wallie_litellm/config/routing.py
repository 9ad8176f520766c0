"""The ``routing:`` section: what decides where requests go first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from wallie_litellm.config.section import Section
from wallie_litellm.config.tiers import AutoSettings, Tier
from wallie_litellm.config.values import Switch

Order = Literal["fixed", "latency"]


class RoutingSettings(Section):
    """What decides where requests go first; without any of it, they go where they say."""

    order: Order = Field(
        "fixed",
        description="Order in which the members of chains are asked: the file's (`fixed`), or by what they "
        "measure (`latency`).",
    )
    warm_prefix: Switch = Field(
        False,
        description="Whether a request stays where the beginning of its prompt was sent lately, if that can serve"
        " as soon as any other; for features with a `prompt_cache` it does without.",
    )
    tiers: Mapping[str, Tier] = Field(
        default_factory=dict,
        description="Names for chains of model groups, usable wherever a model group's is.",
    )
    auto: AutoSettings | None = Field(None, description="Makes a group `auto`, whose tier is chosen for each prompt.")
