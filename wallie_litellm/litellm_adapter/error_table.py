"""Whose failure an answer with an error is, as vendors' documentation and public reports have it: the one table.

A row holds for its ``vendors`` (LiteLLM's names; any, where none is named: gateways pass other vendors' words on) and
``statuses``. Of ``codes`` one has to be in the answer; ``words`` is a regular expression that is searched in its text,
in lower case. The first row that fits decides; an answer that fits none is judged by its status alone
(:mod:`wallie_litellm.core.http_status`). An issue is a report in a public repository on GitHub.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from wallie_litellm.core.fault_domain import FaultDomain

_PROVIDER, _ACCOUNT, _MODEL = FaultDomain.PROVIDER, FaultDomain.ACCOUNT, FaultDomain.MODEL
_REQUEST = FaultDomain.REQUEST

LIMITED: Final = frozenset({429})


class ErrorRow(NamedTuple):
    """One kind of answer, and whose ``fault`` it is.

    ``is_limit``: a rate limit, which pauses the account where the fault is the account's, else the model.
    With a ``reset_timezone`` it is a limit of a day's: where the answer does not say for how long the pause lasts until
    the vendor's next midnight, and with ``at_least`` even where it does. ``is_empty``: the account has no money or
    quota left. ``is_missing``: the answer names the model as one that is not there, or not for this account, so that
    it fails every request.
    """

    fault: FaultDomain | None
    statuses: frozenset[int]
    source: str
    words: str = ""
    codes: frozenset[str] = frozenset()
    vendors: frozenset[str] = frozenset()
    is_limit: bool = False
    reset_timezone: str = ""
    at_least: bool = False
    is_empty: bool = False
    is_missing: bool = False

    def fits(self, vendor: str, status: int, codes: frozenset[str], text: str) -> bool:
        """Whether the row is about this answer."""
        return (
            status in self.statuses
            and (not self.vendors or vendor in self.vendors)
            and (not self.codes or not self.codes.isdisjoint(codes))
            and (not self.words or re.search(self.words, text) is not None)
        )


def find_row(vendor: str, status: int, codes: frozenset[str], text: str) -> ErrorRow | None:
    """The first row about an answer; ``text`` is its body, or what LiteLLM made of it, in lower case."""
    return next((row for row in ROWS if row.fits(vendor, status, codes, text)), None)


def _vendors(*names: str) -> frozenset[str]:
    return frozenset(names)


_AZURE, _BEDROCK, _MISTRAL = _vendors("azure", "azure_text"), _vendors("bedrock"), _vendors("mistral")
_ANTHROPIC = _vendors("anthropic")
_PACIFIC: Final = "America/Los_Angeles"  # where the Gemini API's days begin
_OPENAI_CODES: Final = "https://platform.openai.com/docs/guides/error-codes"
_OPENAI_LIMITS: Final = "https://platform.openai.com/docs/guides/rate-limits"
_ANTHROPIC_ERRORS: Final = "https://docs.claude.com/en/api/errors"
_GEMINI_ERRORS: Final = "https://ai.google.dev/gemini-api/docs/troubleshooting"
_GEMINI_LIMITS: Final = "https://ai.google.dev/gemini-api/docs/rate-limits"
_VERTEX_429: Final = "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429"
_AZURE_QUOTA: Final = "https://learn.microsoft.com/azure/foundry/openai/how-to/quota"
_GROQ_ERRORS: Final = "https://console.groq.com/docs/errors"
_OPENROUTER_ERRORS: Final = "https://openrouter.ai/docs/api/reference/errors-and-debugging"
_TOGETHER_ERRORS: Final = "https://docs.together.ai/docs/error-codes"
_FIREWORKS_ERRORS: Final = "https://docs.fireworks.ai/guides/inference-error-codes"
_COHERE_LIMITS: Final = "https://docs.cohere.com/docs/rate-limits"
_BEDROCK_ERRORS: Final = "https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html"

# Requests that one provider does not take, and another may.
_REQUESTS: Final = (
    ErrorRow(
        _REQUEST,
        LIMITED | {413},
        "continuedev/continue#10602, continuedev/continue#10218 (Groq, 413)",
        r"request too large for .*limit \d+, requested \d+",
    ),
    ErrorRow(
        _REQUEST,
        LIMITED,
        "anthropics/claude-code#29584, anthropics/claude-code#64982",
        "(extra usage is|usage credits are) required for long context",
    ),
    ErrorRow(
        _REQUEST, frozenset({402}), "astrio-labs/forall#76 (OpenRouter)", "requires more credits, or fewer max_tokens"
    ),
    ErrorRow(_REQUEST, frozenset({403}), _OPENROUTER_ERRORS, '"flagged_input"|input was flagged'),
)

# Accounts without money, and limits of spending.
_EMPTY: Final = (
    ErrorRow(
        _ACCOUNT,
        frozenset({400, 429}),
        f"{_ANTHROPIC_ERRORS}, anthropics/claude-code#2127",
        "reached your specified (api )?usage limits|enforced_spend_limit_reached",
        is_empty=True,
    ),
    ErrorRow(
        _ACCOUNT, frozenset({400, 402, 403}), "anthropics/claude-code#54839", "credit balance is too low", is_empty=True
    ),
    ErrorRow(
        _ACCOUNT, frozenset({402, 429}), _OPENAI_CODES, "insufficient_quota|credit_balance_exhausted", is_empty=True
    ),
    ErrorRow(_ACCOUNT, frozenset({400, 403, 429}), _OPENAI_CODES, "billing[_ ]hard[_ ]limit", is_empty=True),
    ErrorRow(
        _ACCOUNT,
        frozenset({402, 403, 429}),
        "https://api-docs.deepseek.com/quick_start/error_codes",
        "insufficient balance",
        is_empty=True,
    ),
    ErrorRow(
        _ACCOUNT,
        LIMITED | {403},
        "continuedev/continue#10373 (xAI)",
        "used all available credits|reached its monthly spending limit",
        is_empty=True,
    ),
    ErrorRow(
        _ACCOUNT,
        frozenset({412}),
        f"{_FIREWORKS_ERRORS}, theopenco/llmgateway#3838",
        "account .*suspended|monthly spending limit",
        is_empty=True,
    ),
    ErrorRow(_ACCOUNT, frozenset({403}), _OPENROUTER_ERRORS, "key limit exceeded", is_empty=True),
    ErrorRow(_ACCOUNT, frozenset({402}), f"{_OPENROUTER_ERRORS}, {_TOGETHER_ERRORS}", is_empty=True),
)

# Google's quotas: an answer names model and quota, and a delay that may be far too short (OmniRoute#9504).
_GOOGLE: Final = (
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_GEMINI_LIMITS}, diegosouzapw/OmniRoute#9504",
        r"limit: 0\b(?!\.)|\"quotavalue\": *\"0\"",
        is_limit=True,
        reset_timezone=_PACIFIC,
        at_least=True,
    ),
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_GEMINI_LIMITS}, google-gemini/gemini-cli#8437",
        "perday.*permodel|permodel.*perday",
        is_limit=True,
        reset_timezone=_PACIFIC,
    ),
    ErrorRow(_MODEL, LIMITED, f"{_GEMINI_LIMITS}, google-gemini/gemini-cli#8437", "permodel", is_limit=True),
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_VERTEX_429}, cocoindex-io/cocoindex#1151",
        "error-code-429|per_base_model|resource exhausted. please try again later",
        is_limit=True,
    ),
    ErrorRow(
        _MODEL,
        LIMITED,
        "ai-christianson/RA.Aid#182",
        "doesn't have a free quota tier",
        is_limit=True,
        reset_timezone=_PACIFIC,
        at_least=True,
    ),
    ErrorRow(_MODEL, LIMITED, "diegosouzapw/OmniRoute#9504", "please retry in|retrydelay", is_limit=True),
    # Without a quota and a delay, this is a project without money: OpenAI writes the same.
    ErrorRow(
        _ACCOUNT,
        LIMITED,
        f"{_OPENAI_CODES}, gke-labs/gemini-for-kubernetes-development#1215",
        "exceeded your current quota",
        is_empty=True,
    ),
    ErrorRow(
        _ACCOUNT,
        frozenset({400, 401, 403}),
        f"{_GEMINI_ERRORS}, continuedev/continue#11336",
        "api_key_invalid|api key (expired|not valid)",
    ),
    ErrorRow(
        _ACCOUNT,
        frozenset({400}),
        f"{_GEMINI_ERRORS}, google-gemini/gemini-cli#24641",
        "user location is not supported",
    ),
)

# The provider's own troubles under a status that says otherwise.
_PROVIDERS: Final = (
    ErrorRow(_PROVIDER, LIMITED, _OPENAI_CODES, "overloaded with other requests|engine is currently overloaded"),
    ErrorRow(_PROVIDER, LIMITED, f"{_AZURE_QUOTA}, pollinations/pollinations#6260", "experiencing high demand"),
    ErrorRow(_PROVIDER, LIMITED, _BEDROCK_ERRORS, "model is not ready for inference", vendors=_BEDROCK),
    ErrorRow(_PROVIDER, frozenset({498}), f"{_GROQ_ERRORS}, https://console.groq.com/docs/flex-processing"),
    ErrorRow(_PROVIDER, frozenset({424}), f"{_BEDROCK_ERRORS}, {_GROQ_ERRORS}"),
)

# Rate limits, by what they are the limits of.
_LIMITS: Final = (
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_OPENAI_LIMITS}, BuilderIO/micro-agent#86; Groq: continuedev/continue#10920",
        "rate limit reached for ",
        is_limit=True,
    ),
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_ANTHROPIC_ERRORS}, cline/cline#879 (of a model's group)",
        "rate limit.* of [0-9,]+ (input |output )?(tokens|requests) per",
        vendors=_ANTHROPIC,
        is_limit=True,
    ),
    ErrorRow(_ACCOUNT, LIMITED, "anthropics/claude-code#71670", "account's rate limit", is_limit=True),
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_AZURE_QUOTA} (of a deployment), langchain-ai/langchain#14339",
        vendors=_AZURE,
        is_limit=True,
    ),
    ErrorRow(
        _MODEL, LIMITED, "minorun365/agent-book#29", "per day", vendors=_BEDROCK, is_limit=True, reset_timezone="UTC"
    ),
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_BEDROCK_ERRORS}, anthropics/claude-code#236 (of a model in a region)",
        vendors=_BEDROCK,
        is_limit=True,
    ),
    ErrorRow(
        _MODEL,
        LIMITED,
        "https://docs.mistral.ai/deployment/ai-studio/tier (a limit of 0: not on the plan)",
        codes=frozenset({"x-ratelimit-limit-req-minute: 0"}),
        vendors=_MISTRAL,
        is_limit=True,
        reset_timezone="UTC",
        at_least=True,
    ),
    ErrorRow(_MODEL, LIMITED, "continuedev/continue#6185", "capacity exceeded for this model", is_limit=True),
    ErrorRow(_MODEL, LIMITED, "Aculeasis/openrouter-proxy#1", "temporarily rate-limited upstream", is_limit=True),
    ErrorRow(
        _ACCOUNT,
        LIMITED,
        "cline/cline#5301, Gitlawb/openclaude#936",
        "free-models-per-day",
        is_limit=True,
        reset_timezone="UTC",
    ),
    ErrorRow(
        _ACCOUNT, LIMITED, "https://openrouter.ai/docs/api-reference/limits", "free-models-per-min", is_limit=True
    ),
    ErrorRow(
        _MODEL,
        LIMITED,
        f"{_TOGETHER_ERRORS}, xtekky/gpt4free#3032",
        "rate limit specific to this model|model_rate_limit",
        is_limit=True,
    ),
    ErrorRow(_ACCOUNT, LIMITED, "togethercomputer/MoA#27", "your rate limit is [0-9.]+ queries per", is_limit=True),
    ErrorRow(
        _ACCOUNT,
        LIMITED,
        _COHERE_LIMITS,
        "trial key, which is limited to .* / month",
        is_limit=True,
        reset_timezone="UTC",
        at_least=True,
    ),
    ErrorRow(_ACCOUNT, LIMITED, _COHERE_LIMITS, "trial key, which is limited to", is_limit=True),
)

# Models that are not there, or not for this account.
_MODELS: Final = (
    ErrorRow(
        _MODEL,
        frozenset({403, 404}),
        "cursor/cursor#2953, Aider-AI/aider#1903",
        "does not have access to model|model_not_found",
        is_missing=True,
    ),
    ErrorRow(
        _MODEL,
        frozenset({404}),
        f"{_ANTHROPIC_ERRORS}, {_GEMINI_ERRORS}, Azure/openai-at-scale#48",
        r"not_found_error.*\"model: |models/\S+ is not found|deploymentnotfound",
        is_missing=True,
    ),
    # What is not there may also be something that the request names, such as a file or a vector store.
    ErrorRow(_MODEL, frozenset({404}), f"{_OPENAI_CODES}, openai/openai-node#1691"),
    ErrorRow(
        _MODEL,
        frozenset({400, 410}),
        "https://console.groq.com/docs/deprecations, mem0ai/mem0#4694",
        "model_decommissioned|has been decommissioned",
        is_missing=True,
    ),
    ErrorRow(
        _MODEL,
        frozenset({400, 422}),
        "tmc/langchaingo#1233, mistralai/mistral-vibe#617",
        "invalid_model|invalid model:",
        is_missing=True,
    ),
    ErrorRow(
        _MODEL,
        frozenset({403}),
        f"{_BEDROCK_ERRORS}, strands-agents/harness-sdk#38, langgenius/dify#2829",
        "access to the model|model access is denied",
        vendors=_BEDROCK,
        is_missing=True,
    ),
    ErrorRow(
        _MODEL,
        frozenset({400}),
        "strands-agents/harness-sdk#38, aws-samples/bedrock-access-gateway#73",
        "model identifier is invalid|on-demand throughput isn.t supported",
        vendors=_BEDROCK,
        is_missing=True,
    ),
)

ROWS: Final = (*_REQUESTS, *_EMPTY, *_GOOGLE, *_PROVIDERS, *_LIMITS, *_MODELS)
