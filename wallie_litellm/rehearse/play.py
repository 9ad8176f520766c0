"""Plays runs, in a process of its own: ``python -m`` this module.

Its time may be virtual, and it reaches no other machine: both hold for a process, so they are settled here before
anything else is imported. A line of standard input has the plans of runs that are made side by side, each in a fork
that has no keys in its environment; the answer is a line with their figures. The first line is the :class:`Setting`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from wallie_litellm.rehearse.loopback_only import forbid_other_machines
from wallie_litellm.rehearse.virtual_time import LoopClock, VirtualLoop, VirtualTime

if TYPE_CHECKING:
    from wallie_litellm.rehearse.plan import RehearsalPlan
    from wallie_litellm.rehearse.world import World

Figures = dict[str, Any]

# Variables that are left once the file has been read, which may name others.
_KEPT: Final = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHASHSEED"})


class Setting(NamedTuple):
    """The time of the process: the machine's, or virtual from the Unix time ``start``."""

    real_time: bool
    start: float


def main() -> None:
    """Read plans, play them, write their figures; until standard input ends."""
    setting = Setting(**json.loads(sys.stdin.readline()))
    figures_to = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what LiteLLM prints is no figure
    logging.disable(logging.CRITICAL)
    forbid_other_machines()
    # Before LiteLLM is imported, which would fetch another price map.
    os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", HF_HUB_OFFLINE="1")
    virtual = None if setting.real_time else VirtualTime(setting.start)
    if virtual is not None:
        virtual.install()
    play = _player(virtual)
    for line in sys.stdin:
        figures_to.write(json.dumps(_side_by_side(play, json.loads(line))) + "\n")
        figures_to.flush()


def _side_by_side(play: Callable[[Figures], Figures], plans: Sequence[Figures]) -> list[Figures]:
    pipes, forks = [], set[int]()
    signal.signal(signal.SIGTERM, lambda *_: _end_all(forks))
    for plan in plans:
        reading, writing = os.pipe()
        fork = os.fork()
        if not fork:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(reading)
            _play_and_end(play, plan, writing)
        forks.add(fork)
        os.close(writing)
        pipes.append(reading)
    found = []
    for reading in pipes:
        with os.fdopen(reading, encoding="utf-8") as pipe:
            found.append(json.loads(pipe.read() or "null"))
        forks.discard(os.wait()[0])
    return found


def _end_all(forks: Collection[int]) -> NoReturn:
    """End with all that play: the run is not wanted any more."""
    for fork in forks:
        with suppress(ProcessLookupError):
            os.kill(fork, signal.SIGKILL)
    sys.exit(1)


def _play_and_end(play: Callable[[Figures], Figures], plan: Figures, writing: int) -> NoReturn:
    """What a fork does: it ends, with an error too, rather than answer in its parent's place."""
    figures = json.dumps(play(plan))
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        pipe.write(figures)
    sys.exit()


def _player(virtual: VirtualTime | None) -> Callable[[Figures], Figures]:
    """What plays a plan. Not before time is what it shall be: modules bind its functions when they are imported."""
    import random

    from wallie_litellm.errors import ConfigError
    from wallie_litellm.rehearse.plan import RehearsalPlan
    from wallie_litellm.rehearse.record import figures_of
    from wallie_litellm.rehearse.session import play
    from wallie_litellm.rehearse.traffic import arrivals_of

    async def session(plan: RehearsalPlan, world: World, arrivals: list[Any]) -> Any:
        async with world.open():
            return await play(plan, world, arrivals)

    def figures(data: Figures) -> Figures:
        plan = RehearsalPlan.from_json(data)
        try:
            world, groups = _world_of(plan)
        except ConfigError as error:
            return {"problems": error.problems}
        random.seed(plan.seed)  # retries' jitter, and LiteLLM's pick among deployments of a group
        loop = asyncio.new_event_loop() if virtual is None else _virtual_loop(virtual, world)
        arrivals = arrivals_of(plan, world.config, groups)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            played = runner.run(session(plan, world, arrivals))
        return figures_of(plan, world, arrivals, played)

    return figures


def _virtual_loop(virtual: VirtualTime, world: World) -> asyncio.AbstractEventLoop:
    loop = VirtualLoop(virtual)
    world.clock = LoopClock(loop, virtual)
    return loop


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
        if fault.kind != "redis_away" and fault.provider not in known:
            raise ConfigError([f"--{fault.kind}: {fault.provider} is no provider of the file: {', '.join(known)}"])
    return World(config, deployed, limited=plan.limited, workers=plan.workers), chat_groups(deployed)


if __name__ == "__main__":
    main()
