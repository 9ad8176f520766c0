"""Sums over records by quarter of an hour and by day, to be added to those in the database."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from wallie_litellm.core.demand import Outcome
from wallie_litellm.ledger.records import COLUMNS, Record, Row
from wallie_litellm.ledger.schema import BIN_RATIO, BINS, DAY, FIRST_BIN_MS, QUARTER, ended_by_caller, usage

# Bin ``n`` of a latency histogram holds latencies from edge ``n - 1`` to below edge ``n``, in ms.
BIN_EDGES_MS: Final = tuple(FIRST_BIN_MS * BIN_RATIO**number for number in range(BINS - 1))
# The columns that identify a row of ``usage``.
KEY: Final = ("grain", "start", "view", "provider", "model", "feature", "user_id")
# The summed columns, in the order of the table; the histogram's bins come last.
SUMS: Final = tuple(column.name for column in usage.columns if column.name not in KEY)

# Bin → the histogram of a single latency in it; -1 → the empty histogram.
_BINS_WITH_ONE: Final = tuple(
    tuple(int(number == bin_number) for number in range(BINS)) for bin_number in range(BINS + 1)
)

# (start, view, provider, model, feature, user_id) → for each record its sums, and its bin or -1
_Key = tuple[int, str, str, str, str, str]
_Groups = dict[_Key, list[tuple[Row, int]]]


def roll_up(records: Iterable[Record]) -> list[Row]:
    """The amounts that ``records`` add to ``usage``: rows in the order of its columns, sorted by key."""
    groups: _Groups = defaultdict(list)
    for kind, values in records:
        if kind == "attempt":
            _add_attempt(groups, values)
        elif kind == "request":
            _add_request(groups, values)
    quarters = {key: _total(members) for key, members in groups.items()}
    # Sorted, so that two processes that add to the same rows do not deadlock.
    return sorted((grain, *key, *sums) for grain, rows in _grains(quarters) for key, sums in rows.items())


def _picker(kind: str, *names: str) -> itemgetter[Any]:
    return itemgetter(*(COLUMNS[kind].index(name) for name in names))


_attempt_key = _picker("attempt", "at", "provider", "model", "feature", "user_id", "outcome", "latency_ms", "cost_usd")
_attempt_flags = _picker("attempt", "success", "unpriced", "estimated")
_attempt_end = _picker("attempt", "success", "error", "status_code")
_attempt_tokens = _picker(
    "attempt", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"
)
_attempt_charges = _picker("attempt", "charged_requests", "charged_tokens", "charged_input", "charged_output")
_attempt_waited = _picker("attempt", "waited_ms")
_request_key = _picker("request", "at", "provider", "model", "feature", "latency_ms", "waited_ms")
_request_flags = _picker("request", "success", "by_caller", "used_fallback")

_SUCCESS: Final = Outcome.SUCCESS.value
_CACHE_HIT: Final = Outcome.CACHE_HIT.value
_ZEROS: Final = (0,) * 5 + (0.0,) + (0,) * 4  # tokens, cost and charges are counted for attempts only


def _add_attempt(groups: _Groups, values: Row) -> None:
    at, provider, model, feature, user_id, outcome, latency, cost = _attempt_key(values)
    success, unpriced, estimated = _attempt_flags(values)
    measured = outcome == _SUCCESS
    sums = (
        *(1, success, outcome == _CACHE_HIT, ended_by_caller(*_attempt_end(values)), 0, unpriced, estimated),
        *(latency if measured else 0.0, _attempt_waited(values)),
        *_attempt_tokens(values),
        cost or 0.0,
        *_attempt_charges(values),
    )
    member = (sums, bisect_right(BIN_EDGES_MS, latency) if measured else -1)
    start = int(at) // QUARTER * QUARTER
    groups[start, "model", provider, model, feature, ""].append(member)
    groups[start, "user", "", "", "", user_id].append(member)


def _add_request(groups: _Groups, values: Row) -> None:
    at, provider, model, feature, latency, waited = _request_key(values)
    success, by_caller, used_fallback = _request_flags(values)
    fell_back = success and used_fallback
    sums = (1, success, 0, by_caller, fell_back, 0, 0, latency if success else 0.0, waited, *_ZEROS)
    start = int(at) // QUARTER * QUARTER
    groups[start, "request", provider, model, feature, ""].append(
        (sums, bisect_right(BIN_EDGES_MS, latency) if success else -1)
    )


def _total(members: Sequence[tuple[Row, int]]) -> Row:
    if len(members) == 1:  # the usual case of a user
        sums, bin_number = members[0]
        return (*sums, *_BINS_WITH_ONE[bin_number])
    bins = [0] * BINS
    for _, bin_number in members:
        if bin_number >= 0:
            bins[bin_number] += 1
    return (*map(sum, zip(*(sums for sums, _ in members), strict=True)), *bins)


def _grains(quarters: Mapping[_Key, Row]) -> Iterable[tuple[int, Mapping[_Key, Row]]]:
    yield QUARTER, quarters
    days: dict[_Key, Row] = {}
    for (start, *rest), sums in quarters.items():
        key = (start // DAY * DAY, *rest)
        days[key] = tuple(map(sum, zip(days[key], sums, strict=True))) if key in days else sums  # type: ignore[index] # a key of the same shape
    yield DAY, days
