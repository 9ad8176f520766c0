"""What an attempt used and what it cost."""

from __future__ import annotations

from typing import Final, NamedTuple


class Bill(NamedTuple):
    """Tokens and US dollars of one attempt.

    ``cost_usd`` is ``None`` where no price is known, and then ``unpriced`` is set; a call that cost nothing has 0.
    ``estimated`` is set where the provider did not report the tokens. ``cached_tokens`` and
    ``cache_write_tokens`` are part of ``prompt_tokens``, ``reasoning_tokens`` of ``completion_tokens``.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = 0.0
    unpriced: bool = False
    estimated: bool = False
    cache_write_tokens: int = 0


NO_BILL: Final = Bill()
