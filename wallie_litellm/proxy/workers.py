"""How many worker processes a proxy has, and what that means for limits that each of them keeps in its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from wallie_litellm.config import LimitSettings, WallieConfig

OPTION: Final = "--num_workers"  # of the command litellm
VARIABLE: Final = "NUM_WORKERS"  # LiteLLM reads it, and sets it for its workers
DEFAULT_VARIABLE: Final = "DEFAULT_NUM_WORKERS_LITELLM_PROXY"  # LiteLLM reads it where the other one is not set
NOTED: Final = "WALLIE_WORKERS_NOTED"  # set for workers whose parent has printed the note, so that it is there once


def worker_count(environment: Mapping[str, str], arguments: Sequence[str] = ()) -> int:
    """How many workers LiteLLM starts with ``arguments`` in ``environment``; 1 if neither says a number."""
    stated = environment.get(VARIABLE) or environment.get(DEFAULT_VARIABLE) or ""
    for option, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if option == OPTION:
            stated = following
        elif option.startswith(f"{OPTION}="):
            stated = option.partition("=")[2]
    try:
        return max(1, int(stated))
    except ValueError:
        return 1


def divided(config: WallieConfig, processes: int) -> str | None:
    """The note on limits of several processes that share no store; ``None`` for one process, or a shared store."""
    if processes == 1 or config.store.url != "memory":
        return None
    note = (
        f"limits are per process: each of {processes} workers gets 1/{processes} of every limit; "
        "set WALLIE_REDIS_URL to share them"
    )
    small = ", ".join(_smaller_than(config, processes))
    return f"{note}. Too small to divide, so each worker gets 1: {small}" if small else note


def _smaller_than(config: WallieConfig, processes: int) -> Iterator[str]:
    owners: dict[str, LimitSettings] = {**config.providers}
    for name, provider in config.providers.items():
        owners |= {f"{name}'s {pattern}": limits for pattern, limits in provider.models.items()}
    owners |= {f"feature {name}": feature.limits for name, feature in config.features.items()}
    for name, limits in owners.items():
        for dimension, amount in limits.by_dimension().items():
            if amount < processes:
                yield f"{name}'s {dimension}"
