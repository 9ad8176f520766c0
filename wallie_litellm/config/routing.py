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
    """What decides where requests go first; without any of it, they go where they say.

    ``order``: the members of chains are asked in the file's order, or by what they measure (``latency``).
    ``warm_prefix``: a request stays where the beginning of its prompt was sent lately, if that can serve as soon as any
    other; without it, so do the requests of features with a ``prompt_cache``. ``tiers`` are names for chains, usable
    wherever a model group's is. ``auto`` makes a group of this name, whose tier is chosen for each prompt.
    """

    order: Order = "fixed"
    warm_prefix: Switch = False
    tiers: Mapping[str, Tier] = Field(default_factory=dict)
    auto: AutoSettings | None = None
