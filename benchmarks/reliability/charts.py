"""SVG from the figures, the same for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from benchmarks.reliability.figures import ANSWERED, verdict

_FONT: Final = "font-family='system-ui, sans-serif' font-size='12'"
# Fill and mark of each verdict; the mark tells them apart without colour.
_LOOKS: Final = {
    "pass": ("#2f8f5b", "✓"),
    "partial": ("#d9a62e", "◐"),
    "safe": ("#8a94a3", "○"),
    "fail": ("#c0392b", "✗"),
}
_OURS: Final = "#2f6fb0"
_OTHERS: Final = "#b8c2cf"
_INK: Final = "#20262e"
_LINE: Final = 22  # pixels of one row
_NAMES: Final = 240  # pixels for the names on the left
_CELL: Final = 86  # pixels of a matrix' column
_BAR: Final = 420  # pixels of the longest bar
_HEAD: Final = 56  # pixels above the first row
_MARGIN: Final = 16  # pixels
_LEGEND: Final = 760  # pixels that the legend of the verdicts needs


@dataclass(frozen=True)
class _Panels:
    """A chart: one figure of several faults, a bar for each system."""

    title: str
    figure: str
    unit: str
    faults: Sequence[str]


_CHARTS: Final = {
    "latency.svg": _Panels(
        "Seconds until 95 % of the answers that came were there", "p95", "s", ("burst", "silence", "slow", "outage")
    ),
    "dead.svg": _Panels(
        "Calls of a dead provider for each request that came meanwhile",
        "dead",
        "",
        ("retry_after", "outage", "flapping", "silence"),
    ),
    "refused.svg": _Panels(
        "429s of the provider for each request", "refused", "", ("too_high", "shared", "burst", "day")
    ),
    "wasted.svg": _Panels(
        "Paid for answers that no caller got, as a share of those that callers got",
        "wasted",
        "%",
        ("cut", "truncated", "malformed", "give_up"),
    ),
}


@dataclass
class _Drawing:
    """Elements of a picture, from top to bottom."""

    width: int
    height: int
    elements: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, **more: str) -> None:
        style = "".join(f" {name.replace('_', '-')}='{value}'" for name, value in {"fill": _INK, **more}.items())
        self.elements.append(f"<text x='{x:g}' y='{y:g}'{style}>{escape(text)}</text>")

    def box(self, x: float, y: float, width: float, height: float, fill: str, title: str = "") -> None:
        inside = f"<title>{escape(title)}</title>" if title else ""
        size = f"width='{width:.1f}' height='{height:g}'"
        self.elements.append(f"<rect x='{x:g}' y='{y:g}' {size} rx='3' fill='{fill}'>{inside}</rect>")

    def line(self, x: float, y: float, to: float) -> None:
        self.elements.append(f"<path d='M{x:.1f} {y:g}H{to:.1f}' stroke='{_INK}' stroke-width='1.5'/>")

    def svg(self) -> str:
        size = f"width='{self.width}' height='{self.height}' viewBox='0 0 {self.width} {self.height}'"
        head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} {_FONT} role='img'>"
        return "\n".join([head, "<rect width='100%' height='100%' fill='#ffffff'/>", *self.elements, "</svg>", ""])


def all_charts(data: Mapping[str, Any]) -> dict[str, str]:
    """Every chart that the figures suffice for, by file name."""
    made = {}
    if data["faults"]:
        made["verdicts.svg"] = _verdicts(data)
    for name, panels in _CHARTS.items():
        faults = [fault for fault in panels.faults if fault in data["faults"]]
        if faults:
            made[name] = _bars(data, panels, faults)
    return made


def _verdicts(data: Mapping[str, Any]) -> str:
    systems = _systems(data)
    height = _HEAD + 60 + _LINE * len(data["faults"]) + 40
    drawing = _Drawing(max(_LEGEND, _MARGIN * 2 + 120 + _CELL * len(systems)), height)
    drawing.text(_MARGIN, 24, "What callers got, and how the providers fared", font_weight="bold")
    for column, name in enumerate(systems):
        for row, line in enumerate(_wrapped(data["systems"][name]["label"])):
            x = _MARGIN + 120 + column * _CELL + _CELL / 2
            drawing.text(x, 46 + row * 14, line, text_anchor="middle", font_size="11")
    for row, (fault, found) in enumerate(data["faults"].items()):
        y = _HEAD + 60 + row * _LINE - 14
        drawing.text(_MARGIN, y + 15, fault)
        for column, name in enumerate(systems):
            if name not in found:
                continue
            word, why = verdict(found[name])
            fill, mark = _LOOKS[word]
            x = _MARGIN + 120 + column * _CELL
            drawing.box(x, y, _CELL - 3, _LINE - 3, fill, f"{fault}, {name}: {word} {why}")
            share = f"{mark} {found[name]['answered'][0]:.0%}"
            drawing.text(x + _CELL / 2, y + 14, share, text_anchor="middle", fill="#ffffff", font_size="11")
    for place, (word, (fill, mark)) in enumerate(_LOOKS.items()):
        x = _MARGIN + place * 110
        drawing.box(x, height - 28, 18, 16, fill)
        drawing.text(x + 24, height - 15, f"{mark} {word}")
    drawing.text(_MARGIN + 450, height - 15, "and the share of requests that were answered")
    return drawing.svg()


def _bars(data: Mapping[str, Any], panels: _Panels, faults: Sequence[str]) -> str:
    systems = _systems(data)
    panel = 30 + _LINE * len(systems)
    drawing = _Drawing(_MARGIN * 2 + _NAMES + _BAR + 150, 44 + panel * len(faults))
    drawing.text(_MARGIN, 24, panels.title, font_weight="bold")
    for number, fault in enumerate(faults):
        top = 44 + number * panel
        drawing.text(_MARGIN, top + 14, fault, font_weight="bold", font_size="11")
        _panel(drawing, data, panels, fault, top + 22)
    return drawing.svg()


def _panel(drawing: _Drawing, data: Mapping[str, Any], panels: _Panels, fault: str, top: float) -> None:
    found = data["faults"][fault]
    most = max((found[name][panels.figure][2] for name in found if found[name][panels.figure]), default=0.0)
    scale = _BAR / most if most else 0.0
    for row, name in enumerate(_systems(data)):
        y, left = top + row * _LINE, _MARGIN + _NAMES
        drawing.text(left - 8, y + 14, data["systems"][name]["label"], text_anchor="end")
        interval = found.get(name, {}).get(panels.figure)
        if interval is None:
            drawing.text(left + 4, y + 14, "no answer", font_style="italic")
            continue
        median, low, high = interval
        drawing.box(left, y + 2, max(1.0, median * scale), _LINE - 6, _OURS if name.startswith("wallie") else _OTHERS)
        if high > low:
            drawing.line(left + low * scale, y + _LINE / 2 - 1, left + high * scale)
        share = found[name]["answered"][0]
        few = f", {share:.0%} answered" if panels.figure == "p95" and share < ANSWERED else ""
        drawing.text(left + high * scale + 6, y + 14, _value(median, panels.unit) + few)


def _value(number: float, unit: str) -> str:
    return f"{number:.0%}" if unit == "%" else f"{number:.2f} {unit}".rstrip()


def _systems(data: Mapping[str, Any]) -> list[str]:
    return [name for name in data["systems"] if name not in data["missing"]]


def _wrapped(label: str) -> list[str]:
    """A label in lines of a column's width."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) > 14 and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
