"""Answers from the cache in LiteLLM's success callbacks, as those of its own cache: with ``cache_hit``, at no cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import litellm
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.litellm_core_utils.thread_pool_executor import executor
from litellm.utils import Rules, function_setup

from wallie_litellm.events import new_id
from wallie_litellm.litellm_adapter.endpoints import SYNC, Endpoint
from wallie_litellm.litellm_adapter.inner_router import router_class
from wallie_litellm.litellm_adapter.kept_answers import whole_again
from wallie_litellm.litellm_adapter.selection import DeploymentFilter
from wallie_litellm.litellm_adapter.usage_count import UsageCount

_logger = logging.getLogger(__name__)
_OWN_LOG: Final = "litellm_logging_obj"  # the argument in which LiteLLM's proxy passes its log of a request


class Hit(NamedTuple):
    """An answer from the cache to one call, which began at ``started_at``, a Unix time.

    ``answer`` is delivered, made of the values ``kept``. ``group`` was asked for, and ``deployment`` is LiteLLM's
    name of the model that had answered.
    """

    endpoint: Endpoint
    arguments: Mapping[str, Any]
    answer: Any
    kept: Any
    group: str
    deployment: str
    started_at: float

    @property
    def streams(self) -> bool:
        """Whether it is delivered as a stream."""
        return self.arguments.get("stream") is True


def log_hit(hit: Hit) -> None:
    """Have LiteLLM's callbacks called, later. LiteLLM's proxy takes the cost that it answers with from its log."""
    log = hit.arguments.get(_OWN_LOG)
    if log is not None:
        log.model_call_details["cache_hit"] = True
    if log is None and not _has_listeners():
        return
    try:
        whole = whole_again(hit.endpoint.operation, hit.kept) if hit.streams else hit.answer
        if whole is not None:
            _log(hit, whole, log or _new_log(hit))
    except Exception:  # whatever LiteLLM cannot log: the answer is there
        _logger.warning("LiteLLM could not log an answer from the cache", exc_info=True)


def _log(hit: Hit, whole: Any, log: Any) -> None:
    model, vendor, *_ = litellm.get_llm_provider(model=hit.deployment)
    metadata = {**(hit.arguments.get(hit.endpoint.metadata) or {}), "model_group": hit.group}
    is_async = hit.endpoint.name not in SYNC
    called = {
        hit.endpoint.name: is_async,  # LiteLLM tells by it which kind of callbacks to call
        "custom_llm_provider": vendor,
        "metadata": metadata,
        "preset_cache_key": None,
        "proxy_server_request": hit.arguments.get("proxy_server_request"),
    }
    log.update_environment_variables(
        model=model,
        user=hit.arguments.get("user"),
        optional_params={},
        litellm_params=called,
        input=hit.arguments.get(hit.endpoint.prompt),
        custom_llm_provider=vendor,
        stream=hit.streams,
    )
    said = {
        "result": whole,
        "start_time": datetime.fromtimestamp(hit.started_at),  # LiteLLM's times have no zone
        "end_time": datetime.now(),
        "cache_hit": True,
    }
    if not is_async:
        executor.submit(log.success_handler, **said)
        return

    def enqueue() -> None:
        GLOBAL_LOGGING_WORKER.ensure_initialized_and_enqueue(async_coroutine=log.async_success_handler(**said))
        log.handle_sync_success_callbacks_for_async_calls(**said)

    if getattr(log, "defer_async_logging", False) and not hit.streams:
        log.enqueue_deferred_logging = enqueue  # the proxy calls it once its guardrails have seen the answer
    else:
        enqueue()


def _new_log(hit: Hit) -> Any:
    """LiteLLM's log of a call, as its own functions make it."""
    arguments = {name: value for name, value in hit.arguments.items() if name not in ("callbacks", "litellm_call_id")}
    arguments |= {"model": hit.deployment, "litellm_call_id": hit.arguments.get("litellm_call_id") or new_id()}
    name = hit.endpoint.name.replace("aanthropic", "anthropic")  # LiteLLM's Router has two names for one function
    log, _ = function_setup(name, Rules(), datetime.fromtimestamp(hit.started_at), **arguments)
    return log


def _has_listeners() -> bool:
    """Whether LiteLLM has other callbacks than this package's and its Router's."""
    own = DeploymentFilter, UsageCount, router_class()
    return any(
        not isinstance(getattr(callback, "__self__", callback), own)
        for callback in litellm.logging_callback_manager.get_all_callbacks()
    )
