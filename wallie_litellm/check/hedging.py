"""The checks of features' hedges: whether what the file says of them has any effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wallie_litellm.check.models import DeploymentFacts
from wallie_litellm.config import RouterConfig


def hedge_notes(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Iterator[str]:
    """Hedges that are never sent, as the file is."""
    hedged = {name: feature.hedge for name, feature in config.wallie.features.items() if feature.hedge is not None}
    members = {member for chain in config.chains.values() for member in chain}
    members.update(member for tier in config.wallie.routing.tiers.values() for member in tier[1:])
    for name, hedge in hedged.items():
        where, first_token = f"wallie.features.{name}.hedge", config.wallie.features[name].first_token
        if not members:
            yield f"{where}: no model group has a chain, so there is no member to ask; write router_settings.fallbacks"
            continue
        if hedge.after.seconds is not None and first_token is not None and hedge.after.seconds >= first_token:
            yield (
                f"{where}.after: found {hedge.after.seconds:g} s, when a call has failed already: first_token is "
                f"{first_token:g} s"
            )
        unpriced = sorted({one.group for one in deployments if one.group in members and not one.has_price})
        if hedge.max_usd_day is not None and unpriced:
            yield f"{where}.max_usd_day: without a known price, {', '.join(unpriced)} is never hedged to"
