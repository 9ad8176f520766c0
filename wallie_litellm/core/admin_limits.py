"""What vendors' administration APIs say of an account's limits, by model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from wallie_litellm.core.limit_sightings import LARGEST, Sighting

# https://platform.claude.com/docs/en/manage-claude/rate-limits-api
_ANTHROPICS: Final[Mapping[str, str]] = {
    "requests_per_minute": "rpm",
    "input_tokens_per_minute": "itpm",
    "output_tokens_per_minute": "otpm",
}
# https://platform.openai.com/docs/api-reference/project-rate-limits
_OPENAIS: Final[Mapping[str, str]] = {
    "max_requests_per_1_minute": "rpm",
    "max_tokens_per_1_minute": "tpm",
    "max_requests_per_1_day": "rpd",
}

ModelLimitsSeen = dict[str, tuple[Sighting, ...]]


def anthropics_limits(page: Any) -> ModelLimitsSeen:
    """The limits in a page of ``/v1/organizations/rate_limits``: each of a group of models, which share them."""
    found: ModelLimitsSeen = {}
    for entry in _entries(page):
        if entry.get("group_type") != "model_group":
            continue
        limits = entry.get("limits")
        said = {one.get("type"): one.get("value") for one in limits if isinstance(one, Mapping)} if limits else {}
        for model in entry.get("models") or ():
            found[str(model)] = _sightings(_ANTHROPICS, said)
    return found


def openais_limits(page: Any) -> ModelLimitsSeen:
    """The limits in a page of a project's ``rate_limits``."""
    return {str(entry["model"]): _sightings(_OPENAIS, entry) for entry in _entries(page) if entry.get("model")}


def _entries(page: Any) -> Iterator[Mapping[str, Any]]:
    data = page.get("data") if isinstance(page, Mapping) else None
    yield from (entry for entry in data if isinstance(entry, Mapping)) if isinstance(data, list) else ()


def _sightings(names: Mapping[str, str], said: Mapping[Any, Any]) -> tuple[Sighting, ...]:
    amounts = ((dimension, said.get(name)) for name, dimension in names.items())
    return tuple(
        Sighting(dimension, amount)
        for dimension, amount in amounts
        if isinstance(amount, int) and not isinstance(amount, bool) and 0 < amount <= LARGEST
    )
