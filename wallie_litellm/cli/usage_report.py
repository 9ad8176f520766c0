"""What was used in the last 24 hours, by provider, as ``wallie-litellm status`` shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from wallie_litellm.cli.tables import aligned
from wallie_litellm.errors import ConfigError

RANGE: Final = "24h"
LEDGER_TIMEOUT: Final = 5.0  # seconds for the ledger to be read


class UsageUnavailable(Exception):  # noqa: N818 - it says what happened
    """The ledger cannot be read; the message says why, in one line."""


def usage_of_ledger(url: str) -> dict[str, Any] | None:
    """The same as a server's ``api/usage?range=24h&by=provider``; ``None`` while SQLite's file does not exist.

    Raises:
        UsageUnavailable: the ledger cannot be read.
    """
    from wallie_litellm.ledger.engine import missing_file
    from wallie_litellm.ledger.reader import reason

    if missing_file(url):
        return None
    try:
        return asyncio.run(asyncio.wait_for(_ask(url), LEDGER_TIMEOUT))
    except ConfigError as error:
        raise UsageUnavailable("; ".join(error.problems)) from error
    except TimeoutError:
        raise UsageUnavailable(f"wallie.ledger.url: no answer within {LEDGER_TIMEOUT:g} s") from None
    except Exception as error:
        raise UsageUnavailable(f"wallie.ledger.url: the database failed while it was read: {reason(error)}") from error


async def _ask(url: str) -> dict[str, Any]:
    from wallie_litellm.dashboard.usage_ranges import stretch_of, usage_of
    from wallie_litellm.ledger.queries import LedgerQueries
    from wallie_litellm.ledger.reader import open_reader

    stretch = stretch_of(RANGE, None, None, RANGE, time.time())
    async with open_reader(url) as engine:
        return (await usage_of(LedgerQueries(engine), stretch, "provider")).model_dump()


def usage_lines(usage: Mapping[str, Any]) -> Iterator[str]:
    """The same as a table."""
    if not usage["totals"]:
        yield f"No requests in the last {usage['range']}"
        return
    rows: list[tuple[str, ...]] = [
        (f"last {usage['range']}", "requests", "tokens", "cost (USD)", "first token p50, p95", "")
    ]
    for one in usage["totals"]:
        cost = "-" if one["cost_usd"] is None else f"{one['cost_usd']:,.4f}"
        requests = "-" if one["requests"] is None else f"{one['requests']:,}"
        note = f"{one['unpriced']} unpriced" if one["unpriced"] else ""
        first = [one.get(f"first_token_{name}_ms") for name in ("p50", "p95")]
        shown = "" if None in first else ", ".join(f"{milliseconds / 1000:.2f} s" for milliseconds in first)
        rows.append((str(one["name"]) or "(none)", requests, f"{one['total_tokens']:,}", cost, shown, note))
    yield from aligned(rows, right=(1, 2, 3, 4))
