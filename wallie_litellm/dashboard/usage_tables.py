"""Use by provider, model, feature, user or key of the proxy's: the dearest of them, and all others together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from wallie_litellm.ledger.aggregates import Dimension
from wallie_litellm.ledger.figures import RequestTotals, Totals
from wallie_litellm.ledger.queries import FEW, LedgerQueries

By = Literal["provider", "model", "feature", "user", "key"]

TABS: Final[tuple[By, ...]] = get_args(By)
DEFAULT_BY: Final[By] = "provider"
SHOWN: Final = 20  # groups on the page
_DIMENSIONS: Final[Mapping[By, Dimension]] = {"user": "user_id", "key": "proxy_key"}


@dataclass(frozen=True, slots=True)
class UsageLine:
    """The use of one provider, model, feature, user or key; an empty ``name`` stands for attempts that named none.

    ``requests`` are those that the provider answered, or was tried last for, or that asked for the model; ``None``
    where no roll-up has them and the records are too many.
    """

    name: str
    totals: Totals
    requests: RequestTotals | None


@dataclass(frozen=True, slots=True)
class UsageTable:
    """The groups of highest cost, and ``rest``, the sums of the ``others``, a number of groups.

    ``partial`` is true of users and keys whose requests and percentiles are not known: no roll-up has them.
    """

    by: By = DEFAULT_BY
    lines: Sequence[UsageLine] = ()
    others: int = 0
    rest: Totals | None = None
    partial: bool = False


async def gather_usage(
    queries: LedgerQueries, by: By, since: float, until: float | None = None, top: int = SHOWN
) -> UsageTable:
    """The table of a range."""
    dimension = _DIMENSIONS.get(by) or cast(Dimension, by)
    ranking = await queries.ranking(dimension, since, until, top=top)
    sums = [*ranking.top, *([] if ranking.rest is None else [ranking.rest])]
    partial = by in _DIMENSIONS and sum(one.attempts for one in sums) > FEW
    names = [_name(dimension, one) for one in ranking.top]
    asked: dict[str, RequestTotals] = {}
    if names and not partial:
        found = await queries.requests(since, until, by=[dimension], percentiles=False, only=names)
        asked = {_name(dimension, one): one for one in found}
    lines = [UsageLine(name, one, asked.get(name)) for name, one in zip(names, ranking.top, strict=True)]
    return UsageTable(by, lines, ranking.others, ranking.rest, partial)


def _name(dimension: Dimension, one: Totals | RequestTotals) -> str:
    return getattr(one, dimension) or ""
