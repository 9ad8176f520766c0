"""What calls take of limits, and give back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wallie_litellm.config import ProviderLimits
from wallie_litellm.core.dimensions import DIMENSION_KINDS
from wallie_litellm.core.model_patterns import ModelPatterns
from wallie_litellm.events import Settled
from wallie_litellm.rehearse.need import LimitChange


def calls_by_scope(limits: ProviderLimits, provider: str, settled: Iterable[Settled]) -> dict[str, list[Settled]]:
    """The calls that each entry of the limits holds for; the empty scope is the account."""
    patterns = ModelPatterns(limits.models, provider)
    found: dict[str, list[Settled]] = {scope: [] for scope in ("", *limits.models)}
    for one in settled:
        found[""].append(one)
        if scope := patterns.find(one.deployment, one.model):
            found[scope].append(one)
    return found


def changes_of(dimension: str, one: Settled) -> Iterator[LimitChange]:
    """What one call takes of a limit when it begins, and gives back when it ends."""
    begins = one.at - one.latency_ms / 1000
    if dimension == "concurrency":
        yield LimitChange(begins, 1)
        yield LimitChange(one.at, -1)
        return
    kind = DIMENSION_KINDS[dimension]
    given, wanted = one.estimated_input or 0, one.estimated_output or 0
    reserved = (1, given + wanted, given, wanted)[kind]
    yield LimitChange(begins, reserved)
    yield LimitChange(one.at, one.charged[kind] - reserved)
