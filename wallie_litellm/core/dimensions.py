"""The dimensions a limit can count, and the kind of resource each one counts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Literal


class Kind(IntEnum):
    """What is counted; the value is the position in a :class:`~wallie_litellm.core.demand.Demand`."""

    REQUESTS = 0
    TOKENS = 1
    INPUT = 2
    OUTPUT = 3


RateDimension = Literal["rpm", "tpm", "itpm", "otpm"]
DayDimension = Literal["rpd", "tpd"]
Dimension = RateDimension | DayDimension | Literal["concurrency"]

RATE_DIMENSIONS: Final[tuple[RateDimension, ...]] = ("rpm", "tpm", "itpm", "otpm")
DAY_DIMENSIONS: Final[tuple[DayDimension, ...]] = ("rpd", "tpd")
DIMENSIONS: Final[tuple[Dimension, ...]] = (*RATE_DIMENSIONS, *DAY_DIMENSIONS, "concurrency")  # in order of display

FEATURE: Final = "feature:"  # begins the name of a feature's limiter, also in alerts, before the feature's own name

DIMENSION_KINDS: Final[Mapping[str, Kind]] = {
    "rpm": Kind.REQUESTS,
    "tpm": Kind.TOKENS,
    "itpm": Kind.INPUT,
    "otpm": Kind.OUTPUT,
    "rpd": Kind.REQUESTS,
    "tpd": Kind.TOKENS,
    "concurrency": Kind.REQUESTS,
}
