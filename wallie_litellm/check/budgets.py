"""The checks of budgets: whether what the file says of them has any effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wallie_litellm.check.models import DeploymentFacts
from wallie_litellm.config import RouterConfig
from wallie_litellm.config.budgets import CostBudget


def budget_notes(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Iterator[str]:
    """Costs that no budget counts, budgets that begin anew with each start, and those that lead nowhere."""
    wallie = config.wallie
    budgets: dict[str, CostBudget] = {
        f"wallie.features.{name}.budget": feature.budget
        for name, feature in wallie.features.items()
        if feature.budget is not None
    }
    budgets |= {f"wallie.keys.{name}.budget": own.budget for name, own in wallie.keys.items() if own.budget}
    budgets["wallie.budget"] = wallie.budget
    budgets = {where: budget for where, budget in budgets.items() if any(True for _ in budget.parts())}
    unpriced = sorted({one.group for one in deployments if not one.has_price})
    has_chains = any(config.chains.values()) or any(len(tier) > 1 for tier in wallie.routing.tiers.values())
    for where, budget in budgets.items():
        if unpriced:
            yield f"{where}: without a known price, what {', '.join(unpriced)} costs is not counted"
        if wallie.ledger is None and wallie.store.url == "memory":
            yield f"{where}: begins at zero with each start, as there is no ledger (wallie.ledger)"
        if not has_chains and any(then == "cheapest" for _, _, then in budget.parts()):
            yield f"{where}: no model group has a chain, so there is no cheaper member; write router_settings.fallbacks"
