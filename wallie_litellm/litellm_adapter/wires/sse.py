"""Server-sent events: the JSON objects in a stream of bytes that may be split anywhere.

As https://html.spec.whatwg.org/multipage/server-sent-events.html has it: lines end with LF, CRLF or CR, the ``data``
lines of one event belong together, lines that begin with a colon are comments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class UnreadableEventError(ValueError):
    """The data of an event begins as a JSON object does, and is none."""


class SSEDecoder:
    """Puts events together from pieces of a stream."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a line
        self._data: list[bytes] = []  # of the event that is not complete yet

    def feed(self, piece: bytes | bytearray | str) -> Iterator[Any]:
        """The objects of the events that ``piece`` completes.

        Raises:
            UnreadableEventError: an event is no valid JSON.
        """
        text = self._rest + (piece.encode() if isinstance(piece, str) else bytes(piece))
        # A CR at the end may be the first half of a CRLF: it waits for what follows.
        end = len(text) - 1 if text.endswith(b"\r") else len(text)
        *lines, rest = _LINE_END.split(text[:end])
        self._rest = rest + text[end:]
        return self._events(lines)

    def flush(self) -> Iterator[Any]:
        """The object of an event that the end of the stream completes.

        Raises:
            UnreadableEventError: it is no valid JSON.
        """
        line, self._rest = self._rest.rstrip(b"\r"), b""
        return self._events([line, b""])

    def _events(self, lines: list[bytes]) -> Iterator[Any]:
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data).strip(), []
                event = _object_in(data)
                if event is not None:
                    yield event


def _object_in(data: bytes) -> Any:
    """The JSON object in an event's data; ``None`` for others, such as ``[DONE]``."""
    if not data.startswith(b"{"):
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise UnreadableEventError("an event of the stream is no valid JSON") from error
