"""Slack's messages: one fact in full, or a digest of many."""

from __future__ import annotations

from typing import Final, NamedTuple

from wallie_litellm.telemetry.alert_facts import Fact, utc_text
from wallie_litellm.telemetry.playbook import COMMAND

_MOST_LINES: Final = 40  # of a digest: Slack cuts a text off at 40,000 characters


class Group(NamedTuple):
    """Facts of one key: their number, the time of the first (Unix seconds), and the last of them."""

    number: int
    first_at: float
    last: Fact


Groups = dict[tuple[str, ...], Group]


def fold(groups: Groups, later: Group) -> None:
    """Add ``later`` to the group of its key."""
    known = groups.get(later.last.key)
    if known is not None:
        later = Group(known.number + later.number, known.first_at, later.last)
    groups[later.last.key] = later


def count_of(groups: Groups) -> int:
    """How many facts there are in ``groups``."""
    return sum(group.number for group in groups.values())


def message_of(groups: Groups) -> str:
    """The text of a message: one fact in full, several as a digest of counts with the last fact of each kind."""
    if count_of(groups) == 1:
        (group,) = groups.values()
        return "\n".join([f"*{group.last.title}:* {group.last.text}", *_advice(groups)])
    first, last = min(group.first_at for group in groups.values()), max(group.last.at for group in groups.values())
    shown = list(groups.values())[:_MOST_LINES]
    rest = count_of(groups) - sum(group.number for group in shown)
    lines = [f"*{count_of(groups):,} alerts from {utc_text(first)} to {utc_text(last)}*", *map(_line, shown)]
    more = [f"• … and {rest:,} more"] if rest else []
    return "\n".join([*lines, *more, *_advice(groups)])


def _advice(groups: Groups) -> list[str]:
    """The sections of the playbook, each once."""
    named = dict.fromkeys(group.last.section for group in groups.values() if group.last.section)
    return [f"What to do: {', '.join(f'`{COMMAND} {section}`' for section in named)}"] if named else []


def _line(group: Group) -> str:
    times = f" ({group.number:,} times, the last)" if group.number > 1 else ""
    return f"• *{group.last.title}{times}:* {group.last.text}"
