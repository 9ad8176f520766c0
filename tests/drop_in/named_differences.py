"""Where ``WallieRouter`` deliberately does other than plain LiteLLM, each with its reason."""

from __future__ import annotations

from typing import Final

NAMED_DIFFERENCES: Final = {
    "callers-error-ends": "a 400 that the caller caused would be a 400 elsewhere too, or an answer to another question",
    "own-chains-only": "a prompt that is too long, or refused content, goes along the chain for that error only",
    "chain-exhausted": "the error of a chain names every member and why; its status is 429 or 503, its class openai's",
    "chains-of-members": "a chain has the members that it states: what a request may cost can be read in one line",
    "retries-are-ours": "one budget of retries holds for the whole request: in LiteLLM retries and fallbacks multiply",
    "retries-of-the-client": "OpenAI's client does not ask again by itself: such a retry would pass the limits by",
}
