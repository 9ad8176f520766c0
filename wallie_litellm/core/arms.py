"""Which arm of an experiment a unit has: the same in every process, at every start."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Final

_DIGITS: Final = 16  # hexadecimal, of a unit's hash: 64 bits


def unit_hash(experiment: str, unit: str) -> str:
    """What stands for a ``unit`` (a user, a session) in one experiment; another experiment divides units otherwise."""
    return _hash(f"{experiment}\0{unit}")


def arm_of(unit: str, shares: Mapping[str, float], stopped: Collection[str] = ()) -> str | None:
    """The arm of a unit by its :func:`unit_hash`; ``None`` where every arm is ``stopped``.

    The units of a stopped arm are divided among the others by their shares; those of the others keep their arm.
    """
    left = dict(shares)
    while left:
        arm = _at(int(unit, 16) / 16 ** len(unit), left)
        if arm not in stopped:
            return arm
        del left[arm]
        unit = _hash(f"{unit}\0{arm}")
    return None


def shares_left(shares: Mapping[str, float], stopped: Collection[str]) -> dict[str, float]:
    """The shares of the arms that are not ``stopped``, which add up to 1."""
    left = {arm: share for arm, share in shares.items() if arm not in stopped}
    total = sum(left.values())
    return {arm: share / total for arm, share in left.items()}


def _at(position: float, shares: Mapping[str, float]) -> str:
    """The arm at a ``position`` from 0 to below 1, on a line divided by ``shares``."""
    position *= sum(shares.values())
    *others, last = shares
    for arm in others:
        position -= shares[arm]
        if position < 0:
            return arm
    return last


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
