"""The wires: how each of them says its text, its usage, its errors and its end.

A wire is found by the operation that was called, never by what its objects look like.

``chat``                chat completions
``text_completion``     text completions
``anthropic_messages``  Anthropic's ``/v1/messages``
``openai_responses``    OpenAI's Responses API, background responses included
``generate_content``    Gemini's ``generateContent``
``bedrock_events``      Bedrock's event stream, where LiteLLM passes it through
``media``               embeddings, images, speech, transcriptions, reranking, moderation
``unknown``             every other operation
``translated``          LiteLLM's chat stream inside the streams of other wires
``reader``              what they have in common
``usage``               tokens in a reported usage
``statuses``            the statuses of errors inside a 200
``sse``                 server-sent events from bytes
``fields``              mappings and objects read alike
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wallie_litellm.core.operations import BEDROCK, CHAT, EXECUTE, GENERATE_CONTENT, RESPONSES
from wallie_litellm.litellm_adapter.wires.anthropic_messages import MessagesReader
from wallie_litellm.litellm_adapter.wires.bedrock_events import BedrockReader
from wallie_litellm.litellm_adapter.wires.chat import ChatReader
from wallie_litellm.litellm_adapter.wires.generate_content import GenerateContentReader
from wallie_litellm.litellm_adapter.wires.media import (
    EmbeddingsReader,
    ImagesReader,
    ModerationReader,
    RerankReader,
    SpeechReader,
    TranscriptionReader,
)
from wallie_litellm.litellm_adapter.wires.openai_responses import ResponsesReader
from wallie_litellm.litellm_adapter.wires.reader import StreamReader
from wallie_litellm.litellm_adapter.wires.text_completion import TextCompletionReader
from wallie_litellm.litellm_adapter.wires.unknown import UnknownReader

_WIRES: Final[Mapping[str, type[StreamReader]]] = {
    CHAT: ChatReader,
    EXECUTE: ChatReader,
    "text_completion": TextCompletionReader,
    "messages": MessagesReader,
    RESPONSES: ResponsesReader,
    BEDROCK: BedrockReader,
    GENERATE_CONTENT: GenerateContentReader,
    "embedding": EmbeddingsReader,
    "aimage_generation": ImagesReader,
    "aimage_edit": ImagesReader,
    "image_generation": ImagesReader,
    "aspeech": SpeechReader,
    "atranscription": TranscriptionReader,
    "arerank": RerankReader,
    "amoderation": ModerationReader,
}


def wire_of(operation: str) -> type[StreamReader]:
    """The reader of an operation's answers; ``operation`` as in :attr:`wallie_litellm.events.Settled.operation`."""
    return _WIRES.get(operation, UnknownReader)
