"""OpenAI's Responses API: events from ``response.created`` to an end, and responses finished in the background."""

from __future__ import annotations

from typing import Any, Final

from wallie_litellm.litellm_adapter.wires.fields import items_of, length_of, value_of
from wallie_litellm.litellm_adapter.wires.reader import StreamReader

_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_BINARY: Final = ("audio", "image_generation_call", "partial_image")  # in the names of events whose delta is no text
_UNDER_WAY: Final = frozenset({"queued", "in_progress"})


class ResponsesReader(StreamReader):
    """Reads events by their ``type``. Usage comes with the last."""

    def read(self, event: Any) -> None:
        """An event: text, the end mark with usage, or an error."""
        kind = value_of(event, "type")
        kind = str(getattr(kind, "value", kind))
        if kind.endswith(".delta"):
            self._read_delta(kind, value_of(event, "delta"))
        elif kind in _ENDS:
            self.finished = True
        elif kind == "error":
            self.fail(value_of(event, "error") or event)
        elif kind == "response.failed":
            self.fail(value_of(value_of(event, "response"), "error"))
        elif kind == "None" and value_of(event, "error"):
            self.fail(value_of(event, "error"))
        elif kind.endswith("partial_image"):
            self.has_content = True
        response = value_of(event, "response")
        if response is not None:
            self.report.note(value_of(response, "usage"))
            self.note_tier(response)

    def _read_delta(self, kind: str, delta: Any) -> None:
        if any(word in kind for word in _BINARY) and "transcript" not in kind:
            self.has_content = self.has_content or bool(delta)
        else:
            self.add_text(delta)

    @staticmethod
    def characters_in(answer: Any) -> int:
        """The text, the reasoning and the arguments of calls, of all items."""
        return sum(map(_characters_of, items_of(answer, "output")))


def is_under_way(answer: Any) -> bool:
    """Whether a response is still worked on in the background."""
    return value_of(answer, "status") in _UNDER_WAY


def _characters_of(item: Any) -> int:
    parts = (*items_of(item, "content"), *items_of(item, "summary"))
    own = (value_of(item, name) for name in ("arguments", "input", "code"))
    return sum(length_of(value_of(part, "text")) for part in parts) + sum(map(length_of, own))
