"""The headers of an answer that say how it came about. LiteLLM's proxy sends them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wallie_litellm.guard.context import RequestContext
from wallie_litellm.guard.own_limits import PREFIX
from wallie_litellm.litellm_adapter.wires.fields import headers_of

FROM_CACHE: Final = "cache"  # in place of a provider's name, where none was asked


def add_headers(context: RequestContext, response: Any, limits: Mapping[str, float | str] | None = None) -> None:
    """Add what ``context`` says of the request to the headers of its answer, whole or streamed.

    ``limits`` take the place of those that its vendor tells.
    """
    headers = headers_of(response)
    served = context.served_by
    if headers is None or served is None:
        return
    if limits is not None:
        for name in [name for name in headers if name.lower().startswith(PREFIX)]:
            del headers[name]
        headers |= limits
    group, tried = served.group, context.tried
    headers |= {
        "x-litellm-model-group": group,
        "x-litellm-attempted-retries": tried.retries,
        "x-litellm-attempted-fallbacks": tried.fallbacks,
        "x-wallie-request-id": context.request_id,
        "x-wallie-provider": served.provider or FROM_CACHE,
        "x-wallie-model-group": group,
        "x-wallie-fallback": int(group != context.group),
        "x-wallie-waited-ms": round(context.waited * 1000),
    }
    if tried.retries:
        headers["x-litellm-max-retries"] = tried.max_retries
    if not served.provider:
        headers["x-wallie-cost-usd"] = "0.00000000"
    if (decided := context.decided) is not None and decided.hedged:
        headers["x-wallie-hedged"] = 1
    if not served.streaming and (cost := context.cost_usd) is not None:
        headers["x-wallie-cost-usd"] = f"{cost:.8f}"
