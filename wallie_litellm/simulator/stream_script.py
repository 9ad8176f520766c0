"""What a stream sends, as a fault changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from wallie_litellm.simulator.faults import Fault, FaultKind
from wallie_litellm.simulator.wire import Event, sse

BROKEN_JSON: Final = '{"id": "sim", "choices": [{"message": {"content": "Hel'
BEFORE_CUT: Final = 0.25  # seconds from the last chunk to the cut: some clients discard what they have not read by then

Step = bytes | float  # a payload, or a pause in seconds


@dataclass(frozen=True)
class StreamScript:
    """The steps of a stream, and its end: whether the answer is whole, and whether the connection is aborted."""

    steps: tuple[Step, ...]
    whole: bool = True
    aborted: bool = False


def script_of(events: Sequence[Event], fault: Fault | None, error: bytes) -> StreamScript:
    """The script of ``events`` under ``fault``; ``error`` is the vendor's error inside a 200."""
    payloads = [event.payload for event in events]
    if fault is None:
        return StreamScript(tuple(payloads))
    place = _place(events, fault.after_chunks)
    before, after = payloads[:place], payloads[place:]
    match fault.kind:
        case FaultKind.HANG:
            return StreamScript((*before, fault.seconds), whole=False, aborted=True)
        case FaultKind.SLOW if fault.after_headers or fault.after_chunks is not None:
            return StreamScript((*before, fault.seconds, *after))
        case FaultKind.CUT_STREAM:
            return StreamScript((*before, BEFORE_CUT), whole=False, aborted=True)
        case FaultKind.TRUNCATE_STREAM:
            return StreamScript(tuple(before), whole=False)
        case FaultKind.MALFORMED:
            return StreamScript((*before, sse(BROKEN_JSON), *after), whole=False)
        case FaultKind.ERROR_IN_200:
            return StreamScript((*before, error), whole=False)
        case FaultKind.OMIT_END if not events[-1].content:
            return StreamScript(tuple(payloads[:-1]))
    return StreamScript(tuple(payloads))


def paced(script: StreamScript, events: Sequence[Event], pause: float) -> StreamScript:
    """``script`` with a ``pause`` in seconds after the first piece of text of ``events`` that it sends."""
    first = next((event.payload for event in events if event.content), None)
    if not pause or first not in script.steps:
        return script
    place = script.steps.index(first) + 1
    return replace(script, steps=(*script.steps[:place], pause, *script.steps[place:]))


def _place(events: Sequence[Event], after_chunks: int | None) -> int:
    """How many events precede the fault: none at all, or up to ``after_chunks`` with content.

    Never past the last piece of text: a cut stream must not look complete.
    """
    if after_chunks is None:
        return 0
    content = sum(event.content for event in events)
    limit, sent = min(after_chunks, content), 0
    for place, event in enumerate(events):
        if sent == limit and (event.content or sent == content):
            return place
        sent += event.content
    return len(events)
