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
        self._line: list[bytes] = []  # pieces of a line that is not complete yet: an image is one line of megabytes
        self._ends_with_cr = False  # it may be the first half of a CRLF: it waits for what follows
        self._data: list[bytes] = []  # of the event that is not complete yet

    def feed(self, piece: bytes | bytearray | str) -> Iterator[Any]:
        """The objects of the events that ``piece`` completes.

        Raises:
            UnreadableEventError: an event is no valid JSON.
        """
        text = piece.encode() if isinstance(piece, str) else bytes(piece)
        if self._ends_with_cr:
            text = b"\r" + text
        self._ends_with_cr = text.endswith(b"\r")
        beginning, *lines = _LINE_END.split(text[:-1] if self._ends_with_cr else text)
        self._line.append(beginning)
        if lines:
            lines.insert(0, b"".join(self._line))
            self._line = [lines.pop()]
        return self._events(lines)

    def flush(self) -> Iterator[Any]:
        """The object of an event that the end of the stream completes.

        Raises:
            UnreadableEventError: it is no valid JSON.
        """
        line, self._line, self._ends_with_cr = b"".join(self._line), [], False
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
