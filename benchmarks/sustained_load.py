"""One provider at twice its limit: this package against LiteLLM's Router as it is, and with each of its own limiters.

Every side is a process with a provider process of its own, and runs alone: a retry storm takes so much CPU that it
would starve the others.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.harness import Report, module_process, percentile, read_line, write_line
from benchmarks.sustained_side import BURST, PER_SECOND, SIDES

_SLACK = 1.0  # seconds of the rate that the provider allows on top, for the delays of the network


def run(quick: bool) -> Report:
    load, grace = (10.0, 20.0) if quick else (60.0, 60.0)
    report = Report(
        f"Twice the limit for {load:.0f} s: {2 * PER_SECOND:.0f} requests/s offered, "
        f"{PER_SECOND:.0f}/s with a burst of {BURST} allowed",
        (
            "router",
            "succeeded",
            "failed",
            "unfinished",
            "upstream 429s",
            "allowed used",
            "to its last success",
            "p50",
            "p95",
            "offered late by",
        ),
    )
    for name in SIDES:
        figures = _figures(_run_side(name, load, grace), load)
        report.rows.append((SIDES[name], *_cells(figures)))
        report.data[name] = figures
    report.notes.append(
        f"Allowed used: successes while the load lasted, over {BURST} + {PER_SECOND:.0f} · {load:.0f}; then successes "
        "in all, over what was allowed up to the last one. The provider grants "
        f"{_SLACK * PER_SECOND:.0f} requests more than its limit, so that a side that does not count may exceed 100 %. "
        "Latencies are those of successes, from the moment a request was due to be offered; offered late by is the "
        "worst delay of that, when the side's own event loop is busy. A request not finished "
        f"{grace:.0f} s after the load ended is cancelled. Goal: no upstream 429 and at least 98 % of the allowed used."
    )
    return report


def _run_side(name: str, load: float, grace: float) -> dict[str, Any]:
    with module_process("sustained_provider", PER_SECOND, BURST, _SLACK) as provider:
        api_base = json.loads(read_line(provider))["api_base"]
        with module_process("sustained_side", name, api_base, load, grace) as side:
            outcome = json.loads(read_line(side))
        write_line(provider)
        return {**outcome, **json.loads(read_line(provider))}


def _figures(result: dict[str, Any], load: float) -> dict[str, Any]:
    successes = result["successes"]
    last = max((ended for _, ended in successes), default=load)
    latencies = [ended - offered for offered, ended in successes]
    return {
        "offered": result["offered"],
        "succeeded": len(successes),
        "failed": result["failed"],
        "unfinished": result["unfinished"],
        "upstream_429": result["rejected_429"],
        "allowed_used": sum(ended <= load for _, ended in successes) / (BURST + PER_SECOND * load),
        "allowed_used_to_last": len(successes) / (BURST + PER_SECOND * last),
        "largest_lag": result["lag"],
        "p50": percentile(latencies, 0.50),
        "p95": percentile(latencies, 0.95),
    }


def _cells(figures: dict[str, Any]) -> tuple[str, ...]:
    failed = sum(figures["failed"].values())
    why = ", ".join(f"{count} {kind}" for kind, count in figures["failed"].items())
    return (
        f"{figures['succeeded']:,} of {figures['offered']:,}",
        f"{failed:,}" + (f" ({why})" if why else ""),
        f"{figures['unfinished']:,}",
        f"{figures['upstream_429']:,}",
        f"{figures['allowed_used']:.1%}",
        f"{figures['allowed_used_to_last']:.1%}",
        f"{figures['p50']:.1f} s",
        f"{figures['p95']:.1f} s",
        f"{figures['largest_lag']:.1f} s",
    )
