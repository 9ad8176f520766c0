"""The API's route that says which share of the requests for a chain each of its members served."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from wallie_litellm.dashboard.api_errors import ApiError
from wallie_litellm.dashboard.chain_shares import ChainMember, ChainShares, chain_shares, chains_in, gather_asked
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.usage_ranges import as_asked, iso, stretch_of
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE


class ChainMemberRow(BaseModel):
    """What a member served. ``groups`` are several where the ledger's sums do not tell them apart: they share a
    provider; and none where the one that served is not, or no longer, in the chain. ``share`` is of the requests that
    their callers did not end.
    """

    groups: list[str]
    providers: list[str]
    served: int
    share: float | None


class ChainRow(BaseModel):
    """The requests for one group. ``cached`` were answered by the cache, ``failed`` by none."""

    group: str = Field(description="the first of the chain")
    requests: int
    by_caller: int
    cached: int
    failed: int
    failed_share: float | None
    members: list[ChainMemberRow] = Field(description="in the order of the chain")


class ChainList(BaseModel):
    """Sums from ``since`` to before ``until`` (null: now). Ranges above two hours are of whole quarters of an hour."""

    range: str | None
    since: str
    until: str | None
    chains: list[ChainRow] = Field(description="those that were asked for most first, 30 at most")


def add_chain_route(router: APIRouter, service: DashboardService) -> None:
    """Add it to those of the API."""
    tags: list[Any] = ["ledger"]

    @router.get("/chains", tags=tags, operation_id="chains", summary="Which members of chains served")
    async def chains(
        chosen: Annotated[str | None, Query(alias="range", description="1h, 24h (the default), 7d or 30d")] = None,
        since: Annotated[str | None, Query(description="instead of range: ISO 8601, Unix seconds, or an age")] = None,
        until: Annotated[str | None, Query(description="likewise; now unless given")] = None,
    ) -> ChainList:
        """The share of the requests for each chain that each of its members served."""
        now = time.time()
        try:
            stretch = as_asked(stretch_of(chosen, since, until, DEFAULT_RANGE, now, service.zone), now)
        except ValueError as wrong:
            raise ApiError(422, "wallie_bad_request", str(wrong)) from wrong
        asked = await service.ask(lambda queries: gather_asked(queries, stretch.since, stretch.until))
        found = chain_shares(asked, chains_in(await service.status()))
        ends = None if stretch.until is None else iso(stretch.until)
        return ChainList(range=stretch.name, since=iso(stretch.since), until=ends, chains=list(map(_row, found)))


def _row(one: ChainShares) -> ChainRow:
    return ChainRow(
        group=one.group,
        requests=one.requests,
        by_caller=one.by_caller,
        cached=one.cached,
        failed=one.failed,
        failed_share=one.failed_share,
        members=list(map(_member, one.members)),
    )


def _member(one: ChainMember) -> ChainMemberRow:
    return ChainMemberRow(groups=list(one.groups), providers=list(one.providers), served=one.served, share=one.share)
