"""Events as the guard publishes them: every test's sample is one of these with changes."""

from __future__ import annotations

from typing import Any

from wallie_litellm.core.demand import Demand
from wallie_litellm.events import Ended, ExhaustionForeseen, Settled, new_id

NOON = 1_790_000_000.0
PROMPT = "MARKED-PROMPT"

FORESEEN = ExhaustionForeseen(
    id=new_id(NOON),
    at=NOON,
    provider="openai",
    dimension="rpd",
    exhausts_at=NOON + 4 * 3600,
    earliest=NOON + 3 * 3600,
    latest=None,
    reset_at=1_790_035_200.0,  # midnight
    timezone="UTC",
    expected=1250.0,
    limit=1000,
    method="weekly",
    model="gpt-4o*",
)


def settled(**changes: Any) -> Settled:
    """An attempt at gpt-4o-mini that took 1.5 s, after a wait of 0.25 s, with ``changes``."""
    record = Settled(
        id=new_id(NOON),
        at=NOON,
        request_id="r1",
        number=1,
        provider="openai",
        model="gpt-4o-mini",
        deployment="openai/gpt-4o-mini-2024-07-18",
        operation="chat",
        stream=False,
        outcome="success",
        success=True,
        error=None,
        status_code=None,
        latency_ms=1500.0,
        waited_ms=250.0,
        prompt_tokens=100,
        completion_tokens=20,
        total_tokens=120,
        cached_tokens=40,
        reasoning_tokens=8,
        cost_usd=0.003,
        unpriced=False,
        estimated=False,
        charged=Demand(1, 120, 100, 20),
        feature="wallie-chat",
        user_id="user-7",
        metadata={"conversationId": "c1", "note": PROMPT},
    )
    return record._replace(**changes)


def failed(**changes: Any) -> Settled:
    """An attempt that ended with HTTP 503."""
    return settled(
        **{
            "outcome": "rejected",
            "success": False,
            "error": "HTTP 503",
            "status_code": 503,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
            "cost_usd": None,
            **changes,
        }
    )


def ended(*attempts: Settled, **changes: Any) -> Ended:
    """A request of 2 s whose attempts are ``attempts``; it ended as the last of them did."""
    last = attempts[-1] if attempts else settled()
    record = Ended(
        id=new_id(NOON),
        at=NOON,
        request_id="r1",
        model="gpt-4o-mini",
        operation=last.operation,
        stream=last.stream,
        success=last.success,
        error=last.error,
        status_code=last.status_code,
        by_caller=False,
        latency_ms=2000.0,
        waited_ms=250.0,
        used_fallback=last.model != "gpt-4o-mini",
        provider=last.provider,
        feature="wallie-chat",
        user_id="user-7",
        metadata={"conversationId": "c1", "note": PROMPT},
        settled=attempts,
    )
    return record._replace(**changes)
