"""Limits of providers, of their models and of features; and those of known providers that the file does not mention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import (
    AutoFirstToken,
    AutoLimit,
    Count,
    FirstToken,
    Learn,
    LimitOrAuto,
    ModelPattern,
    ShareBelowOne,
    TimeZone,
    conflict,
    expected,
)
from wallie_litellm.core.dimensions import DIMENSIONS, Dimension, RateDimension
from wallie_litellm.core.model_patterns import hides

# Google resets requests per day at midnight Pacific time: https://ai.google.dev/gemini-api/docs/rate-limits
RESET_TIMEZONES: Final[Mapping[str, str]] = {"gemini": "America/Los_Angeles"}


CachedTokens = Literal["include", "exclude"]
ADVISE: Final = "advise"  # what is made of the vendor's limits where the file does not say

_COUNTED: Final[Mapping[str, str]] = {
    "rpm": "Requests per minute",
    "tpm": "Tokens per minute, input and output",
    "itpm": "Input tokens per minute",
    "otpm": "Output tokens per minute",
    "rpd": "Requests per calendar day",
    "tpd": "Tokens per calendar day, input and output",
    "concurrency": "Calls in flight",
}


def _limit(dimension: str) -> Any:
    return Field(None, description=f"{_COUNTED[dimension]}; null is no limit.")


class LimitSettings(Section):
    """Limits by dimension; ``None`` is no limit."""

    rpm: Count | None = _limit("rpm")
    tpm: Count | None = _limit("tpm")
    itpm: Count | None = _limit("itpm")
    otpm: Count | None = _limit("otpm")
    rpd: Count | None = _limit("rpd")
    tpd: Count | None = _limit("tpd")
    concurrency: Count | None = _limit("concurrency")

    def by_dimension(self) -> dict[Dimension, int]:
        """The limits that are set, in the order of ``DIMENSIONS``."""
        values = ((dimension, getattr(self, dimension)) for dimension in DIMENSIONS)
        return {dimension: value for dimension, value in values if value}


class BurstLimits(LimitSettings):
    """Limits of a provider's; a limit ``auto`` has no number of its own, and takes the vendor's."""

    rpm: LimitOrAuto | None = _limit("rpm")
    tpm: LimitOrAuto | None = _limit("tpm")
    itpm: LimitOrAuto | None = _limit("itpm")
    otpm: LimitOrAuto | None = _limit("otpm")
    rpd: LimitOrAuto | None = _limit("rpd")
    tpd: LimitOrAuto | None = _limit("tpd")
    learn: Learn | None = Field(
        None,
        description="What is made of the limits that the vendor tells: nothing (`off`), a report (`advise`), or "
        "limits that are kept to (`enforce`). A model's is as its provider's unless set, a provider's"
        " `advise`.",
    )
    burst: Mapping[RateDimension, Count] = Field(
        default_factory=dict,
        description="Capacity of a per-minute dimension's bucket, by dimension; one minute's limit unless set.",
    )
    headroom: ShareBelowOne = Field(0.0, description="Share of every limit that stays unused.")

    def beside_limits(self) -> dict[str, Any]:
        """What is stated beside the limits of the scope itself, as the file takes it."""
        stated = self.model_dump(include=self.model_fields_set - {*DIMENSIONS, "models"})
        return {key: "auto" if isinstance(value, AutoFirstToken) else value for key, value in stated.items()}

    def autos(self) -> dict[Dimension, int]:
        """The limits that take the vendor's, with what they begin at: 0 is none."""
        values = ((dimension, getattr(self, dimension)) for dimension in DIMENSIONS)
        return {dimension: int(value) for dimension, value in values if isinstance(value, AutoLimit)}

    @model_validator(mode="after")
    def _bursts_have_limits(self) -> Self:
        for dimension in self.burst:
            if getattr(self, dimension) is None:
                raise conflict(f"burst.{dimension}", f"there is no {dimension} limit for it to belong to; set one too")
        return self


class ModelLimits(BurstLimits):
    """What a provider allows for one model, or for all models together that a pattern matches."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _states_something(self) -> Self:
        if all(getattr(self, name) in (None, {}) for name in self.model_fields_set):
            raise expected("at least one limit such as rpm, or learn: off, advise or enforce")
        return self


class ProviderLimits(BurstLimits):
    """What one provider's account allows, and by name or pattern what it allows for some of its models."""

    models: Mapping[ModelPattern, ModelLimits] = Field(
        default_factory=dict,
        description="Limits of single models, by name or pattern; the first pattern that matches holds, in the "
        "order of the file.",
    )
    reset_timezone: TimeZone = Field(
        "UTC",
        description="Time zone in which the day of `rpd` and `tpd` begins, at midnight; `America/Los_Angeles` for"
        " `gemini` unless set.",
    )
    first_token: FirstToken | None = Field(
        None,
        description="Seconds to an attempt's first content, after which it has failed; `auto` follows what is "
        "measured; null is no bound.",
    )
    cached_tokens: CachedTokens | None = Field(
        None,
        description="Whether `tpm`, `itpm` and `tpd` count prompt tokens that were read from the vendor's cache; "
        "as that vendor does unless set.",
    )

    def learn_mode(self, pattern: str = "") -> str:
        """What is made of the limits that the vendor tells: for the models of an entry, or for those without one."""
        own = self.models.get(pattern)
        return (own.learn if own is not None else None) or self.learn or ADVISE

    @model_validator(mode="after")
    def _patterns_are_reached(self) -> Self:
        patterns = list(self.models)
        for place, pattern in enumerate(patterns):
            for earlier in patterns[:place]:
                if hides(earlier, pattern):
                    raise conflict(f"models.{pattern}", f"never holds, as '{earlier}' before it matches; put it first")
        return self


class AssumedLimits(ProviderLimits):
    """Limits of models that the file states, with those of a known vendor's account, which it does not."""

    def stated(self) -> ProviderLimits:
        """What the file states."""
        assumed: set[str] = set(self.by_dimension())
        return ProviderLimits(**{key: getattr(self, key) for key in self.model_fields_set - assumed})


# Limits of the known providers that the file does not mention, until what their accounts have is known.
DEFAULT_PROVIDERS: Final[Mapping[str, ProviderLimits]] = {
    name: ProviderLimits(
        rpm=AutoLimit(rpm),
        tpm=AutoLimit(tpm),
        rpd=AutoLimit(rpd),
        reset_timezone=RESET_TIMEZONES.get(name, "UTC"),
    )
    for name, rpm, tpm, rpd in (
        ("openai", 500, 150_000, 10_000),
        ("anthropic", 1_000, 100_000, 50_000),
        ("gemini", 2_000, 200_000, 100_000),
        ("groq", 500, 50_000, 10_000),
        ("deepseek", 300, 100_000, 5_000),
    )
}


def in_its_time_zone(name: str, limits: Any) -> Any:
    """``limits`` with the time zone in which this provider's day begins, unless they name one."""
    zone = RESET_TIMEZONES.get(name)
    if zone is None:
        return limits
    if isinstance(limits, ProviderLimits):
        named = "reset_timezone" in limits.model_fields_set
        return limits if named else limits.model_copy(update={"reset_timezone": zone})
    return {"reset_timezone": zone, **limits} if isinstance(limits, Mapping) else limits


def beside_limits(name: str, limits: ProviderLimits | None) -> dict[str, dict[str, Any]]:
    """What the file states of a provider beside its limits, by scope; the empty one is the account's."""
    if limits is None:
        return {}
    of_account = limits.beside_limits()
    if of_account.get("reset_timezone") == RESET_TIMEZONES.get(name, "UTC"):
        del of_account["reset_timezone"]  # as it is where the file says nothing
    return {"": of_account, **{pattern: own.beside_limits() for pattern, own in limits.models.items()}}


def with_beginnings(name: str, limits: Any) -> Any:
    """``limits`` whose ``auto`` begins at the figure of a known vendor's account."""
    known = DEFAULT_PROVIDERS.get(name)
    if known is None or not isinstance(limits, Mapping):
        return limits
    begins = {str(dimension): AutoLimit(amount) for dimension, amount in known.autos().items()}
    return {key: begins.get(str(key), value) if value == "auto" else value for key, value in limits.items()}


def with_assumed_account(name: str, limits: ProviderLimits) -> ProviderLimits:
    """``limits``, with the known vendor's account limits where those of models alone are stated."""
    known = DEFAULT_PROVIDERS.get(name)
    if known is None or not limits.models or limits.by_dimension():
        return limits
    of_account: dict[str, Any] = {str(name): amount for name, amount in known.by_dimension().items()}
    of_account.update((key, getattr(limits, key)) for key in limits.model_fields_set)
    return AssumedLimits(**of_account)
