"""What was asked for in a time, without content: when, by which feature, of which model, how large."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.ledger.schema import attempts, requests


class PastRequest(NamedTuple):
    """A request: when it came (Unix seconds), the name that was asked for, and the attempt that answered it.

    Tokens and seconds are ``None`` where none did.
    """

    at: float
    feature: str | None
    model: str
    operation: str
    stream: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None
    first_token: float | None


async def past_requests(engine: AsyncEngine, since: float, until: float) -> AsyncIterator[PastRequest]:
    """The requests that ended from ``since`` until ``until``, in the order of their ends. Cached answers are none."""
    answered = and_(attempts.c.request_id == requests.c.request_id, attempts.c.success)
    found = (
        select(
            requests.c.request_id,
            requests.c.at - requests.c.latency_ms / 1000,
            requests.c.feature,
            requests.c.requested,
            requests.c.model,
            requests.c.operation,
            requests.c.stream,
            attempts.c.prompt_tokens,
            attempts.c.completion_tokens,
            attempts.c.latency_ms,
            attempts.c.first_token_ms,
        )
        .select_from(requests.outerjoin(attempts, answered))
        .where(requests.c.at >= since, requests.c.at < until, requests.c.cache_hit.is_(False))
        .order_by(requests.c.at, requests.c.id, attempts.c.number)
    )
    last = None
    async with engine.connect() as connection:
        async for row in await connection.stream(found):
            request_id, at, feature, requested, model, operation, stream, prompt, output, latency, first = row
            if request_id == last:  # both attempts of a hedged request were answered
                continue
            last = request_id
            times = (None if one is None else one / 1000 for one in (latency, first))
            yield PastRequest(at, feature or None, requested or model, operation, stream, prompt, output, *times)
