"""One call to one deployment: straight through LiteLLM where nothing special is asked, else through its Router."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import litellm

from wallie_litellm.litellm_adapter.endpoints import Endpoint
from wallie_litellm.litellm_adapter.inner_router import Deployment, InnerRouter, id_of
from wallie_litellm.litellm_adapter.missing_packages import missing_package
from wallie_litellm.litellm_adapter.responses import iterates


class _NoRetries(int):
    """Zero that is true: for embeddings LiteLLM takes a false ``max_retries`` for "not set", and OpenAI's client
    would retry behind the request loop's back."""

    def __bool__(self) -> bool:
        return True


NO_RETRIES: Final = _NoRetries(0)

# Functions of LiteLLM that take a deployment's parameters and a request's alike.
_DIRECT: Final[Mapping[str, Any]] = {
    "acompletion": litellm.acompletion,
    "completion": litellm.completion,
    "aembedding": litellm.aembedding,
    "embedding": litellm.embedding,
}
# Parameters of a deployment that LiteLLM's functions take, or leave out, by themselves. With any other, the Router
# does something of its own: deployments with one are called through it.
PLAIN_PARAMETERS: Final = frozenset(
    {
        "allow_client_keepalive_override", "api_base", "api_key", "api_version", "base_url", "custom_llm_provider",
        "extra_headers", "frequency_penalty", "input_cost_per_token", "max_completion_tokens", "max_retries",
        "max_tokens", "merge_reasoning_content_in_choices", "mock_response", "model", "num_retries", "order",
        "organization", "output_cost_per_token", "presence_penalty", "seed", "stream_timeout", "temperature", "timeout",
        "top_p", "use_in_pass_through", "use_litellm_proxy", "use_xai_oauth", "weight",
    }
)  # fmt: skip
# Arguments of a request that the Router reads; requests with one are called through it.
_ROUTERS_ARGUMENTS: Final = frozenset(
    {
        "api_base", "api_key", "base_url", "litellm_credential_name", "litellm_metadata",
        "prompt_id", "prompt_variables", "reasoning_effort", "service_tier", "silent_model",
        "specific_deployment", "tags",
    }
)  # fmt: skip
# Settings of a Router under which a call is the same with and without it.
_PLAIN_SETTINGS: Final = frozenset(
    {
        "allowed_fails", "allowed_fails_policy", "assistants_config", "auto_router_capability_limit",
        "cache_responses", "content_policy_fallbacks", "context_window_fallbacks", "cooldown_time",
        "debug_level", "default_fallbacks", "default_litellm_params", "disable_cooldowns",
        "enable_pre_call_checks", "enable_tag_filtering", "fallback_access_check", "fallback_budget_check",
        "fallbacks", "ignore_invalid_deployments", "max_fallbacks", "model_group_alias", "model_list",
        "num_retries", "retry_after", "router_general_settings", "search_tools", "set_verbose",
        "stream_timeout", "tag_filtering_match_any", "timeout",
    }
)  # fmt: skip


_STRATEGY_SETTINGS: Final = frozenset({"routing_strategy", "routing_strategy_args"})
_FILTERS: Final = ("enable_pre_call_checks", "enable_tag_filtering")
_CALLBACK_STRATEGIES: Final = ("simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing")


class Timeouts(NamedTuple):
    """A Router's own timeouts in seconds, for deployments and requests that state none."""

    timeout: float | None = None
    stream_timeout: float | None = None

    def of(self, arguments: Mapping[str, Any], parameters: Mapping[str, Any], *, stream: bool) -> Any:
        """The timeout of one call; of a stream, it bounds its beginning and every gap."""
        if stream:
            found = arguments.get("stream_timeout") or parameters.get("stream_timeout") or self.stream_timeout
            if found:
                return found
        stated = arguments.get("timeout") or arguments.get("request_timeout")
        return stated or parameters.get("timeout") or parameters.get("request_timeout") or self.timeout


class DeploymentCalls:
    """DeploymentCalls deployments of one Router, which was built with ``settings``."""

    def __init__(self, inner: InnerRouter, settings: Mapping[str, Any]) -> None:
        self._inner = inner
        self._plain = False
        self._shuffles = False  # of the group's deployments any may be picked, at any time
        self._own_strategy = False  # the application's, which does not ask LiteLLM's filters
        self.timeouts = Timeouts()
        self.use(settings)

    def use(self, settings: Mapping[str, Any]) -> None:
        """Call by these ``settings`` of the Router from now on."""
        self._settings = dict(settings)
        set_to_something = {name for name, value in settings.items() if value not in (None, False, (), [], {})}
        strategy = str(settings.get("routing_strategy") or "simple-shuffle")
        # Until 1.108 these strategies learn from LiteLLM's callbacks, which see every call, and the Router's streams
        # hide how the provider's ended.
        strategies = ("simple-shuffle",) if self._inner.has_entry_points else _CALLBACK_STRATEGIES
        given = settings.get("default_litellm_params") or {}
        self._defaults = {name: value for name, value in given.items() if value is not None}
        self._caching = bool(settings.get("cache_responses"))
        self._plain = (
            set_to_something - _STRATEGY_SETTINGS <= _PLAIN_SETTINGS
            and strategy in strategies
            and "metadata" not in self._defaults
        )
        self._shuffles = (
            self._plain
            and strategy == "simple-shuffle"
            and set_to_something.isdisjoint(_FILTERS)
            and settings.get("disable_cooldowns", True) is True
        )
        self.timeouts = Timeouts(settings.get("timeout"), settings.get("stream_timeout"))

    @property
    def shuffles_only(self) -> bool:
        """Whether LiteLLM picks at random, from all deployments of a group, by the Router's settings."""
        return self._shuffles and not self._own_strategy

    def use_own_strategy(self) -> None:
        """The application has a routing strategy of its own."""
        self._own_strategy = True

    def change(self, settings: Mapping[str, Any]) -> None:
        """Some ``settings`` have changed."""
        self.use({**self._settings, **settings})

    async def call(
        self,
        endpoint: Endpoint,
        group: str,
        deployment: Deployment,
        arguments: dict[str, Any],
        picking: AbstractContextManager[object],
    ) -> Any:
        """The answer, or the stream, of one call; LiteLLM's Router is asked for it within ``picking``.

        Raises:
            PackageMissing: LiteLLM needs more for it than is installed.
            Exception: LiteLLM's own.
        """
        direct = self._direct_arguments(endpoint, group, deployment, arguments)
        try:
            if direct is not None:
                response = await _DIRECT[endpoint.name](**direct)
            else:
                named = self._router_arguments(endpoint, group, deployment, arguments, by_id=self._own_strategy)
                with picking:
                    response = await getattr(self._inner.router, endpoint.name)(**named)
        except Exception as error:
            if (missing := missing_package(error, endpoint.name)) is not None:
                raise missing from error
            raise
        if iterates(type(response)):  # type: ignore[arg-type] # a type is hashable
            await _begun(response)
        return response

    def call_blocking(
        self,
        endpoint: Endpoint,
        group: str,
        deployment: Deployment,
        arguments: dict[str, Any],
        picking: AbstractContextManager[object],
    ) -> Any:
        """:meth:`call` for code without an event loop."""
        direct = self._direct_arguments(endpoint, group, deployment, arguments)
        if direct is not None:
            return _DIRECT[endpoint.name](**direct)
        named = self._router_arguments(endpoint, group, deployment, arguments, by_id=True)
        with picking:
            return getattr(self._inner.router, endpoint.name)(**named)

    def _direct_arguments(
        self, endpoint: Endpoint, group: str, deployment: Deployment, arguments: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The arguments of LiteLLM's own function, ``None`` where only the Router makes the right call."""
        parameters = deployment["litellm_params"]
        if not self._plain or endpoint.name not in _DIRECT:
            return None
        if not parameters.keys() <= PLAIN_PARAMETERS or not arguments.keys().isdisjoint(_ROUTERS_ARGUMENTS):
            return None
        model_info = dict(deployment.get("model_info") or {})
        metadata = arguments.get(endpoint.metadata)
        if not isinstance(metadata, dict):
            metadata = {}
        metadata |= {
            "model_group": group,
            "model_group_alias": group if self._inner.alias_target(group) else None,
            "deployment": parameters["model"],
            "model_info": model_info,
            "api_base": parameters.get("api_base"),
            "deployment_model_name": deployment["model_name"],
        }
        return {
            "max_retries": NO_RETRIES,
            **parameters,
            "caching": self._caching,
            **self._defaults,
            **arguments,
            "model": parameters["model"],
            "num_retries": None,
            "metadata": metadata,
            "model_info": model_info,
            "timeout": self.timeouts.of(arguments, parameters, stream=arguments.get("stream") is True),
        }

    def _router_arguments(
        self, endpoint: Endpoint, group: str, deployment: Deployment, arguments: dict[str, Any], *, by_id: bool
    ) -> dict[str, Any]:
        """The arguments of the Router's method that have it make one call, to this deployment.

        By the group's name the Router picks again, and the selection leaves only this one: what it records, and the
        headers of the answer, are the group's then.
        """
        key = id_of(deployment)
        name = group if key is None or not by_id else key
        extra: dict[str, Any] = {"model": name, "num_retries": 0, "disable_fallbacks": True}
        if endpoint.operation == "embedding":
            extra["max_retries"] = NO_RETRIES
        return {**arguments, **extra}


async def _begun(stream: Any) -> None:
    """Have the request of a stream made, which LiteLLM puts off for some vendors until the first chunk is asked for."""
    if getattr(stream, "completion_stream", stream) is None and getattr(stream, "make_call", None) is not None:
        await stream.fetch_stream()
