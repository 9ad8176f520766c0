"""The alerts among the events, as facts in words: what Slack and webhooks are sent.

Texts are Markdown of names in backquotes, with ``&``, ``<`` and ``>`` as entities, as Slack's mrkdwn has them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from wallie_litellm.core.exhaustion_text import exhaustion_text
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.events import (
    ArmStopped,
    BreakerChanged,
    BudgetCrossed,
    ErrorRateCrossed,
    Event,
    ExhaustionForeseen,
    LimitOverstated,
    QueueCrossed,
    QuotaCrossed,
    Unpriced,
)
from wallie_litellm.telemetry.playbook import section_of

_LONGEST_NAME: Final = 120  # characters of a name or a reason


# Every type of a fact, and what it is about.
FACT_TYPES: Final[Mapping[str, str]] = {
    "quota.warning": "a limit is used to its warning share",
    "quota.critical": "a limit is used to its critical share",
    "quota.forecast": "a limit per day will be used up before it resets",
    "quota.limit_overstated": "the file promises more of a limit than the account has",
    "budget.warning": "a budget is spent to its warning share",
    "budget.critical": "a budget is spent to its critical share",
    "budget.exhausted": "a budget is used up",
    "budget.forecast": "a budget will be used up",
    "breaker.opened": "a provider, or a model at it, is not called any more",
    "breaker.opened_by_operator": "the same, by an operator's doing",
    "breaker.closed": "it is called again",
    "error_rate.high": "too large a share of requests or attempts fails",
    "error_rate.resolved": "that is over",
    "queue.standing": "a queue does not empty",
    "queue.resolved": "it is short again",
    "model.unpriced": "a model without a price is called",
    "experiment.arm_stopped": "the guardrail of an experiment has stopped an arm",
}


class Fact(NamedTuple):
    """An alert in words; a digest counts facts of the same ``key`` together. ``at`` is Unix seconds.

    ``type`` is one of :data:`FACT_TYPES`, ``severity`` is ``critical``, ``warning`` or ``info``, for what is
    over. ``section`` is the playbook's, where it has one.
    """

    type: str
    severity: str
    key: tuple[str, ...]
    title: str
    at: float
    text: str
    event: Event
    section: str | None = None


def plain(text: str) -> str:
    """A fact's text without Markdown."""
    return html.unescape(text.replace("`", ""))


class FactSelector:
    """Makes facts of the events that are alerts; keeps which providers have been reported as not called."""

    def __init__(self) -> None:
        # (provider, model or None) → since when (Unix seconds) the breaker is open
        self._cut_off: dict[tuple[str, str | None], float] = {}
        self._makers: Mapping[type, Callable[[Any], Fact | None]] = {
            QuotaCrossed: _quota,
            ExhaustionForeseen: _foreseen,
            LimitOverstated: _overstated,
            Unpriced: _unpriced,
            BudgetCrossed: _budget,
            ArmStopped: _arm_stopped,
            ErrorRateCrossed: _error_rate,
            QueueCrossed: _queue,
            BreakerChanged: self._breaker,
        }

    def of(self, event: Event) -> Fact | None:
        """The fact of ``event``; ``None`` for one that is no alert."""
        make = self._makers.get(type(event))
        return make(event) if make is not None else None

    def _breaker(self, event: BreakerChanged) -> Fact | None:
        if event.after == event.before:
            return None
        key = event.provider, event.model
        if event.after == "forced_open":
            self._cut_off.setdefault(key, event.at)
            return _forced(event)
        if event.after == "open":
            if key in self._cut_off:  # a failed probe opened it again: the same outage, reported before
                return None
            self._cut_off[key] = event.at
            return _opened(event)
        if event.after == "half_open":
            return None
        since = self._cut_off.pop(key, None)
        return _closed(event, since) if event.after == "closed" and event.before != "disabled" else None


def _opened(event: BreakerChanged) -> Fact:
    reason = f" after: {_escaped(event.reason)}" if event.reason else ""
    return Fact(
        "breaker.opened",
        "critical",
        ("opened", event.provider, event.model or ""),
        "Breaker opened",
        event.at,
        f"{_cut_off(event)} is not called any more{reason}. Next probe {_in(event.at, event.reopens_in)}.",
        event,
        section_of("provider_down"),
    )


def _forced(event: BreakerChanged) -> Fact:
    return Fact(
        "breaker.opened_by_operator",
        "warning",
        ("forced", event.provider, event.model or ""),
        "Breaker opened by the operator",
        event.at,
        f"{_cut_off(event)} is not called any more until the operator closes its breaker.",
        event,
    )


def _closed(event: BreakerChanged, since: float | None) -> Fact:
    after = "" if since is None else f" after {_duration(event.at - since)}"
    return Fact(
        "breaker.closed",
        "info",
        ("closed", event.provider, event.model or ""),
        "Breaker closed",
        event.at,
        f"{_cut_off(event)} is called again{after}.",
        event,
    )


def _cut_off(event: BreakerChanged) -> str:
    """What the breaker is that of."""
    return f"{_code(event.model)} at {_code(event.provider)}" if event.model else _code(event.provider)


def _quota(event: QuotaCrossed) -> Fact:
    return Fact(
        f"quota.{event.level}",
        event.level,
        ("quota", event.provider, event.model or "", event.dimension),
        f"Quota {event.level}",
        event.at,
        f"{_of_model(event.model)}{_code(event.provider)} is at {_percent(event.utilization)} of its "
        f"{_code(event.dimension)} limit ({event.used:,.0f} of {event.limit:,}). "
        f"All of it is free again {_in(event.at, event.reset_in)}.",
        event,
        section_of("quota", event.dimension, event.utilization),
    )


def _foreseen(event: ExhaustionForeseen) -> Fact:
    times = event.exhausts_at, event.earliest, event.latest
    ends = exhaustion_text(*times, event.reset_at, event.timezone, event.at)
    what = f"{_of_model(event.model)}{_code(event.provider)} {_code(event.dimension)}"
    amounts = f"{event.expected:,.0f} are expected in the day, of {event.limit:,.0f}"
    if is_money := event.dimension.endswith("_usd"):
        amounts = f"${event.expected:,.2f} are expected, of ${event.limit:,.2f}"
        if not event.provider:
            is_month = event.dimension == "cost_usd"
            what = "The month's budget" if is_month else f"{_code(event.dimension)} of all requests"
    return Fact(
        "budget.forecast" if is_money else "quota.forecast",
        "warning",
        ("forecast", event.provider, event.model or "", event.dimension),
        "Budget will run out" if is_money else "Limit will run out",
        event.at,
        f"{what} {ends}. {amounts}.",
        event,
        section_of("budget" if is_money else "forecast"),
    )


def _of_model(model: str | None) -> str:
    return f"{_code(model)} at " if model else ""


def _overstated(event: LimitOverstated) -> Fact:
    return Fact(
        "quota.limit_overstated",
        "warning",
        ("overstated", event.provider, event.model, event.dimension),
        "Limit larger than the account's",
        event.at,
        f"The file gives {_code(event.model)} at {_code(event.provider)} {event.configured:,} "
        f"{_code(event.dimension)}, and the account has {event.learned:,}. "
        "`wallie-litellm limits --write` prints what it has.",
        event,
    )


def _unpriced(event: Unpriced) -> Fact:
    return Fact(
        "model.unpriced",
        "warning",
        ("unpriced", event.provider),
        "Model without a price",
        event.at,
        f"{_code(event.model)} at {_code(event.provider)} calls {_code(event.deployment)}, whose price is unknown: "
        "what it costs is missing from every total. Set the prices in its `model_info`.",
        event,
        section_of("unpriced"),
    )


def _budget(event: BudgetCrossed) -> Fact:
    whose = "".join(f" of {_code(name)}" for name in (event.user_id, event.feature, event.proxy_key) if name)
    then = _ONCE_EXHAUSTED.get(event.on_exhausted or "", "") if event.level == "exhausted" else ""
    return Fact(
        f"budget.{event.level}",
        "warning" if event.level == "warning" else "critical",
        ("budget", event.level, event.feature or "", event.user_id or "", event.proxy_key or "", event.window),
        f"Budget {_escaped(event.level)}",
        event.at,
        f"{_code(event.month)}{whose} has cost ${event.spent_usd:,.2f} of ${event.budget_usd:,.2f} "
        f"({_percent(event.utilization)}).{then}",
        event,
        section_of("budget"),
    )


_ONCE_EXHAUSTED: Final = {
    "cheapest": " Its requests now go to the cheapest member of their chain.",
    "refuse": " Its requests are now refused.",
}


def _arm_stopped(event: ArmStopped) -> Fact:
    return Fact(
        "experiment.arm_stopped",
        "warning",
        ("arm_stopped", event.experiment, event.arm),
        "Arm of an experiment stopped",
        event.at,
        f"{_code(event.arm)} has not answered {_percent(event.error_rate)} of its last {event.requests:,} requests in "
        f"{_code(event.experiment)}, and may not answer {_percent(event.limit)}. Its requests go to the other arms.",
        event,
    )


def _error_rate(event: ErrorRateCrossed) -> Fact:
    whose = f"requests for {_code(event.model)}" if event.model else f"attempts at {_code(event.provider)}"
    share = f"{_percent(event.error_rate)} of the {whose} failed in the last {_duration(event.window)}"
    counts = f"({event.failed:,} of {event.requests:,})"
    text = f"{share} {counts}; the limit is {_percent(event.limit)}."
    if event.resolved:
        now = f"{share} {counts}" if event.requests else f"There were no {whose} in the last {_duration(event.window)}"
        text = f"It lasted {_duration(event.lasted)}. {now}."
    return Fact(
        f"error_rate.{'resolved' if event.resolved else 'high'}",
        "info" if event.resolved else "critical",
        ("error_rate", event.provider, event.model or "", str(event.resolved)),
        f"Error rate {'down again' if event.resolved else 'high'}",
        event.at,
        text,
        event,
        None if event.resolved else section_of("error_rate"),
    )


def _queue(event: QueueCrossed) -> Fact:
    text = (
        f"Never fewer than {event.waiting:,} requests have waited for {_code(event.provider)} in the last "
        f"{_duration(event.window)}; the limit is {event.limit:,}."
    )
    if event.resolved:
        text = f"It lasted {_duration(event.lasted)}. {event.waiting:,} requests wait for {_code(event.provider)} now."
    return Fact(
        f"queue.{'resolved' if event.resolved else 'standing'}",
        "info" if event.resolved else "warning",
        ("queue", event.provider, str(event.resolved)),
        f"Queue {'short again' if event.resolved else 'does not empty'}",
        event.at,
        text,
        event,
        None if event.resolved else section_of("queue"),
    )


def _escaped(text: str) -> str:
    """``text`` on one line, without the characters that make mentions and links."""
    line = one_line(text[:_LONGEST_NAME], " ")
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(name: str) -> str:
    # Slack makes links of bare addresses, but not within backquotes.
    return f"`{_escaped(name.replace('`', chr(39)))}`"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _in(at: float, seconds: float) -> str:
    return f"in {_duration(seconds)} ({utc_text(at + seconds)})" if math.isfinite(seconds) else "at an unknown time"


def utc_text(at: float) -> str:
    """``at`` (Unix seconds) to the second, in UTC."""
    return datetime.fromtimestamp(round(at), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    parts = ((whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2]) or "0 s"
