"""Bedrock's own formats, as LiteLLM passes them through: JSON, and an event stream of binary messages.

The encoding is https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html: two lengths and a checksum,
headers, a payload, and another checksum. Checksums are left to the client that reads the stream.
"""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from wallie_litellm.litellm_adapter.wires.anthropic_messages import MessagesReader
from wallie_litellm.litellm_adapter.wires.fields import value_of

_PRELUDE: Final = 12  # bytes before the headers: the message's length, the headers', a checksum
_CHECKSUM: Final = 4  # bytes at the end
_STRING: Final = 7  # the type of a header's value; Bedrock has no others
_TEXTS: Final = ("generation", "outputText", "completion", "text")  # of models with formats of their own
_METRICS: Final = "amazon-bedrock-invocationMetrics"  # on the last event of a model's own format
# LiteLLM's functions that read events.
_READING: Final = frozenset({"iter_bytes", "aiter_bytes"})


class Message(NamedTuple):
    """One message: what it is, and its JSON. ``failed``: it is an exception, of which ``kind`` is the name."""

    kind: str
    body: Any
    failed: bool


def came_in_events(error: BaseException | None) -> bool:
    """Whether LiteLLM found ``error`` in Bedrock's events: then there was an answer."""
    while error is not None:
        frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        if any(frame.f_code.co_name in _READING and _is_bedrocks(frame.f_globals) for frame in frames):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_bedrocks(names: dict[str, Any]) -> bool:
    return str(names.get("__name__")).startswith("litellm.llms.bedrock")


class EventStreamDecoder:
    """Puts messages together from pieces of a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that ``piece`` completes.

        Raises:
            ValueError: the stream has another encoding, or a payload that is no JSON.
        """
        self._rest += piece
        while len(self._rest) >= _PRELUDE:
            total, headers = int.from_bytes(self._rest[:4]), int.from_bytes(self._rest[4:8])
            if total < _PRELUDE + headers + _CHECKSUM:
                raise ValueError("not an event stream")
            if len(self._rest) < total:
                return
            message, self._rest = self._rest[:total], self._rest[total:]
            payload = message[_PRELUDE + headers : -_CHECKSUM]
            yield _message(_headers_in(message[_PRELUDE : _PRELUDE + headers]), payload)


class BedrockReader(MessagesReader):
    """Reads ConverseStream's events, and a model's own in ``chunk`` events: Anthropic's, or plain text."""

    def __init__(self, source: Any = None) -> None:
        super().__init__(source)
        self._events = EventStreamDecoder()

    def decode(self, piece: bytes | bytearray | str) -> None:
        """Read a piece of the raw stream."""
        try:
            for message in self._events.feed(piece.encode() if isinstance(piece, str) else bytes(piece)):
                self._read_message(message)
        except ValueError:
            self.unreadable = True

    def _read_message(self, message: Message) -> None:
        if message.failed:
            self.fail(message.kind)
            return
        match message.kind:
            case "contentBlockStart":
                self.has_content = self.has_content or bool(value_of(message.body, "start"))
            case "contentBlockDelta":
                delta = value_of(message.body, "delta")
                self.add_text(value_of(delta, "text"))
                self.add_text(value_of(value_of(delta, "toolUse"), "input"))
                self.add_text(value_of(value_of(delta, "reasoningContent"), "text"))
            case "messageStop":
                self.finished = True
            case "metadata":
                self.report.note(_usage(value_of(message.body, "usage")))
            case "chunk":
                self._read_chunk(json.loads(base64.b64decode(value_of(message.body, "bytes") or "")))

    def _read_chunk(self, event: Any) -> None:
        self.read(event)
        for name in _TEXTS:
            self.add_text(value_of(event, name))
        metrics = value_of(event, _METRICS)
        if metrics is not None:
            self.finished = True
            if self.report.tokens is None:
                counts = {"input_tokens": "inputTokenCount", "output_tokens": "outputTokenCount"}
                self.report.note({ours: value_of(metrics, theirs) for ours, theirs in counts.items()})

    def was_ended(self) -> bool:
        """Whether the end mark came."""
        return self.finished

    @staticmethod
    def usage_in(answer: Any) -> Any:
        """The usage in the JSON of an HTTP response, of Converse or of a model's own format."""
        usage = value_of(_json_in(answer), "usage")
        return _usage(usage) if value_of(usage, "inputTokens") is not None else usage

    @staticmethod
    def characters_in(answer: Any) -> int:
        """The text of all blocks."""
        body = _json_in(answer)
        message = value_of(value_of(body, "output"), "message")
        return MessagesReader.characters_in(body if message is None else message)

    @staticmethod
    def failure_in(answer: Any) -> int | None:
        """The status of the HTTP response says it."""
        return None


def _json_in(answer: Any) -> Any:
    try:
        return answer.json()
    except Exception:  # noqa: BLE001 - no response, not read yet, or no JSON
        return None


def _usage(found: Any) -> dict[str, Any]:
    """ConverseStream's usage in Anthropic's form, in which the cache's tokens are apart, too."""
    names = {
        "input_tokens": "inputTokens",
        "output_tokens": "outputTokens",
        "cache_read_input_tokens": "cacheReadInputTokens",
        "cache_creation_input_tokens": "cacheWriteInputTokens",
    }
    return {ours: value_of(found, theirs) for ours, theirs in names.items()}


def _headers_in(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        if data[name_end] != _STRING:
            raise ValueError("a header of another type")
        start = name_end + 3
        end = start + int.from_bytes(data[name_end + 1 : start])
        headers[data[at + 1 : name_end].decode()] = data[start:end].decode()
        at = end
    return headers


def _message(headers: dict[str, str], payload: bytes) -> Message:
    failed = headers.get(":message-type") != "event"
    kind = headers.get(":exception-type") or headers.get(":error-code") or headers.get(":event-type", "")
    return Message(kind, json.loads(payload) if payload and not failed else {}, failed)
