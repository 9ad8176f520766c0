"""When a second member of a chain is asked beside the first: a feature's ``hedge``."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field, PlainValidator, WithJsonSchema

from wallie_litellm.config import value_schemas as schemas
from wallie_litellm.config.section import Section
from wallie_litellm.config.values import (
    DURATION_FORMS,
    DURATION_SCHEMA,
    Money,
    ShareAboveZero,
    expected,
    parse_duration,
)

_QUANTILE: Final = re.compile(r"p([5-9][0-9](?:\.[0-9])?)")


class HedgeAfter(NamedTuple):
    """How long a call may say nothing: ``seconds``, or a ``quantile`` of what its model's first tokens take."""

    seconds: float | None = None
    quantile: float | None = None

    def __str__(self) -> str:
        return f"p{100 * self.quantile:g}" if self.quantile is not None else f"{self.seconds:g}s"


def _after(value: object) -> HedgeAfter:
    if isinstance(value, HedgeAfter):
        return value
    if isinstance(value, str) and (found := _QUANTILE.fullmatch(value.strip())):
        return HedgeAfter(quantile=round(float(found[1]) / 100, 4))
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 0.0
    if seconds == 0:
        raise expected(f"a percentile from p50 to p99.9, or {DURATION_FORMS}, above 0")
    return HedgeAfter(seconds=seconds)


After = Annotated[
    HedgeAfter,
    PlainValidator(_after),
    WithJsonSchema(schemas.either(DURATION_SCHEMA, schemas.PERCENTILE)),
]


class HedgeSettings(Section):
    """A request of which no token has come ``after`` so long also goes to the next member of its chain."""

    after: After = Field(
        HedgeAfter(quantile=0.95),
        description="Seconds for which a call may say nothing, or a percentile of what its model's first tokens "
        "take, from which on the next member is asked too.",
    )
    budget: ShareAboveZero = Field(0.02, description="Share of requests that may be hedged.")
    max_usd_day: Money | None = Field(
        None,
        description="US dollars a day that hedges may cost in addition; null is no limit.",
    )
    to: Literal["next"] = Field("next", description="Which member is asked, of which there is one choice.")
