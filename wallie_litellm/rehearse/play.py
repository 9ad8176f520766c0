"""Plays one run of a plan, in a process of its own: ``python -m`` this module, with the plan on standard input.

Its time may be virtual, it reaches no other machine, and the environment has no key; all of that holds for the process,
so it is settled here before anything else is imported. It prints what was seen as one JSON object.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.rehearse.loopback_only import forbid_other_machines
from wallie_litellm.rehearse.virtual_time import LoopClock, VirtualLoop, VirtualTime

if TYPE_CHECKING:
    from wallie_litellm.rehearse.plan import RehearsalPlan
    from wallie_litellm.rehearse.world import World

# Variables that are left while the router is built and at work; the file's own have said by then where models are.
_KEPT: Final = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHASHSEED"})


def main() -> None:
    """Read the plan, play it, print the figures."""
    data: dict[str, Any] = json.load(sys.stdin)
    figures_to = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what LiteLLM prints is none of them
    logging.disable(logging.CRITICAL)
    forbid_other_machines()
    # Before LiteLLM is imported, which would fetch another price map.
    os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", HF_HUB_OFFLINE="1")
    virtual = None if data["real_time"] else VirtualTime(data["start"])
    if virtual is not None:
        virtual.install()
    # Not before time is what it shall be: modules bind its functions when they are imported.
    from wallie_litellm.errors import ConfigError
    from wallie_litellm.rehearse.plan import RehearsalPlan

    try:
        figures = _figures(RehearsalPlan.from_json(data), virtual)
    except ConfigError as error:
        figures = {"problems": error.problems}
    with os.fdopen(figures_to, "w", encoding="utf-8") as out:
        json.dump(figures, out)


def _figures(plan: RehearsalPlan, virtual: VirtualTime | None) -> dict[str, Any]:
    import asyncio
    import random

    from wallie_litellm.rehearse.record import figures_of
    from wallie_litellm.rehearse.traffic import arrivals_of

    world, groups = _world_of(plan)
    random.seed(plan.seed)  # retries' jitter, and LiteLLM's pick among deployments of a group
    loop = asyncio.new_event_loop() if virtual is None else VirtualLoop(virtual)
    if virtual is not None:
        world.clock = LoopClock(loop, virtual)  # type: ignore[arg-type] # it is a VirtualLoop
    arrivals = arrivals_of(plan, world.config, groups)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        played = runner.run(_play(plan, world, arrivals))
    return figures_of(plan, world, arrivals, played)


def _world_of(plan: RehearsalPlan) -> tuple[World, list[str]]:
    """The world of the plan's file, and its groups that answer chats."""
    from wallie_litellm.config import load_config
    from wallie_litellm.errors import ConfigError
    from wallie_litellm.rehearse.world import World, chat_groups, deployments_of

    config = load_config(plan.config)
    deployed = deployments_of(config, {**os.environ, **config.environment_variables})
    for name in set(os.environ) - _KEPT:
        del os.environ[name]
    known = sorted({one.provider for one in deployed})
    for fault in plan.faults:
        if fault.provider and fault.provider not in known:
            raise ConfigError([f"--{fault.kind}: {fault.provider} is no provider of the file: {', '.join(known)}"])
    return World(config, deployed, limited=plan.limited), chat_groups(deployed)


async def _play(plan: RehearsalPlan, world: World, arrivals: list[Any]) -> Any:
    from wallie_litellm.rehearse.session import play

    async with world.open():
        return await play(plan, world, arrivals)


if __name__ == "__main__":
    main()
