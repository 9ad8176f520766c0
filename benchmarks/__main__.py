"""``python -m benchmarks [name ...] [--quick] [--json FILE]``, or ``python -m benchmarks reliability [...]``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

# Takes half an hour, installs what it compares with, and has options of its own: it runs where it is named alone.
RELIABILITY = "reliability"
NAMES = (
    "call_overhead",
    "own_time",
    "proxy_overhead",
    "bucket_micro",
    "estimates",
    "sustained_load",
    "telemetry_overhead",
    "ledger_writes",
    "ledger_queries",
    "fleet",
    "fleet_bursts",
    "dashboard",
    "same_provider_fallback",
    "model_limits",
    "learned_limits",
    "experiments",
    "forecast",
    "answer_cache",
    "order_by_latency",
    "simulated_order",
    "hedging",
    "reload",
    "rehearsal",
    "budgets",
)


def main() -> None:
    if sys.argv[1:2] == [RELIABILITY]:
        importlib.import_module(f"benchmarks.{RELIABILITY}.__main__").main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure; see docs/benchmarks.md.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"one or more of: {', '.join(NAMES)} (default: all); {RELIABILITY} alone",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and shorter loads, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"unknown benchmark {name!r}: choose from {', '.join(NAMES)}")
    figures = {}
    for name in options.names or NAMES:
        report = importlib.import_module(f"benchmarks.{name}").run(options.quick)
        figures[name] = report.data
        print(report.markdown(), end="\n\n", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
