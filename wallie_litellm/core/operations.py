"""What a request asks of a provider, and which of these operations are counted in tokens."""

from __future__ import annotations

from typing import Final

CHAT: Final = "chat"
EXECUTE: Final = "execute"  # a call of the application's own, made by ``execute_ai_request(execute=...)``
RESPONSES: Final = "responses"
GENERATE_CONTENT: Final = "generate_content"  # Gemini's own wire
BEDROCK: Final = "bedrock"  # a request in Bedrock's own format, passed through
PASS_THROUGH: Final = "pass_through"  # noqa: S105 - a request in a vendor's own format, of which no more is known

# They answer with text.
GENERATING: Final = frozenset({CHAT, "text_completion", RESPONSES, "messages", GENERATE_CONTENT, BEDROCK, EXECUTE})
# Those of which a second one, made beside the first, changes nothing but the bill.
DUPLICABLE: Final = frozenset({CHAT, "text_completion", RESPONSES, "messages"})
COUNTED: Final = GENERATING | {"embedding"}  # providers count their tokens; none are estimated for any other
