"""What may be spent: a ``budget`` of one feature, of one of the proxy's keys, or of all, by calendar day and month."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from wallie_litellm.config import value_schemas as schemas
from wallie_litellm.config.section import Section
from wallie_litellm.config.values import TimeZone, conflict, expected
from wallie_litellm.core.spending import MOST_USD

OnExhausted = Literal["alert", "cheapest", "refuse"]


def _usd(value: object) -> float:
    number = None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    if number is None or not 0 < number <= MOST_USD:
        raise expected("an amount in US dollars, above 0 and at most 1,000,000")
    return number


Usd = Annotated[
    float,
    BeforeValidator(_usd),
    WithJsonSchema(schemas.number(exclusiveMinimum=0, maximum=MOST_USD)),
]


class Amounts(Section):
    """US dollars by calendar day and by calendar month; ``None`` is no limit."""

    daily_usd: Usd | None = Field(None, description="US dollars a calendar day; null is no limit.")
    monthly_usd: Usd | None = Field(
        None,
        description="US dollars a calendar month, at least `daily_usd`; null is no limit.",
    )

    @model_validator(mode="after")
    def _day_fits_into_month(self) -> Amounts:
        if self.daily_usd is not None and self.monthly_usd is not None and self.daily_usd > self.monthly_usd:
            text = f"found {self.daily_usd:g} USD, expected at most monthly_usd ({self.monthly_usd:g} USD)"
            raise conflict("daily_usd", text)
        return self

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self.daily_usd is not None or self.monthly_usd is not None


class UserBudget(Amounts):
    """What each user may spend."""

    on_exhausted: OnExhausted | None = Field(
        None,
        description="What happens once it is used up; as in the budget that it is in unless set.",
    )


class CostBudget(Amounts):
    """What requests may cost, and what becomes of them once it is used up."""

    on_exhausted: OnExhausted = Field(
        "alert",
        description="Once it is used up, there is an alert and no more (`alert`), requests are led to the "
        "cheapest member of their chain (`cheapest`), or they are refused (`refuse`).",
    )

    @model_validator(mode="after")
    def _has_a_limit(self) -> CostBudget:
        if not self.is_set:
            raise conflict("daily_usd", "expected daily_usd or monthly_usd")
        return self

    def parts(self) -> Iterator[tuple[bool, Amounts, OnExhausted]]:
        """The budgets that are set: whether each is one for each user, its amounts, and what its exhaustion does."""
        if self.is_set:
            yield False, self, self.on_exhausted


class KeySettings(Section):
    """What one of the proxy's virtual keys gets."""

    budget: CostBudget | None = Field(
        None, description="What the requests that come with it may cost; null is without limit."
    )


class FeatureBudget(CostBudget):
    """What the requests of one feature may cost, all users together and each of them (``per_user``)."""

    per_user: UserBudget = Field(UserBudget(), description="What each user may spend.")

    @model_validator(mode="after")
    def _has_a_limit(self) -> FeatureBudget:
        if not self.is_set and not self.per_user.is_set:
            raise conflict("daily_usd", "expected daily_usd or monthly_usd, here or under per_user")
        return self

    def parts(self) -> Iterator[tuple[bool, Amounts, OnExhausted]]:
        """The same, and that of each user."""
        yield from super().parts()
        if self.per_user.is_set:
            yield True, self.per_user, self.per_user.on_exhausted or self.on_exhausted


class GeneralBudget(FeatureBudget):
    """What all requests together may cost, those without a feature included."""

    reset_timezone: TimeZone = Field(
        "UTC",
        description="Time zone in which the days and months of all budgets begin, at midnight.",
    )

    @model_validator(mode="after")
    def _has_a_limit(self) -> GeneralBudget:  # or only says the zone of the features' budgets
        return self
