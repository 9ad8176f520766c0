"""Streams and answers of operations that no reader knows: they are passed through, and count as a request."""

from __future__ import annotations

from typing import Any, ClassVar

from wallie_litellm.litellm_adapter.wires.fields import value_of
from wallie_litellm.litellm_adapter.wires.reader import StreamReader


class UnknownReader(StreamReader):
    """Reads nothing but a ``usage`` of one of the known shapes. Such a stream has no end mark that it could miss."""

    has_end_mark: ClassVar[bool] = False

    def decode(self, piece: bytes | bytearray | str) -> None:
        """Bytes of an unknown wire are content."""
        self.has_content = self.has_content or bool(piece)

    def read(self, event: Any) -> None:
        """Any object is content."""
        self.has_content = True
        self.report.note(value_of(event, "usage"))

    @staticmethod
    def failure_in(answer: Any) -> int | None:
        """What an unknown answer means is unknown too."""
        return None
