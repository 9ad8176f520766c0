"""``wallie-litellm route``: where a request would go first by the file, and why. No call is made, nothing is logged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from wallie_litellm.cli.exits import DONE, load_or_refuse, refuse
from wallie_litellm.config.chains import named_in
from wallie_litellm.config.tiers import AUTO


@click.command("route")
@click.argument("prompt")
@click.option("--model", metavar="NAME", help="A model group, a tier or auto, as a request would name it.")
@click.option("--tier", metavar="NAME", help="A tier, as a request would name it.")
@click.option("--feature", metavar="NAME", help="The request's feature, which may have a tier of its own.")
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of lines.")
def route_command(
    prompt: str, model: str | None, tier: str | None, feature: str | None, config: str | None, as_json: bool
) -> None:
    """Explain where a request with PROMPT would go first by the configuration, and why.

    What running processes have measured, such as latencies, is not known here; an experiment's arm is that of a
    request without a user.

    The exit code is 0, and 2 if the configuration or a name is wrong.
    """
    loaded = load_or_refuse(config)
    if model is None and tier is None and feature is None:
        model = AUTO if loaded.wallie.routing.auto is not None else next(iter(loaded.chains), None)
    if model is not None and not _is_known(loaded, model):
        refuse(f"unknown model {model!r}: neither a model group, an alias, nor a tier of the configuration")
    try:
        found = _explained(loaded, prompt, model, {} if tier is None else {"tier": tier}, feature)
    except (TypeError, ValueError) as error:
        refuse(str(error))
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))
    sys.exit(DONE)


def _is_known(loaded: Any, model: str) -> bool:
    routing = loaded.wallie.routing
    if model in routing.tiers or (model == AUTO and routing.auto is not None):
        return True
    data = {"model_list": loaded.model_list, "router_settings": loaded.router_settings}
    return named_in(data, more_groups=False).has(model)


def _explained(
    loaded: Any, prompt: str, model: str | None, stated: Mapping[str, Any], feature: str | None
) -> dict[str, Any]:
    from wallie_litellm.errors import WallieError
    from wallie_litellm.guard import Guard
    from wallie_litellm.guard.context import Caller
    from wallie_litellm.guard.planner import Planner
    from wallie_litellm.litellm_adapter.complexity import complexity_classifier
    from wallie_litellm.routing.plan import Member

    store = loaded.wallie.store.model_copy(update={"url": "memory"})
    guard = Guard(loaded.wallie.model_copy(update={"store": store, "ledger": None}))
    try:
        tiers = guard.routing.tiers
        if tiers is not None and tiers.auto is not None:
            tiers.auto.classify = complexity_classifier()
        planner = Planner(guard.routing, lambda group: tuple(map(Member, loaded.chains.get(group, ()))))
        messages = [{"role": "user", "content": prompt}]
        try:
            plan = planner.plan(model, {"messages": messages}, Caller(feature), stated)
        except WallieError as error:
            raise ValueError(str(error)) from error
        found: dict[str, Any] = {
            "asked": model or stated.get("tier"),
            "first": plan.group,
            "then": [member.group for member in plan.members],
            "tier": None if plan.decided is None else plan.decided.tier,
            "why": [] if plan.decided is None else plan.decided.why,
        }
        if tiers is not None and tiers.auto is not None:
            choice = tiers.auto.choose_for(messages)
            complexity = choice.complexity
            found["auto"] = {
                "tier": choice.tier,
                "level": None if complexity is None else complexity.level,
                "score": None if complexity is None else complexity.score,
                "signals": [] if complexity is None else list(complexity.signals),
                "shadow": tiers.auto.in_shadow,
            }
        return found
    finally:
        guard.close()


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"first: {found['first']}"
    yield f"then:  {', '.join(found['then']) or '-'}"
    if found["tier"] is not None:
        yield f"tier:  {found['tier']}"
    for reason in found["why"]:
        yield f"why:   {reason}"
    if (auto := found.get("auto")) is not None:
        score = "no text to look at" if auto["level"] is None else f"{auto['level']}, score {auto['score']:g}"
        shadow = "; in shadow, so only noted" if auto["shadow"] else ""
        yield f"auto:  {auto['tier']} ({score}{shadow})"
        for signal in auto["signals"]:
            yield f"       {signal}"
