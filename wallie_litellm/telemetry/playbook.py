"""What to do when an alert comes: the sections of ``docs/playbook.md``, and the one that an alert leads to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

COMMAND: Final = "wallie-litellm playbook"  # prints a section
_FILE: Final = "docs/playbook.md"  # in a checkout; a wheel has it in the package, at the same path
_PACKAGE: Final = Path(__file__).parent.parent
_HEADING: Final = "\n## "
_DAYS: Final = ("rpd", "tpd")

# The type of an alert, as the ledger has it → its section.
_SECTIONS: Final = {
    "quota": "quota",
    "forecast": "quota",
    "limit_overstated": "quota",
    "provider_down": "breaker-open",
    "unpriced": "unpriced-model",
    "budget": "cost",
    "error_rate": "error-rate",
    "queue": "queue",
}


def section_of(alert: str, dimension: str = "", utilization: float | None = None) -> str | None:
    """The section for an alert of this type: a day's limit that is used up has one of its own."""
    if alert == "quota" and dimension in _DAYS and (utilization or 0) >= 1:
        return "exhausted-day"
    return _SECTIONS.get(alert)


@cache
def sections() -> Mapping[str, str]:
    """Markdown by section, without the headings; what stands before the first is under the empty name."""
    packaged = _PACKAGE / _FILE
    path = packaged if packaged.is_file() else _PACKAGE.parent / _FILE
    introduction, *rest = path.read_text(encoding="utf-8").split(_HEADING)
    parts = {name: text.strip() for name, _, text in (part.partition("\n") for part in rest)}
    return {"": introduction.partition("\n")[2].strip(), **parts}
