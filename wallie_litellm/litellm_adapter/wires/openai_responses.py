"""OpenAI's Responses API: events from ``response.created`` to an end, and responses finished in the background."""

from __future__ import annotations

import base64
from typing import Any, Final

from wallie_litellm.core.demand import Demand
from wallie_litellm.litellm_adapter.wires.fields import items_of, length_of, value_of
from wallie_litellm.litellm_adapter.wires.reader import Seen, StreamReader

_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_BINARY: Final = ("audio", "image_generation_call", "partial_image")  # in the names of events whose delta is no text
_UNDER_WAY: Final = frozenset({"queued", "in_progress"})
ONE_CALL: Final = Demand(1, 0, 0, 0)  # what a response that goes on in the background has used


class ResponsesReader(StreamReader):
    """Reads events by their ``type``. Usage comes with the last."""

    def __init__(self, source: Any = None) -> None:
        super().__init__(source)
        self._background: tuple[str, float] | None = None  # a response that goes on without its reader

    @property
    def billed_response(self) -> tuple[str, float] | None:
        """The background response that has come to its end."""
        return self._background if self.finished else None

    def seen(self, prompt_tokens: int) -> Seen:
        """As the base's; a background response that is not finished is billed when it is."""
        if self._background is not None and not self.finished and self.failed is None:
            return Seen(ONE_CALL, None, False, None)
        return super().seen(prompt_tokens)

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
            if value_of(response, "background") is True:
                self._background = vendors_id(response), created_at(response)
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


def is_finished_in_background(answer: Any) -> bool:
    """Whether a response was worked on in the background, and no longer is."""
    return value_of(answer, "background") is True and not is_under_way(answer)


def vendors_id(answer: Any) -> str:
    """The vendor's own id of a response; LiteLLM wraps it, with the deployment's, into one of its making."""
    given = str(value_of(answer, "id") or "")
    try:
        text = base64.b64decode(given.removeprefix("resp_"), validate=True).decode()
    except ValueError:
        return given
    return text.rpartition("response_id:")[2] if text.startswith("litellm:") else given


def created_at(answer: Any) -> float:
    """When a response was begun, in Unix seconds by the vendor's clock."""
    at = value_of(answer, "created_at")
    return float(at) if isinstance(at, int | float) else 0.0


def _characters_of(item: Any) -> int:
    parts = (*items_of(item, "content"), *items_of(item, "summary"))
    own = (value_of(item, name) for name in ("arguments", "input", "code"))
    return sum(length_of(value_of(part, "text")) for part in parts) + sum(map(length_of, own))
