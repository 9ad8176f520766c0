"""A report as one HTML file: tables, sentences, and charts as SVG inside it; nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from wallie_litellm.rehearse import terminal
from wallie_litellm.rehearse.expectations import Judgement
from wallie_litellm.rehearse.plan import PlannedFault
from wallie_litellm.rehearse.report import Report

WIDTH: Final = 900  # units of the view box
HEIGHT: Final = 160
FOOT: Final = 18  # for the times below a chart
_COLOURS: Final = ("#2563eb", "#d97706", "#dc2626", "#059669", "#7c3aed", "#0891b2", "#be185d", "#65a30d")
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}
table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #ddd}svg{width:100%;height:auto}.bad{color:#b91c1c;font-weight:600}.key i{display:inline-block;
width:.8em;height:.8em;margin:0 .3em 0 1em}.scroll{overflow-x:auto}
@media(prefers-color-scheme:dark){body{color:#eee;background:#111}th,td{border-color:#444}text{fill:#eee}}
"""


def page_of(report: Report, judgements: Sequence[Judgement]) -> str:
    """The whole file."""
    title, *faults = terminal.heading(report)
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(fault.strip())}</p>" for fault in faults),
        *_judged(judgements),
        _table(terminal.feature_rows(report)),
        *_charts(report),
        _table(terminal.provider_rows(report)),
        *(f"<p>{escape(line)}</p>" for line in terminal.sentences(report)),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n'


def _judged(judgements: Sequence[Judgement]) -> Iterator[str]:
    for one in judgements:
        mark = "met" if one.met else '<span class="bad">not met</span>'
        yield f"<p><code>{escape(one.expected)}</code>: {mark} ({escape(terminal.shown(one))})</p>"


def _table(rows: Iterator[tuple[str, ...]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{escape(cell.capitalize())}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body)
    return f'<div class="scroll"><table><tr>{cells}</tr>{lines}</table></div>'


def _charts(report: Report) -> Iterator[str]:
    series, faults = report.played["series"], report.plan.faults
    length = report.plan.length
    counts = {name: series[name] for name in ("answered", "fell_back", "failed")}
    yield _chart("Requests", counts, length, faults, stacked=True)
    waits = {"p95 of the wait, in seconds": series["waited_p95"]}
    yield _chart("Waiting", waits, length, faults, stacked=False)
    called = {name: values for name, values in series["use"].items() if report.played["providers"][name]["calls"]}
    use = {name: [100 * value for value in values] for name, values in called.items()}
    yield _chart("Use of each account's fullest limit, in per cent", use, length, faults, stacked=False)


def _chart(
    title: str, series: Mapping[str, Sequence[float]], length: float, faults: Sequence[PlannedFault], *, stacked: bool
) -> str:
    """Bars on top of each other, or lines; the faults are grey behind them."""
    sums = [sum(values) for values in zip(*series.values(), strict=True)] if stacked else []
    top = max([*sums, *(value for values in series.values() for value in values), 1e-9])
    marks = _bars(series, top) if stacked else _lines(series, top)
    key = "".join(
        f'<i style="background:{_COLOURS[number % len(_COLOURS)]}"></i>{escape(name.replace("_", " "))}'
        for number, name in enumerate(series)
    )
    inside = "".join(
        [*_bands(faults, length), *marks, *_times(length), f'<text x="2" y="12" font-size="11">{top:,.3g}</text>']
    )
    box = f'viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" aria-label="{escape(title)}"'
    return f'<h2>{escape(title)}</h2><svg {box}>{inside}</svg><p class="key">{key}</p>'


def _bands(faults: Sequence[PlannedFault], length: float) -> Iterator[str]:
    for fault in faults:
        left, right = (WIDTH * min(1.0, at / length) for at in (fault.at, fault.ends))
        tip = escape(terminal.fault_sentence(fault).strip())
        place = f'x="{left:.1f}" y="0" width="{right - left:.1f}" height="{HEIGHT}"'
        yield f'<rect {place} fill="#888" opacity=".2"><title>{tip}</title></rect>'


def _bars(series: Mapping[str, Sequence[float]], top: float) -> Iterator[str]:
    below = [0.0] * max(map(len, series.values()))
    wide = WIDTH / len(below)
    for number, values in enumerate(series.values()):
        for place, value in enumerate(values):
            if value:
                tall = HEIGHT * value / top
                y = HEIGHT - below[place] - tall
                below[place] += tall
                corner = f'x="{place * wide:.1f}" y="{y:.1f}" width="{wide * 0.85:.1f}" height="{tall:.1f}"'
                yield f'<rect {corner} fill="{_COLOURS[number]}"/>'


def _lines(series: Mapping[str, Sequence[float]], top: float) -> Iterator[str]:
    for number, values in enumerate(series.values()):
        wide = WIDTH / max(1, len(values))
        points = " ".join(
            f"{(place + 0.5) * wide:.1f},{HEIGHT * (1 - value / top):.1f}" for place, value in enumerate(values)
        )
        colour = _COLOURS[number % len(_COLOURS)]
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _times(length: float) -> Iterator[str]:
    for quarter in range(4):
        place = f'x="{WIDTH * quarter / 4 + 2:.0f}" y="{HEIGHT + FOOT - 4}"'
        yield f'<text {place} font-size="11">{escape(terminal.duration(length * quarter / 4))}</text>'
