"""Azure OpenAI: OpenAI's format, by deployments whose names are in the path, with limits of their own."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Final

from wallie_litellm.simulator.limits import LimitVerdict, Meters
from wallie_litellm.simulator.openai_wire import OpenAIWire
from wallie_litellm.simulator.wire import Ask, Json, RetryAfter, WireReply, retry_after_header

_DEPLOYMENT: Final = re.compile(r"/deployments/([^/]+)/")
_OPERATIONS: Final = {"chat": "ChatCompletions_Create", "embeddings": "Embeddings_Create"}
_NEVER: Final = 86_400.0  # seconds to wait, of a request that never fits, as in published reports


class AzureWire(OpenAIWire):
    """Azure's 429 names call or token rate; ``remaining-requests`` is that of the slice of 1 or 10 seconds.

    From Microsoft's page on quotas and its answers on 429s; the Responses API tells -1 for every limit.
    """

    vendor = "azure"
    api_path = ""

    def parse(self, path: str, body: Json) -> Ask | None:
        """The deployment is in the path, except for the Responses API."""
        ask, found = super().parse(path, body), _DEPLOYMENT.search(path)
        return replace(ask, model=found[1]) if ask is not None and found is not None else ask

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """Code 429, with the wait in the sentence and in both headers."""
        rate = "token" if "tp" in (verdict.refused_by or "") else "call"
        seconds = min(verdict.retry_after, _NEVER)
        return WireReply(
            429, self._exceeded(rate, seconds), {**self.limit_headers(meters), **self.wait_headers(seconds)}
        )

    def rate_limited(self, retry_after: RetryAfter, model: str, serial: int) -> WireReply:
        """The same body, and the Retry-After of the fault."""
        seconds = retry_after if isinstance(retry_after, int | float) else None
        return WireReply(429, self._exceeded("call", seconds), retry_after_header(retry_after))

    def _exceeded(self, rate: str, seconds: float | None) -> Json:
        wait = "" if seconds is None else f" Please retry after {math.ceil(seconds)} seconds."
        message = (
            f"Requests to the {_OPERATIONS['chat']} Operation under Azure OpenAI API version 2024-10-21 have exceeded "
            f"{rate} rate limit of your current OpenAI S0 pricing tier.{wait} Please go here: "
            "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."
        )
        return {"error": {"code": "429", "message": message}}

    def limit_headers(self, meters: Meters, kind: str = "") -> dict[str, str]:
        """OpenAI's names; resets in whole seconds."""
        headers = super().limit_headers(
            {
                name: meter._replace(remaining=min(meter.remaining, meter.slice_remaining))
                for name, meter in meters.items()
            }
        )
        if kind != "responses":
            return headers
        return {name: "0" if "-reset-" in name else "-1" for name in headers}
