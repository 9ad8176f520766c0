"""A report as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.rehearse.expectations import METRICS, Judgement
from wallie_litellm.rehearse.plan import DEAD, PlannedFault
from wallie_litellm.rehearse.report import SCENARIO_IDS, Report

MOST_ALERTS: Final = 8  # lines
LATE: Final = 0.2  # seconds from which lateness, in real time, is said
MOST_ERRORS: Final = 4  # kinds
_FAULT_WORDS: Final = {
    "outage": "{0.provider} answers 503",
    "silent": "{0.provider} says nothing",
    "slow": "{0.provider} is {0.amount:g} times as slow",
    "tier": "{0.provider} has {0.amount:g} of the limits that the file states",
    "redis_away": "Redis is away",
}

Row = tuple[str, ...]


def lines_of(report: Report, judgements: Sequence[Judgement]) -> Iterator[str]:
    """The whole report."""
    yield from heading(report)
    yield ""
    yield from columns(feature_rows(report))
    yield ""
    yield from columns(provider_rows(report))
    yield ""
    yield from sentences(report)
    if judgements:
        yield ""
        yield from (f"{'ok' if one.met else 'NOT MET':8} {one.expected} (found {shown(one)})" for one in judgements)


def heading(report: Report) -> Iterator[str]:
    """What was played."""
    plan, time = report.plan, "real time" if report.plan.real_time else "simulated time"
    amount = f"{report.played['requests']:,} requests in {duration(plan.length)}"
    workers = f", {plan.workers} workers" if plan.workers > 1 else ""
    yield f"Rehearsal of {one_line(plan.config)}: {amount}{workers}, {time}, seed {plan.seed}"
    if plan.left_out:
        yield f"  without {plan.left_out:,} requests of the ledger: of models that the file has not, or no chats"
    yield from map(fault_sentence, plan.faults)


def fault_sentence(fault: PlannedFault) -> str:
    """A fault in words, with the scenario of failoverbench that it is."""
    words = _FAULT_WORDS[fault.kind].format(fault)
    like = f" (failoverbench {SCENARIO_IDS[fault.kind]})" if fault.kind in SCENARIO_IDS else ""
    return f"  {one_line(words)} from {duration(fault.at)} to {duration(fault.ends)}{like}"


def feature_rows(report: Report) -> Iterator[Row]:
    """The table of features, with all of them in its last row."""
    yield (
        "FEATURE",
        "REQUESTS",
        "ANSWERED",
        "FELL BACK",
        "FAILED",
        "WAITED p50/p95",
        "TOOK p50/p95",
        "COST",
        "NORMALLY",
    )
    features = report.played["features"]
    total = {"all": report.played["total"]} if len(features) > 1 else {}
    for name, own in {**features, **total}.items():
        usual = report.normal["total"] if name == "all" and total else report.normal["features"].get(name, {})
        yield (
            one_line(name),
            f"{own['requests']:,}",
            share(own["answered"], own["requests"]),
            share(own["fell_back"], own["requests"]),
            share(own["failed"], own["requests"]),
            f"{seconds(own['waited_p50'])} / {seconds(own['waited_p95'])}",
            f"{seconds(own['latency_p50'])} / {seconds(own['latency_p95'])}",
            dollars(own["cost_usd"]),
            dollars(usual.get("cost_usd", 0.0)),
        )


def provider_rows(report: Report) -> Iterator[Row]:
    """The table of the providers that were called."""
    yield (
        "PROVIDER",
        "CALLS",
        "ANSWERED",
        "WAITED",
        "TURNED DOWN",
        "429s",
        "LIMITS HELD",
        "MOST USED IN A MINUTE OR DAY",
    )
    for name, own in report.played["providers"].items():
        if own["calls"] or own["turned_down"]:
            counts = (own[key] for key in ("calls", "answered", "waited", "turned_down", "upstream_429"))
            held = "yes" if report.held(name) else "no"
            yield one_line(name), *(f"{count:,}" for count in counts), held, _limits(own["limits"])


def _limits(limits: Mapping[str, Any]) -> str:
    return ", ".join(f"{one_line(key)} {own['peak']:,.0f}/{own['limit']:,}" for key, own in limits.items()) or "none"


def sentences(report: Report) -> Iterator[str]:
    """What the tables mean."""
    for fault, seen in zip(report.plan.faults, report.played["faults"], strict=True):
        said = _without_redis(seen) if fault.kind == "redis_away" else _noticed(fault, seen)
        yield f"{one_line(fault.provider)}: {said}"
    if report.plan.workers > 1:
        yield f"Fleet: {_over(report)}"
    for short in report.shortfalls:
        yield f"Limits: {one_line(short.sentence)}"
    if not report.shortfalls:
        yield "Limits: those of every provider carried the load"
    errors = report.played["total"]["errors"]
    for reason, count in list(errors.items())[:MOST_ERRORS]:
        yield f"Failed: {count:,} with {one_line(reason)}"
    if report.played["unanswered"]:
        yield f"Failed: {report.played['unanswered']:,} were not answered by the end"
    if report.played["late"] >= LATE:
        yield f"Late: requests began up to {seconds(report.played['late'])} too late, as this machine was busy"
    yield f"Cost: {_cost(report)}"
    yield from _alerts(report.played["alerts"])


def _noticed(fault: PlannedFault, seen: Mapping[str, Any]) -> str:
    if seen["noticed_after"] is None:
        return "nothing went elsewhere"
    parts = [f"noticed after {seconds(seen['noticed_after'])}"]
    if seen["opened_after"] is not None:
        parts.append(f"breaker open after {seconds(seen['opened_after'])}")
    parts.append(f"{seen['failed_calls']:,} calls failed")
    if fault.kind in DEAD:
        back = seen["back_after"]
        parts.append("not back" if back is None else f"back {seconds(back)} after its end")
    return ", ".join(parts)


def _without_redis(seen: Mapping[str, Any]) -> str:
    noticed, back = seen["noticed_after"], seen["back_after"]
    if noticed is None:
        return "not all workers noticed that it was away"
    parts = [f"all workers on their own after {seconds(noticed)}"]
    parts.append("not back for all" if back is None else f"back for all {seconds(back)} after its end")
    return ", ".join(parts)


def _over(report: Report) -> str:
    found = [
        f"{key} of {one_line(name)} by {over:,} of {own['limits'][key]['limit']:,}"
        for name, own in report.played["providers"].items()
        for key, over in own.get("over", {}).items()
    ]
    return f"admitted over the limits of the whole: {', '.join(found)}" if found else "never over a limit of the whole"


def _cost(report: Report) -> str:
    cost, usual = report.played["total"]["cost_usd"], report.normal["total"]["cost_usd"]
    change = f" ({(cost - usual) / usual:+.0%})" if usual else ""
    return f"{dollars(cost)}, normally {dollars(usual)}{change}" if report.plan.faults else dollars(cost)


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"Alerts: {len(alerts) or 'none'}"
    for alert in alerts[:MOST_ALERTS]:
        yield f"  {duration(alert['at']):>9}  {alert['level']:8}  {one_line(alert['text'])}"
    if len(alerts) > MOST_ALERTS:
        yield f"  and {len(alerts) - MOST_ALERTS} more"


def shown(judgement: Judgement) -> str:
    """The figure of an expectation, in its unit."""
    if judgement.found is None:
        return "never"
    unit = METRICS[judgement.metric]
    if unit == "%":
        return f"{judgement.found:.2%}"
    return {"s": seconds, "$": dollars}.get(unit, lambda count: f"{count:,.0f}")(judgement.found)


def columns(rows: Iterator[Row]) -> Iterator[str]:
    """Rows in aligned columns."""
    found = list(rows)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    for row in found:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def share(part: int, whole: int) -> str:
    """A share in per cent, never rounded to all or nothing."""
    if not whole or part in (0, whole):
        return "100%" if part else "0"
    return f"{min(max(part / whole * 100, 0.01), 99.99):.2f}%"


def seconds(value: float) -> str:
    """``0``, ``0.42 s``, ``12.3 s``."""
    return "0" if value == 0 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def dollars(value: float) -> str:
    """``$12.30``, with more digits of small amounts."""
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def duration(value: float) -> str:
    """``1 h 20 min``, ``5 min``, ``30 s``."""
    whole = round(value)
    parts = [(whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
