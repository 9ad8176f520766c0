"""Answers that are no text of a model's: embeddings, images, speech, transcriptions, reranking, moderation."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from wallie_litellm.litellm_adapter.wires.fields import value_of
from wallie_litellm.litellm_adapter.wires.reader import StreamReader
from wallie_litellm.litellm_adapter.wires.unknown import UnknownReader

_IMAGE_ENDS: Final = frozenset({"image_generation.completed", "image_edit.completed"})


class EmbeddingsReader(UnknownReader):
    """Usage and vectors, in one piece."""


class ImagesReader(StreamReader):
    """Images, in one piece or as events with partial ones; usage where the model counts tokens."""

    has_end_mark: ClassVar[bool] = False  # servers other than OpenAI's have events of their own

    def read(self, event: Any) -> None:
        """An event: a partial image, or the whole one with usage."""
        kind = value_of(event, "type")
        if kind in _IMAGE_ENDS:
            self.finished = True
        elif kind == "error" or value_of(event, "error"):
            self.fail(value_of(event, "error") or event)
            return
        self.has_content = True
        self.report.note(value_of(event, "usage"))


class SpeechReader(UnknownReader):
    """Audio as bytes; LiteLLM prices it by the characters that were sent."""


class TranscriptionReader(StreamReader):
    """Text in one piece, or as ``transcript.text`` events; usage in tokens or seconds."""

    has_end_mark: ClassVar[bool] = False

    def read(self, event: Any) -> None:
        """An event: text, or the end with usage."""
        self.add_text(value_of(event, "delta"))
        if value_of(event, "error"):
            self.fail(value_of(event, "error"))
        self.report.note(value_of(event, "usage"))


class RerankReader(UnknownReader):
    """Scores in one piece; Cohere's form has the usage in ``meta``."""

    @staticmethod
    def usage_in(answer: Any) -> Any:
        """The tokens in ``meta``, where the model counts them."""
        return value_of(answer, "usage") or value_of(value_of(answer, "meta"), "tokens")


class ModerationReader(UnknownReader):
    """Categories in one piece, without usage."""
