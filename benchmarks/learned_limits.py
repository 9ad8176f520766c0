"""A file that promises more than the account has, an account that is raised, and another program that uses it too.

Every side is a process with a provider process of its own, and all run at the same time. The provider tells its limits
in its headers, as OpenAI does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Report
from benchmarks.limits_side import Plan, RunningSide, SideReport, begin_together, running, sleep_until
from wallie_litellm.simulator import SimulatedProvider

_MODEL = "gpt-4o-mini"
_ACCOUNT, _RAISED, _FILE = 60, 240, 500  # requests a minute
_OTHERS = 30  # requests a minute that another program makes
_RATE = 6.0  # requests a second that each side offers
_NOTICE = 2.0  # seconds in which accounts are emptied
_STEP = 1.0  # seconds between two looks at the providers' counts
_WINDOW = 10.0  # seconds over which the raised rate is judged


@dataclass(frozen=True)
class _Side:
    """``rpm`` is what the file says; without ``learn`` the router is LiteLLM's own."""

    learn: str | None
    rpm: int
    shared: bool = False  # with another program
    emptied: bool = False  # by another program, before the load begins

    @property
    def at_first(self) -> int:
        """Requests that the account allows at once when the load begins."""
        return 0 if self.emptied else _ACCOUNT

    def section(self) -> Mapping[str, Any] | None:
        if self.learn is None:
            return None
        return {"providers": {"openai": {"rpm": self.rpm, "learn": self.learn}}}


_SIDES: Mapping[str, _Side] = {
    "enforce": _Side("enforce", _FILE),
    "enforce, emptied before": _Side("enforce", _FILE, emptied=True),
    "advise": _Side("advise", _FILE),
    "off": _Side("off", _FILE),
    "LiteLLM, num_retries=3": _Side(None, _FILE),
    "enforce, shared": _Side("enforce", _ACCOUNT, shared=True),
    "off, shared": _Side("off", _ACCOUNT, shared=True),
}


def run(quick: bool) -> Report:
    before, after = (60.0, 45.0) if quick else (180.0, 90.0)
    report = Report(
        f"The account has {_ACCOUNT} requests a minute, then {_RAISED}, after {before:.0f} s; the file says {_FILE}",
        ("learn", "429s of requests upstream", "last 429", "used", "raised limit used", "alerts"),
    )
    with ExitStack() as stack:
        providers, sides = {}, {}
        for name, side in _SIDES.items():
            provider = stack.enter_context(SimulatedProvider("openai", in_process=False, rpm=_ACCOUNT))
            plan = Plan(
                provider.api_base,
                {_MODEL: f"openai/{_MODEL}"},
                {_MODEL: _RATE},
                before + after,
                5.0,
                side.section(),
                warms_router=False,
            )
            providers[name], sides[name] = provider, stack.enter_context(running(plan))
        seen = _play(sides, providers, before, after)
        for name, side in sides.items():
            report.data[name] = _figures(_SIDES[name], side.report(), seen[name], before)
    _tabulate(report)
    return report


def _play(
    sides: Mapping[str, RunningSide], providers: Mapping[str, SimulatedProvider], before: float, after: float
) -> dict[str, list[tuple[float, int, int]]]:
    """Run the load; returns for each side when how many requests had come, and how many 429s had been answered."""
    seen: dict[str, list[tuple[float, int, int]]] = {name: [] for name in providers}
    start = begin_together(sides.values(), _NOTICE)
    for name, provider in providers.items():
        provider.reset()
        if _SIDES[name].emptied:
            provider.use_elsewhere(requests=60_000)
    sleep_until(start - _NOTICE / 4)
    for name, provider in providers.items():
        provider.use_elsewhere(requests=_OTHERS if _SIDES[name].shared else 0)
    raised = False
    while (now := time.monotonic() - start) < before + after:
        if now >= before and not raised:
            raised = True
            for name, provider in providers.items():
                if not _SIDES[name].shared:
                    provider.change_limits(rpm=_RAISED)
        for name, provider in providers.items():
            counts = provider.counts()
            seen[name].append((time.monotonic() - start, counts.received, counts.rejected_429))
        sleep_until(start + now + _STEP)
    return seen


def _figures(side: _Side, result: SideReport, seen: list[tuple[float, int, int]], raised_at: float) -> dict[str, Any]:
    last = raised_at if not side.shared else seen[-1][0]
    received, refused = next((one[1:] for one in reversed(seen) if one[0] <= last), (0, 0))
    per_second = (_ACCOUNT - (_OTHERS if side.shared else 0)) / 60
    changes = [late[0] for early, late in zip([(0.0, 0, 0), *seen], seen, strict=False) if late[2] > early[2]]
    ends = sorted(call.ended for call in result.calls if not call.error)
    needed = 0.95 * _WINDOW * _RAISED / 60
    return {
        "received": received,
        "refused": refused,
        "refused_in_all": seen[-1][2],
        "last_429": max((at for at in changes if at <= last + _STEP), default=None),
        "used": sum(end <= last for end in ends) / (side.at_first + per_second * last),
        "raised_used_after": next(
            (
                begin - raised_at
                for begin in ends
                if begin >= raised_at and sum(begin <= end < begin + _WINDOW for end in ends) >= needed
            ),
            None,
        )
        if not side.shared
        else None,
        "alerts": dict(Counter(str(alert["event"]) for alert in result.alerts)),
        "learned": _learned(result.status),
        "lag": result.lag,
    }


def _learned(status: Mapping[str, Any]) -> Any:
    """What the status has as the account's learned requests per minute, at the end."""
    return status.get("providers", {}).get("openai", {}).get("quota", {}).get("rpm", {}).get("learned")


def _tabulate(report: Report) -> None:
    for name, figures in report.data.items():
        last, raised = figures["last_429"], figures["raised_used_after"]
        refused, received = figures["refused"], figures["received"]
        report.rows.append(
            (
                name,
                f"{refused:,} of {received:,} ({refused / max(1, received):.1%})",
                "none" if last is None else f"at {last:.0f} s",
                f"{figures['used']:.1%}",
                "" if _SIDES[name].shared else "not" if raised is None else f"after {raised:.0f} s",
                ", ".join(f"{count} {alert}" for alert, count in figures["alerts"].items()) or "none",
            )
        )
    enforced, off = report.data["enforce"]["refused"], report.data["off"]["refused"]
    report.notes.append(
        f"Used: successes over {_ACCOUNT}, 0 where emptied, and the account's rate. Shared: the file has the account's "
        f"{_ACCOUNT}, of which another program takes {_OTHERS}. Goal: with enforce at most 3 429s and at least 95 % "
        "used, the raised limit within 60 s; with advise one alert; shared at most 2 % of the requests upstream. 429s, "
        "enforce / off: "
        f"{enforced / max(1, off):.3f}."
    )
