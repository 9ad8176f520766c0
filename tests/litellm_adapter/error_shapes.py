"""Errors as vendors send them, after the documents and reports that the error table names: ``error_shapes/*.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

DAY: Final = "day"  # a pause until the vendor's next reset


class Shape(NamedTuple):
    """One answer, and what is to be seen in it: whose failure, whether it is a rate limit, and seconds of a pause."""

    vendor: str
    name: str
    status: int
    headers: Mapping[str, str]
    body: Any
    fault: str | None  # request | model | account | provider | caller; None where it cannot be known
    limited: bool
    pause: float | str | None
    missing: bool  # a model that is not there, or not for this account: its breaker counts that

    def __str__(self) -> str:
        return f"{self.vendor}: {self.name}"


def _read() -> Iterator[Shape]:
    for path in sorted(Path(__file__).with_suffix("").glob("*.yaml")):
        for row in yaml.safe_load(path.read_text(encoding="utf-8")):
            seen = row["seen"]
            yield Shape(
                path.stem,
                row["name"],
                row["status"],
                row.get("headers", {}),
                row["body"],
                seen["fault"],
                seen.get("limited", False),
                seen.get("pause"),
                seen.get("missing", False),
            )


SHAPES: Final = tuple(_read())
