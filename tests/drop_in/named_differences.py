"""Where ``WallieRouter`` deliberately does other than plain LiteLLM, each with its reason and its line in the docs."""

from __future__ import annotations

from typing import Final, NamedTuple


class NamedDifference(NamedTuple):
    """``documented`` stands in docs/differences.md."""

    reason: str
    documented: str


NAMED_DIFFERENCES: Final = {
    "callers-error-ends": NamedDifference(
        "a 400 of the caller's would be a 400 elsewhere too, or an answer to another question",
        "A 400 of the caller's goes along the chain.",
    ),
    "own-chains-only": NamedDifference(
        "a prompt that is too long, or refused content, goes along the chain for that error only",
        "A content-policy or context-window error goes along the ordinary chain where it has none of its own.",
    ),
    "chain-exhausted": NamedDifference(
        "the error of a chain names every member and why; its status is 429 or 503, its class openai's",
        "When every member of a chain has failed",
    ),
    "chains-of-members": NamedDifference(
        "a chain has the members that it states: what a request may cost can be read in one line",
        "The chain of a member is followed too",
    ),
    "retries-are-ours": NamedDifference(
        "one budget of retries holds for the whole request: in LiteLLM retries and fallbacks multiply",
        "`retry_policy`, `model_group_retry_policy`",
    ),
    "breakers-for-cooldowns": NamedDifference(
        "the breaker stands in the place of cooldowns: it works for a single deployment, and probes",
        "`cooldown_time`",
    ),
    "counts-of-the-whole-request": NamedDifference(
        "retries are those of the whole request, fallbacks are the other groups asked: LiteLLM counts the last hop's",
        "`x-litellm-attempted-fallbacks`",
    ),
    "retries-of-the-client": NamedDifference(
        "OpenAI's client does not ask again by itself: such a retry would pass the limits by",
        "OpenAI's client",
    ),
}
