"""``PYTHONPATH=tests python -m architecture [ROOT] [--only NAME ...] [--notes]``: print what breaks a contract."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from architecture.contracts import CONTRACTS
from architecture.sources import Checkout
from architecture.voice import doubtful


def main() -> int:
    """Print the violations, sorted by file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m architecture", description="Check the contracts of the house.")
    parser.add_argument(
        "root", nargs="?", type=Path, default=Path(), help="a checkout (default: the current directory)"
    )
    parser.add_argument("--only", nargs="+", choices=CONTRACTS, default=list(CONTRACTS), metavar="NAME")
    parser.add_argument("--notes", action="store_true", help="show words that are right in some places, too")
    options = parser.parse_args()
    checkout = Checkout(options.root.resolve())
    found = sorted({(violation, name) for name in options.only for violation in CONTRACTS[name](checkout)})
    for violation, name in found:
        print(f"{violation} [{name}]")
    if options.notes:
        for violation in sorted({*doubtful(checkout)}):
            print(f"{violation} [note]")
    print(f"{len(found)} violations of {len(options.only)} contracts in {len(checkout.files)} files", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
