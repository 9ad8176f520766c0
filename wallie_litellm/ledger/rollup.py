"""Sums over records by quarter of an hour and by day, to be added to those in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from wallie_litellm.core.attempt_result import ended_by_caller
from wallie_litellm.core.demand import Outcome
from wallie_litellm.ledger.percentiles import bin_of
from wallie_litellm.ledger.records import COLUMNS, Record, Row
from wallie_litellm.ledger.schema import (
    ALL_ATTEMPTS,
    ALL_REQUESTS,
    ATTEMPTS_BY_PROVIDER,
    BAND,
    DAY,
    FIRST_TOKEN,
    LATENCY,
    QUARTER,
    REQUESTS_BY_PROVIDER,
    histograms,
    usage,
)

# The columns that identify a row of ``usage`` and of ``histograms``, and those that are summed, in the tables' order.
USAGE_KEY: Final = tuple(column.name for column in usage.columns if column.primary_key)
USAGE_SUMS: Final = tuple(column.name for column in usage.columns if not column.primary_key)
HISTOGRAM_KEY: Final = tuple(column.name for column in histograms.columns if column.primary_key)
HISTOGRAM_SUMS: Final = tuple(column.name for column in histograms.columns if not column.primary_key)

# (start, view, provider, model, feature, user_id); the last is the proxy's key in the view ``key``
_Key = tuple[int, str, str, str, str, str]


class RollUp(NamedTuple):
    """The amounts that records add to ``usage`` and ``histograms``: rows in the order of the columns, sorted by key."""

    usage: list[Row]
    histograms: list[Row]


class _Amounts:
    """What each record adds to the sums of each key, and the histograms of each key, by quarter of an hour."""

    def __init__(self) -> None:
        self.sums: defaultdict[_Key, list[Row]] = defaultdict(list)
        # (*key, measure, band) → the counts of the band's bins
        self.bands: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * BAND)

    def count(self, key: _Key, measure: str, bin_number: int) -> None:
        """Add one value to the histogram of ``measure``."""
        self.bands[*key, measure, bin_number // BAND][bin_number % BAND] += 1


def roll_up(records: Iterable[Record]) -> RollUp:
    """The amounts that ``records`` add to the sums."""
    amounts = _Amounts()
    for kind, values in records:
        if kind == "attempt":
            _add_attempt(amounts, values)
        elif kind == "request":
            _add_request(amounts, values)
    sums = {key: _total(members) for key, members in amounts.sums.items()}
    return RollUp(_in_both_grains(sums, _COARSE_SUMS), _in_both_grains(amounts.bands, _COARSE_HISTOGRAMS))


def _picker(kind: str, *names: str) -> itemgetter[Any]:
    return itemgetter(*(COLUMNS[kind].index(name) for name in names))


_attempt_key = _picker("attempt", "at", "provider", "model", "feature", "user_id", "outcome", "latency_ms", "cost_usd")
_attempt_flags = _picker("attempt", "success", "unpriced", "estimated")
_attempt_end = _picker("attempt", "success", "error", "status_code")
_attempt_tokens = _picker("attempt", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
_attempt_details = _picker("attempt", "first_token_ms", "cache_write_tokens", "reasoning_tokens")
_attempt_charges = _picker("attempt", "charged_requests", "charged_tokens", "charged_input", "charged_output")
_attempt_waited = _picker("attempt", "waited_ms")
_attempt_proxy_key = _picker("attempt", "proxy_key")
_request_key = _picker("request", "at", "provider", "model", "feature", "latency_ms", "waited_ms")
_request_flags = _picker("request", "success", "by_caller", "used_fallback", "cache_hit", "hedged")
_request_money = _picker("request", "wasted_usd", "saved_usd", "auto_saved_usd")

# View → the coarse ones that add up its rows, and how many of a key's names, the provider first, they keep.
_COARSE_SUMS: Final = {
    "model": ((ALL_ATTEMPTS, 0), (ATTEMPTS_BY_PROVIDER, 1)),
    "request": ((ALL_REQUESTS, 0), (REQUESTS_BY_PROVIDER, 1)),
}
_COARSE_HISTOGRAMS: Final = {view: coarse[:1] for view, coarse in _COARSE_SUMS.items()}
_NAMES: Final = 4  # of a key: provider, model, feature and user

_SUCCESS: Final = Outcome.SUCCESS.value
_CACHE_HIT: Final = Outcome.CACHE_HIT.value
# First tokens, tokens, cost and charges are counted for attempts only.
_ZEROS: Final = (0, 0.0) + (0,) * 6 + (0.0,) + (0,) * 4
_NOT_OF_ATTEMPTS: Final = (0, 0.0, 0.0, 0.0)  # hedged, and what was wasted and saved, are of requests


def _add_attempt(amounts: _Amounts, values: Row) -> None:
    at, provider, model, feature, user_id, outcome, latency, cost = _attempt_key(values)
    success, unpriced, estimated = _attempt_flags(values)
    first_token, cache_writes, reasoning = _attempt_details(values)
    measured = outcome == _SUCCESS
    sums = (
        *(1, success, outcome == _CACHE_HIT, ended_by_caller(*_attempt_end(values)), 0, unpriced, estimated),
        *(latency if measured else 0.0, _attempt_waited(values), first_token is not None, first_token or 0.0),
        *(*_attempt_tokens(values), cache_writes or 0, reasoning or 0),
        cost or 0.0,
        *_attempt_charges(values),
        *_NOT_OF_ATTEMPTS,
    )
    start = int(at) // QUARTER * QUARTER
    by_model: _Key = (start, "model", provider, model, feature, "")
    amounts.sums[by_model].append(sums)
    if measured:
        amounts.count(by_model, LATENCY, bin_of(latency))
    if first_token is not None:
        amounts.count(by_model, FIRST_TOKEN, bin_of(first_token))
    amounts.sums[start, "user", "", "", "", user_id].append(sums)
    if proxy_key := _attempt_proxy_key(values):
        amounts.sums[start, "key", "", model, "", proxy_key].append(sums)


def _add_request(amounts: _Amounts, values: Row) -> None:
    at, provider, model, feature, latency, waited = _request_key(values)
    success, by_caller, used_fallback, hit, hedged = _request_flags(values)
    wasted, saved, auto_saved = _request_money(values)
    fell_back, measured = success and used_fallback, success and not hit
    start = int(at) // QUARTER * QUARTER
    key: _Key = (start, "request", provider, model, feature, "")
    counts = 1, success, hit, by_caller, fell_back, 0, 0
    money = wasted, saved or 0.0, auto_saved or 0.0
    amounts.sums[key].append((*counts, latency if measured else 0.0, waited, *_ZEROS, hedged, *money))
    if measured:
        amounts.count(key, LATENCY, bin_of(latency))


def _in_both_grains(
    quarters: Mapping[Any, Sequence[Any]], coarse: Mapping[str, Sequence[tuple[str, int]]]
) -> list[Row]:
    """The rows of the sums of each key, and of those of the ``coarse`` views, by quarter and by day."""
    wider: defaultdict[tuple[Any, ...], list[Sequence[Any]]] = defaultdict(list)
    rows = []
    for key, sums in quarters.items():
        rows.append((QUARTER, *key, *sums))
        start, view, *rest = key
        day = start // DAY * DAY
        wider[DAY, day, view, *rest].append(sums)
        for name, kept in coarse.get(view, ()):
            fewer = (name, *rest[:kept], *[""] * (_NAMES - kept), *rest[_NAMES:])
            wider[QUARTER, start, *fewer].append(sums)
            wider[DAY, day, *fewer].append(sums)
    rows += [(*key, *_total(members)) for key, members in wider.items()]
    rows.sort()  # so that two processes that add to the same rows do not deadlock
    return rows


def _total(members: Sequence[Sequence[Any]]) -> Row:
    if len(members) == 1:  # the usual case of a user
        return tuple(members[0])
    return tuple(map(sum, zip(*members, strict=True)))
