"""The dimensions a limit can count, and the kind of resource each one counts."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What is counted; the value is the position in a :class:`~wallie_litellm.core.demand.Demand`."""

    REQUESTS = 0
    TOKENS = 1
    INPUT = 2
    OUTPUT = 3


RATE_DIMENSIONS = ("rpm", "tpm", "itpm", "otpm")
DAY_DIMENSIONS = ("rpd", "tpd")
DIMENSIONS = (*RATE_DIMENSIONS, *DAY_DIMENSIONS, "concurrency")

DIMENSION_KINDS = {
    "rpm": Kind.REQUESTS,
    "tpm": Kind.TOKENS,
    "itpm": Kind.INPUT,
    "otpm": Kind.OUTPUT,
    "rpd": Kind.REQUESTS,
    "tpd": Kind.TOKENS,
    "concurrency": Kind.REQUESTS,
}
