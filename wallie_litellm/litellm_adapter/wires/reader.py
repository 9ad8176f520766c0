"""What is read of every stream, whatever its wire."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import ceil
from typing import Any, ClassVar, NamedTuple

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.token_estimate import CHARACTERS_PER_TOKEN
from wallie_litellm.litellm_adapter.wires.fields import value_of
from wallie_litellm.litellm_adapter.wires.sse import SSEDecoder, UnreadableEventError
from wallie_litellm.litellm_adapter.wires.statuses import status_in
from wallie_litellm.litellm_adapter.wires.usage import UsageSoFar

logger = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What a stream used, as far as it has come.

    ``reported`` is the usage as the provider wrote it down, for its price; ``estimated``: part of ``usage`` is counted
    from the text. ``service_tier`` is the one that served.
    """

    usage: Demand
    reported: Any
    estimated: bool
    service_tier: str | None


class StreamReader:
    """Reads the stream of one wire, chunk by chunk. ``source`` is LiteLLM's stream.

    Subclasses read events of their wire in :meth:`read`; raw bytes are decoded for them.
    """

    has_end_mark: ClassVar[bool] = True

    def __init__(self, source: Any = None) -> None:
        self.source = source
        self.begun = False  # a chunk has come
        self.finished = False  # the wire's end mark has come
        self.has_content = False  # any part of an answer has come
        self.failed: int | None = None  # the HTTP status of an error inside the stream
        self.error: Any = None  # that error: an object, or its name
        self.unreadable = False  # an event could not be read
        self.characters = 0
        self.service_tier: str | None = None
        self.report = UsageSoFar()
        self._sse: SSEDecoder | None = None

    @property
    def billed_response(self) -> tuple[str, float] | None:
        """The background response that the stream has shown to its end, so that no poll is to bill it.

        The vendor's id, and when it was begun, in Unix seconds.
        """
        return None

    # The stream

    def see(self, chunk: Any) -> None:
        """Read one chunk: an object of the wire, or a piece of its bytes. Never raises."""
        self.begun = True
        if isinstance(chunk, bytes | bytearray | str):
            try:
                self.decode(chunk)
            except Exception:  # noqa: BLE001 - of any kind; it is logged
                self._note_unknown()
        else:
            self.take(chunk)

    def take(self, event: Any) -> None:
        """:meth:`read` one object of the wire; what follows one of an unknown shape is read all the same."""
        try:
            self.read(event)
        except Exception:  # noqa: BLE001 - likewise
            self._note_unknown()

    def _note_unknown(self) -> None:
        self.has_content = True
        logger.debug("A chunk of a stream has an unknown shape", exc_info=True)

    def decode(self, piece: bytes | bytearray | str) -> None:
        """Read a piece of the raw stream: server-sent events, unless the wire has others."""
        if self._sse is None:
            self._sse = SSEDecoder()
        try:
            for event in self._sse.feed(piece):
                self.take(event)
        except UnreadableEventError:
            self.unreadable = True

    def end(self) -> None:
        """The stream is exhausted: read what only its end completes."""
        if self._sse is None:
            return
        try:
            for event in self._sse.flush():
                self.take(event)
        except UnreadableEventError:
            pass  # a line that the connection's end has cut: the end mark is missing too

    def read(self, event: Any) -> None:
        """Read one object of the wire."""
        raise NotImplementedError

    def was_ended(self) -> bool:
        """Whether the provider ended the exhausted stream, rather than the connection just closing."""
        return self.finished or not self.has_end_mark

    def forgives_missing_end(self) -> bool:
        """Whether the stream is whole though LiteLLM misses its end mark."""
        return False

    # What subclasses note

    def add_text(self, text: Any) -> None:
        """Part of an answer has come, as text."""
        if isinstance(text, str) and text:
            self.characters += len(text)
            self.has_content = True

    def fail(self, error: Any) -> None:
        """An error has come inside the stream: an object, or its name."""
        if self.failed is None:
            self.failed, self.error = status_in(error), error

    def note_tier(self, holder: Any) -> None:
        """Keep the service tier that ``holder`` names."""
        tier = value_of(holder, "service_tier")
        if isinstance(tier, str):
            self.service_tier = tier

    # What it used

    def seen(self, prompt_tokens: int) -> Seen:
        """What the stream used; ``prompt_tokens`` is the estimate for a provider that reports none."""
        report = self.report
        if report.tokens is not None and self._is_complete(report.tokens):
            return Seen(report.tokens, report.raw, self.counted_by_litellm(), self.service_tier)
        tokens_out = ceil(self.characters / CHARACTERS_PER_TOKEN)
        if report.tokens is None:
            counted = Demand(1, prompt_tokens + tokens_out, prompt_tokens, tokens_out)
            return Seen(counted, None, True, self.service_tier)
        tokens_in = report.tokens.input
        raw = {**report.raw, "output_tokens": tokens_out} if isinstance(report.raw, Mapping) else None
        return Seen(Demand(1, tokens_in + tokens_out, tokens_in, tokens_out), raw, True, self.service_tier)

    def _is_complete(self, tokens: Any) -> bool:
        """Whether a report counts the output too; there may be none."""
        return bool(tokens.output) or (self.finished and not self.characters)

    def counted_by_litellm(self) -> bool:
        """Whether the usage is LiteLLM's own count, as the provider reported none."""
        return False

    # Answers in one piece

    @staticmethod
    def usage_in(answer: Any) -> Any:
        """The usage that an answer in one piece reports, in a shape that :func:`tokens_of` reads."""
        return value_of(answer, "usage")

    @staticmethod
    def characters_in(answer: Any) -> int:
        """The characters of text in an answer in one piece."""
        return 0

    @staticmethod
    def failure_in(answer: Any) -> int | None:
        """The HTTP status of an error that came as an answer in one piece."""
        error = value_of(answer, "error")
        return status_in(error) if error else None
