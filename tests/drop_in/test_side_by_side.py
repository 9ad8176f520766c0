"""LiteLLM's documented Router behaviours: plain ``litellm.Router`` and ``WallieRouter`` with the same arguments."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from drop_in import (
    endpoint_rows,
    fallback_rows,
    group_rows,
    outcome_rows,
    parameter_rows,
    registry_rows,
    strategy_rows,
    stream_rows,
)
from drop_in.named_differences import NAMED_DIFFERENCES
from drop_in.observation import differing, fits, observe
from drop_in.routers import our_router, plain_router
from drop_in.row import Row
from drop_in.upstream import Upstream

TABLES: Final = (
    group_rows,
    strategy_rows,
    fallback_rows,
    parameter_rows,
    endpoint_rows,
    stream_rows,
    outcome_rows,
    registry_rows,
)
ROWS: Final[tuple[Row, ...]] = tuple(row for table in TABLES for row in table.ROWS)
DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "differences.md"
AT_LEAST: Final = 80  # documented behaviours
ONE_LOOP: Final = pytest.mark.asyncio(loop_scope="module")  # clients are kept for a loop: one loop saves their set-up


@ONE_LOOP
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.behaviour)
async def test_a_row_has_the_same_outcome_with_both_routers(row: Row, upstream: Upstream) -> None:
    plain = await observe(row, upstream, plain_router)
    assert _unlike(row.expected, plain) == {}, "plain LiteLLM does other than the row says"
    ours = await observe(row, upstream, our_router)
    if row.difference is None:
        assert differing(plain, ours) == {}
    else:
        assert _unlike(row.difference.ours, ours) == {}
        assert differing(plain, ours) != {}, "there is no difference any more"


def _unlike(expected: Any, outcome: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    found = {name: (value, outcome.get(name)) for name, value in expected.items()}
    return {name: pair for name, pair in found.items() if not fits(*pair)}


def test_the_rows_are_as_many_as_promised_and_each_is_named_once() -> None:
    assert len(ROWS) >= AT_LEAST
    assert [name for name, count in Counter(row.behaviour for row in ROWS).items() if count > 1] == []


def test_every_named_difference_is_that_of_a_row() -> None:
    assert {row.difference.name for row in ROWS if row.difference} == set(NAMED_DIFFERENCES)


@pytest.mark.parametrize("name", NAMED_DIFFERENCES)
def test_a_named_difference_is_documented(name: str) -> None:
    assert NAMED_DIFFERENCES[name].documented in DOCUMENT.read_text()
