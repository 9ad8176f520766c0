"""``PYTHONPATH=tests python -m architecture [ROOT] [--only NAME ...] [--notes]``: print what breaks a contract."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from architecture.contracts import CONTRACTS, NOTES
from architecture.sources import Checkout


def reports(checkout: Checkout, names: Iterable[str]) -> list[str]:
    """A line for each violation, sorted by file and line."""
    checks = CONTRACTS | NOTES
    found = {(violation, name) for name in names for violation in checks[name](checkout)}
    return [f"{violation} [{name}]" for violation, name in sorted(found)]


def main() -> int:
    """Print the violations, sorted by file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m architecture", description="Check the contracts of the house.")
    parser.add_argument(
        "root", nargs="?", type=Path, default=Path(), help="a checkout (default: the current directory)"
    )
    parser.add_argument("--only", nargs="+", choices=CONTRACTS | NOTES, default=list(CONTRACTS), metavar="NAME")
    parser.add_argument("--notes", action="store_true", help=f"print what is no violation too: {', '.join(NOTES)}")
    options = parser.parse_args()
    checkout = Checkout(options.root.resolve())
    found = reports(checkout, options.only)
    for line in reports(checkout, NOTES) + found if options.notes else found:
        print(line)
    print(f"{len(found)} violations of {len(options.only)} contracts in {len(checkout.files)} files", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
