"""How many worker processes a proxy has, and what that means for limits that each of them keeps for itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wallie_litellm.config import Limits, WallieConfig

OPTION = "--num_workers"
VARIABLE = "NUM_WORKERS"  # LiteLLM reads it, and sets it for its workers
DEFAULT_VARIABLE = "DEFAULT_NUM_WORKERS_LITELLM_PROXY"

#: Set for the workers of a proxy whose starter has printed the note, so that they do not repeat it.
TOLD = "WALLIE_WORKERS_TOLD"


def worker_count(environment: Mapping[str, str], arguments: Sequence[str] = ()) -> int:
    """How many workers LiteLLM starts with ``arguments`` in ``environment``; one where that is not to be understood."""
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
    """What to tell whoever starts several processes that share no store; ``None`` if there is nothing to tell."""
    if processes == 1 or config.store.url != "memory":
        return None
    note = (
        f"limits are per process: each of {processes} workers gets 1/{processes} of every limit; "
        "set WALLIE_REDIS_URL to share them"
    )
    small = ", ".join(_smaller_than(config, processes))
    return f"{note}. Too small to divide, so each worker gets 1: {small}" if small else note


def _smaller_than(config: WallieConfig, processes: int) -> Iterator[str]:
    owners: dict[str, Limits] = {**config.providers}
    owners |= {f"feature {name}": feature.limits for name, feature in config.features.items()}
    for name, limits in owners.items():
        for dimension, amount in limits.by_dimension().items():
            if amount < processes:
                yield f"{name}'s {dimension}"
