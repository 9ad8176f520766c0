"""Tables in Markdown, and docs/reliability.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.reliability import charts
from benchmarks.reliability.faults import BY_NAME
from benchmarks.reliability.figures import VERDICTS, verdict
from benchmarks.reliability.peers import ROOT
from benchmarks.reliability.scenarios import SCENARIOS

DOCS: Final = ROOT / "docs"
PAGE: Final = DOCS / "reliability.md"
FOLDER: Final = DOCS / "reliability"  # charts, and the figures that page and charts are made from
_BEGIN: Final = "<!-- written by python -m benchmarks reliability --write-docs -->"
_END: Final = "<!-- end of what it has written -->"
_SHARE: Final = "share"
# Name, heading and unit of the columns of a fault's table; a column that is empty for all is left out.
_COLUMNS: Final = (
    ("answered", "answered", _SHARE),
    ("lies", "short or wrong", _SHARE),
    ("errors", "errors", _SHARE),
    ("hangs", "hangs", _SHARE),
    ("p50", "p50", "s"),
    ("p95", "p95", "s"),
    ("first", "first token", "s"),
    ("refused", "429s", ""),
    ("calls", "calls", ""),
    ("dead", "calls of the dead", ""),
    ("used", "limit used", _SHARE),
    ("back", "back after", "s"),
    ("wasted", "wasted", _SHARE),
)


def report(data: Mapping[str, Any]) -> str:
    """All tables."""
    parts = [_about(data)]
    if data["faults"]:
        parts += ["### Verdicts", _verdicts(data), "### By fault", *_faults(data)]
    if data["scenarios"]:
        parts += ["### The scenarios of Failover Bench", _scenarios(data)]
    return "\n\n".join(parts)


def write_docs(data: Mapping[str, Any]) -> None:
    """Put the tables into the page, and charts and figures beside it."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "figures.json").write_text(json.dumps(data, indent=1) + "\n")
    for name, picture in charts.all_charts(data).items():
        (FOLDER / name).write_text(picture)
    PAGE.write_text(written_into(PAGE.read_text(), data))


def written_into(text: str, data: Mapping[str, Any] | None) -> str:
    """The page's text with the tables of ``data`` in the place of those that it has; with none before the first run."""
    head, _, rest = text.partition(_BEGIN)
    _, found, tail = rest.partition(_END)
    if not found:
        raise ValueError(f"{PAGE.name} has no place for the tables: {_BEGIN} ... {_END}")
    tables = f"{report(data)}\n\n" if data else ""
    return f"{head}{_BEGIN}\n\n{tables}{_END}{tail}"


def read_figures(path: Path = FOLDER / "figures.json") -> dict[str, Any] | None:
    """What the page was written from; None before the first run."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _about(data: Mapping[str, Any]) -> str:
    about = data["about"]
    busy = about["load"] > about["cores"] / 2
    other = f" Other work was on the machine (load {about['load']}): latencies and errors are its, too." if busy else ""
    repeats = "once" if about["repeats"] == 1 else f"{about['repeats']} times"
    lines = [
        f"{about['date']}, Python {about['python']}, {about['cores']} cores, {about['minutes']} minutes; each fault "
        f"{repeats}: medians, with the least and the most of the runs in brackets where they differ.{other}",
        "",
        "| system | versions |",
        "| --- | --- |",
    ]
    for name in _systems(data):
        system = data["systems"][name]
        versions = ", ".join(f"{package} {version}" for package, version in system["versions"].items())
        lines.append(f"| {system['label']} | {versions} |")
    for name, reason in data["missing"].items():
        lines += ["", f"Left out: {name}. {_sentence(' '.join(reason.split()))}"]
    return "\n".join(lines)


def _systems(data: Mapping[str, Any]) -> list[str]:
    return [name for name in data["systems"] if name not in data["missing"]]


def _verdicts(data: Mapping[str, Any]) -> str:
    systems = _systems(data)
    rows = [["fault", *(data["systems"][name]["label"] for name in systems)]]
    words: dict[str, list[str]] = {name: [] for name in systems}
    for fault, found in data["faults"].items():
        row = [fault]
        for name in systems:
            if name not in found:
                row.append("-")
                continue
            word, _ = verdict(found[name])
            words[name].append(word)
            row.append(f"{_bold(word)} {found[name]['answered'][0]:.0%}")
        rows.append(row)
    rows += [[word, *(str(words[name].count(word)) for name in systems)] for word in VERDICTS]
    return _table(rows)


def _bold(word: str) -> str:
    return f"**{word}**" if word == "fail" else word


def _faults(data: Mapping[str, Any]) -> list[str]:
    parts = []
    for fault, found in data["faults"].items():
        scene = BY_NAME[fault]
        parts += [f"#### {fault}", f"{_sentence(scene.title)} Right: {scene.right}.", _fault(data, found)]
    return parts


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _fault(data: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    systems = [name for name in _systems(data) if name in found]
    columns = [column for column in _COLUMNS if any(found[name][column[0]] is not None for name in systems)]
    rows = [["", "verdict", *(heading for _, heading, _ in columns)]]
    for name in systems:
        word, why = verdict(found[name])
        cells = [_cell(found[name][figure], unit) for figure, _, unit in columns]
        rows.append([data["systems"][name]["label"], f"{_bold(word)}: {why}" if why else word, *cells])
    return _table(rows)


def _cell(interval: Sequence[float] | None, unit: str) -> str:
    if interval is None:
        return "-"
    median, least, most = (_number(value, unit) for value in interval)
    return median if least == most else f"{median} ({least} … {most})"


def _number(value: float, unit: str) -> str:
    if unit == _SHARE:
        return f"{value * 100:.0f} %"
    return f"{value:.2f} {unit}".rstrip()


def _scenarios(data: Mapping[str, Any]) -> str:
    systems = _systems(data)
    rows = [["scenario", *(data["systems"][name]["label"] for name in systems)]]
    words: dict[str, list[str]] = {name: [] for name in systems}
    for scenario in SCENARIOS:
        found = data["scenarios"][scenario.id]
        row = [f"{scenario.id} {scenario.title}"]
        for name in systems:
            if name not in found:
                row.append("-")
                continue
            one = found[name]
            words[name].append(one["verdict"])
            primary, fallback = one["calls"]
            row.append(f"{_bold(one['verdict'])}, {primary} + {fallback} calls, {one['seconds']:.1f} s")
        rows.append(row)
    rows += [[word, *(str(words[name].count(word)) for name in systems)] for word in VERDICTS]
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(re.sub(r"\|", "/", cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in rows[0]) + " |")
    return "\n".join(lines)
