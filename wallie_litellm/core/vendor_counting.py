"""How each vendor's limits count a call, when it begins and when its usage is known: one row a vendor, with source.

Every call is one request of ``rpm`` and ``rpd``, be its input a list of texts or a batch of prompts: Groq's requests
per day and OpenAI's batches of inputs alike. Embeddings have input tokens only. Images, speech, transcriptions,
moderation and reranking count as requests, and in tokens by the text that is sent, until the vendor reports a usage;
limits of their own, as of images per minute or seconds of audio, have no dimension here.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from wallie_litellm.core.demand import Demand


class VendorRule(NamedTuple):
    """What a vendor's limits count, as its documentation says. The defaults are those of a vendor that is not listed.

    Patterns are those of models' names, without the vendor's prefix.
    """

    #: Limits do not count prompt tokens that were read from the vendor's cache, once the call has ended.
    excludes_cached: bool = False
    #: Models that count them all the same.
    cached_models: tuple[str, ...] = ()
    #: They count as long as the call is under way.
    reserves_cached: bool = False
    #: The cache holds only what a request marks for it; else it works by itself.
    marks_cache: bool = False
    #: ``tpm`` and ``tpd`` count output too.
    counts_output: bool = True
    #: A stated ``max_tokens`` counts until the call has ended; else only what is generated.
    reserves_max_tokens: bool = True
    #: Without ``max_tokens`` the most that the model can generate counts.
    reserves_most: bool = False
    #: What a token of output counts in ``tpm`` and ``tpd`` at the end, by model.
    output_weights: Mapping[str, int] = {}


# Anthropic: https://platform.claude.com/docs/en/api/rate-limits. ITPM counts input_tokens and
# cache_creation_input_tokens; cache_read_input_tokens on the models marked with a dagger alone. OTPM counts the tokens
# produced, as they are produced: "max_tokens does not factor into OTPM".
_ANTHROPIC: Final = VendorRule(
    excludes_cached=True,
    cached_models=("*claude-3-5-haiku*", "*claude-3-5-sonnet*", "*claude-3-haiku*", "*claude-3-opus*"),
    marks_cache=True,
    reserves_max_tokens=False,
)
# Bedrock: https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html. A call takes all of its
# input, cached or not, and max_tokens, else the model's most; it ends with the input that was not read from the cache
# and the output times the model's burndown rate.
_BEDROCK: Final = VendorRule(
    excludes_cached=True,
    reserves_cached=True,
    marks_cache=True,
    reserves_most=True,
    output_weights={"*claude-opus-4*": 5, "*claude-sonnet-4*": 5},
)

RULES: Final[Mapping[str, VendorRule]] = {
    "anthropic": _ANTHROPIC,
    # https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/quota: prompt and max_tokens while it is called.
    "azure": VendorRule(),
    "bedrock": _BEDROCK,
    "bedrock_converse": _BEDROCK,
    # https://inference-docs.cerebras.ai/support/rate-limits: the prompt and max_completion_tokens; of its two limits on
    # tokens, that on all of them.
    "cerebras": VendorRule(),
    # https://ai.google.dev/gemini-api/docs/rate-limits: "Tokens per minute (input) (TPM)".
    "gemini": VendorRule(counts_output=False),
    # https://console.groq.com/docs/rate-limits: "Cached tokens do not count towards your rate limits."
    "groq": VendorRule(excludes_cached=True),
    # https://platform.openai.com/docs/guides/rate-limits: the prompt, estimated by its characters, and max_tokens.
    "openai": VendorRule(),
}
_ANY: Final = VendorRule()


class ModelRule(NamedTuple):
    """A vendor's rule for one model, and what the configuration says of cached tokens."""

    excludes_cached: bool = False
    expects_cached: bool = False  # what will be read from the cache does not count at the beginning either
    marks_cache: bool = False
    counts_output: bool = True
    reserves_max_tokens: bool = True
    reserves_most: bool = False
    output_weight: int = 1

    def demand(self, prompt: int, output: int) -> Demand:
        """What a call of ``prompt`` and ``output`` tokens takes when it begins."""
        return Demand(1, prompt + output if self.counts_output else prompt, prompt, output)

    def counted(self, usage: Demand, cached: int) -> Demand:
        """What counts of a ``usage`` in which ``cached`` prompt tokens were read from the vendor's cache."""
        tokens, read = usage.tokens, min(cached, usage.input) if self.excludes_cached else 0
        if not self.counts_output:
            tokens = usage.input
        elif self.output_weight > 1:
            tokens += usage.output * (self.output_weight - 1)
        return Demand(usage.requests, tokens - read, usage.input - read, usage.output)


PLAIN: Final = ModelRule()  # of a vendor that counts everything, once


def rule_of(vendor: str, model: str, cached_tokens: str | None = None) -> ModelRule:
    """The rule for one model; ``cached_tokens`` is the configuration's ``include`` or ``exclude``, if it says so."""
    rule = RULES.get(vendor, _ANY)
    if cached_tokens is None:
        excludes = rule.excludes_cached and not _matches(model, rule.cached_models)
    else:
        excludes = cached_tokens == "exclude"
    made = ModelRule(
        excludes,
        excludes and not rule.reserves_cached,
        rule.marks_cache,
        rule.counts_output,
        rule.reserves_max_tokens,
        rule.reserves_most,
        next((weight for pattern, weight in rule.output_weights.items() if fnmatchcase(model, pattern)), 1),
    )
    return made if made != PLAIN else PLAIN


def _matches(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
