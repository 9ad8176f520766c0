"""What the assistant asks models for: each request says for which feature and user, and the file decides the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import openai

from wallie_litellm import (
    AIRequestResult,
    AIRequestStream,
    WallieError,
    WallieRouter,
    execute_ai_request,
    stream_ai_request,
)

Message = Mapping[str, str]  # role and content

#: What a request can fail with: a refusal of the guard, or a provider's own error.
AI_ERRORS: Final = (WallieError, openai.OpenAIError)

BUSINESS: Final = (
    "You are Wallie, the assistant of a small bakery. It opens from 7 to 19 except on Sundays, takes orders until noon "
    "of the day before, and delivers within the town for 4 euros. Answer briefly and kindly; say what you do not know."
)
SUGGEST: Final = "Write the bakery's next message to this customer. Answer with the message alone."
TONES: Final = ("in one short sentence", "more formally")  # of the two alternatives
SUMMARISE: Final = "Summarise this conversation for the owner in one sentence."

LONGEST_ANSWER: Final = 400  # tokens


@dataclass(frozen=True)
class Suggestion:
    """A message that could be sent next, and those of two alternatives that could be had."""

    text: str
    alternatives: list[str]
    served: dict[str, Any]


class Assistant:
    """The product's requests to models, through one guarded router."""

    def __init__(self, router: WallieRouter) -> None:
        self._router = router

    def chat(self, history: Sequence[Message], user: str, conversation: int | None = None) -> AIRequestStream:
        """The answer to the last message of ``history``, streamed."""
        return stream_ai_request(
            self._router,
            messages=[{"role": "system", "content": BUSINESS}, *history],
            feature="wallie-chat",
            user_id=user,
            metadata={"conversationId": conversation} if conversation is not None else None,
            max_tokens=LONGEST_ANSWER,
        )

    async def suggest(self, history: Sequence[Message], user: str) -> Suggestion:
        """What to write next, and two other ways to say it, asked for at once.

        Raises:
            WallieError: the suggestion could not be had; without an alternative there is one less.
        """
        suggestion, *others = await asyncio.gather(
            self._ask(history, SUGGEST, "wallie-suggestion", user),
            *(self._ask(history, f"{SUGGEST} Write it {tone}.", "wallie-alternative", user) for tone in TONES),
            return_exceptions=True,
        )
        if isinstance(suggestion, BaseException):
            raise suggestion
        alternatives = [other.text for other in others if not isinstance(other, BaseException)]
        return Suggestion(suggestion.text, alternatives, served(suggestion))

    async def summarise(self, history: Sequence[Message], user: str) -> str:
        """One sentence about a conversation; it waits for as long as others are being served."""
        return (await self._ask(history, SUMMARISE, "wallie-summary", user)).text

    async def _ask(self, history: Sequence[Message], task: str, feature: str, user: str) -> AIRequestResult:
        talk = "\n".join(f"{message['role']}: {message['content']}" for message in history)
        messages = [{"role": "system", "content": f"{BUSINESS}\n\n{task}"}, {"role": "user", "content": talk}]
        return await execute_ai_request(
            self._router, messages=messages, feature=feature, user_id=user, max_tokens=LONGEST_ANSWER
        )


def served(result: AIRequestResult) -> dict[str, Any]:
    """How a request was served, as the page shows it."""
    return {
        "provider": result.provider,
        "model": result.model,
        "fallback": result.used_fallback,
        "attempts": len(result.attempts),
        "waited_ms": round(result.waited_ms),
        "latency_ms": round(result.latency_ms),
        "cost_usd": result.cost_usd,
        "cached_tokens": sum(attempt.cached_tokens or 0 for attempt in result.attempts),
        "request_id": result.request_id,
    }
