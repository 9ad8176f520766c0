"""LiteLLM's settings that act otherwise here: what each does in LiteLLM, what here, and what to write instead.

``docs/differences.md`` names each of them, with the reason.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SECTIONS: Final = ("router_settings", "litellm_settings")
DEPLOYMENT: Final = "litellm_params"  # of an entry of model_list
_ROUTER: Final = ("router_settings",)


class Difference(NamedTuple):
    """A setting of LiteLLM's that acts otherwise here, in each of the sections ``places``.

    ``is_ignored``: the Router is built, and asked, without it.
    """

    setting: str
    places: tuple[str, ...]
    in_litellm: str
    here: str
    instead: str
    is_ignored: bool = False


DIFFERENCES: Final = (
    Difference(
        "num_retries",
        (*SECTIONS, DEPLOYMENT),
        "how often a failed call is repeated",
        "wallie.retry is the only authority for retries",
        "write wallie.retry.max_retries",
        is_ignored=True,
    ),
    Difference(
        "retry_after",
        _ROUTER,
        "the shortest wait before a call is repeated",
        "waits grow from wallie.retry.initial, and a provider's own Retry-After is kept",
        "write wallie.retry.initial",
    ),
    Difference(
        "retry_policy",
        _ROUTER,
        "retries for each kind of error",
        "only errors that may pass are repeated, each as often as wallie.retry says",
        "write wallie.retry.max_retries",
        is_ignored=True,
    ),
    Difference(
        "model_group_retry_policy",
        _ROUTER,
        "retries for each kind of error and group",
        "only errors that may pass are repeated, each as often as wallie.retry says",
        "write wallie.retry.max_retries",
        is_ignored=True,
    ),
    Difference(
        "allowed_fails",
        SECTIONS,
        "the failures in a minute after which a deployment is left out",
        "wallie.breaker decides, for a group with one deployment too",
        "write wallie.breaker.failures",
    ),
    Difference(
        "allowed_fails_policy",
        _ROUTER,
        "allowed_fails for each kind of error",
        "wallie.breaker counts errors that are the provider's, and no others",
        "write wallie.breaker.failures or error_rate",
    ),
    Difference(
        "cooldown_time",
        (*_ROUTER, DEPLOYMENT),
        "how long a deployment is left out",
        "wallie.breaker decides, and asks with one request before it lets the others through",
        "write wallie.breaker.open_for and max_open_for",
    ),
    Difference(
        "max_fallbacks",
        SECTIONS,
        "how many fallbacks a request takes before the chains of members are no longer followed",
        "they are not followed, and a chain is tried to its end",
        "remove it",
    ),
    Difference(
        "enable_weighted_failover",
        _ROUTER,
        "goes to another deployment of the group before a fallback, with simple-shuffle",
        "that is so with every routing strategy",
        "remove it",
    ),
    Difference(
        "enable_mid_stream_fallback_continuation",
        _ROUTER,
        "continues a broken stream on a fallback",
        "each feature decides what becomes of its broken streams",
        "write wallie.features.<name>.stream_recovery: continue",
    ),
)

IGNORED: Final = tuple(one.setting for one in DIFFERENCES if one.is_ignored)

# Settings of litellm_settings that concern calls and that LiteLLM has for the whole process alone.
PROCESS_WIDE: Final = frozenset(
    {
        *("modify_params", "add_function_to_prompt", "enable_json_schema_validation", "model_alias_map", "headers"),
        *("ssl_verify", "ssl_certificate", "ssl_security_level", "force_ipv4", "disable_aiohttp_transport"),
        *("success_callback", "failure_callback", "service_callback", "input_callback", "custom_provider_map"),
        *("pre_call_rules", "post_call_rules", "turn_off_message_logging", "langfuse_default_tags"),
        *("cost_discount_config", "cost_margin_config", "redact_messages_in_exceptions", "set_verbose"),
    }
)
# Sections of the file that concern calls and that LiteLLM's proxy alone applies.
PROXY_SECTIONS: Final = frozenset({"guardrails", "policies", "policy_attachments", "prompts", "vector_store_registry"})
