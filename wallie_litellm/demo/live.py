"""``wallie-litellm demo --live``: one small request to each real provider whose key is set."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.check.models import API_KEYS
from wallie_litellm.config import RouterConfig, load_config
from wallie_litellm.config.variables import ENV_REFERENCE
from wallie_litellm.demo.demo import quiet_litellm
from wallie_litellm.demo.display import Write
from wallie_litellm.errors import ConfigError

if TYPE_CHECKING:
    from wallie_litellm.guard.api import AIRequestResult

DEADLINE: Final = 30.0  # seconds a provider may take
MAX_TOKENS: Final = 5
PROMPT: Final = "Say hello."
_LONGEST: Final = 160  # characters of a provider's error that are shown


@dataclass(frozen=True)
class Candidate:
    """A provider and the first chat deployment behind it; ``key`` is ``None`` where its variable is not set."""

    provider: str
    deployment: Mapping[str, Any]
    key: str | None
    variable: str

    @property
    def group(self) -> str:
        """The model group."""
        return str(self.deployment["model_name"])


def run_live(config: str | None, write: Write, env: Mapping[str, str] | None = None) -> bool:
    """Ask each provider once; returns whether all that were asked answered.

    Raises:
        ConfigError: the file cannot be used, or no provider has a key.
    """
    env = os.environ if env is None else env
    loaded = load_config(config, env=env)
    quiet_litellm()
    candidates = list(find_candidates(loaded, {**env, **loaded.environment_variables}))
    if not any(candidate.key for candidate in candidates):
        variables = ", ".join(sorted({candidate.variable for candidate in candidates}))
        raise ConfigError([f"No provider's API key is set; set at least one of {variables}."])
    return asyncio.run(_ask_all(loaded, candidates, write))


def find_candidates(config: RouterConfig, env: Mapping[str, str]) -> Iterator[Candidate]:
    """Each provider once: its first chat deployment that has a key, else its first one."""
    from wallie_litellm.litellm_adapter.providers import Providers

    found: dict[str, Candidate] = {}
    providers = Providers(env)
    providers.learn(config.model_list)
    for deployment in config.model_list:
        provider = providers.destination_of(deployment).provider
        if not _chats(deployment) or (provider in found and found[provider].key):
            continue
        key, variable = _key_of(deployment, provider, env)
        if provider not in found or key:
            found[provider] = Candidate(provider, deployment, key, variable)
    yield from found.values()


def _chats(deployment: Mapping[str, Any]) -> bool:
    """Whether it is a chat model; a model that LiteLLM does not list counts as one."""
    import litellm

    mode = (deployment.get("model_info") or {}).get("mode")
    if mode is None:
        listed: Mapping[str, Any] = litellm.model_cost
        model = str(deployment["litellm_params"]["model"])
        mode = (listed.get(model) or listed.get(model.partition("/")[2]) or {}).get("mode")
    return mode in (None, "chat", "responses")


def _key_of(deployment: Mapping[str, Any], provider: str, env: Mapping[str, str]) -> tuple[str | None, str]:
    """The key and the variable it comes from: the one that the file names, else the vendor's own."""
    stated = str(deployment["litellm_params"].get("api_key") or "")
    if stated and not stated.startswith(ENV_REFERENCE):
        return stated, "api_key"
    vendor = provider.partition("/")[0]
    usual = API_KEYS.get(vendor, (f"{vendor.upper().replace('-', '_')}_API_KEY",))
    names = (stated.removeprefix(ENV_REFERENCE),) if stated else usual
    return next((env[name] for name in names if env.get(name)), None), names[0]


async def _ask_all(config: RouterConfig, candidates: list[Candidate], write: Write) -> bool:
    import litellm

    failed = 0
    write(_line("PROVIDER", "MODEL", "LATENCY", "TOKENS", "COST"))
    try:
        for candidate in candidates:
            if candidate.key is None:
                write(_line(candidate.provider, candidate.group, f"skipped: {candidate.variable} is not set"))
                continue
            try:
                write(_answer_line(candidate, await _ask_one(config, candidate)))
            except Exception as error:  # noqa: BLE001 - whatever a provider does wrong, the next one is asked
                failed += 1
                write(_line(candidate.provider, candidate.group, f"failed: {describe(error, candidate.key)}"))
    finally:
        await litellm.close_litellm_async_clients()
    return not failed


async def _ask_one(config: RouterConfig, candidate: Candidate) -> AIRequestResult:
    """One request through a guarded router that has this deployment alone, so that no other answers for it.

    The guard has neither a ledger nor sinks: what is asked here is no use of the product.
    """
    from wallie_litellm.bootstrap import build_router
    from wallie_litellm.guard import Guard
    from wallie_litellm.guard.api import execute_ai_request

    params = dict(candidate.deployment["litellm_params"])
    if params.get("api_key"):  # else LiteLLM finds the vendor's variable by itself
        params["api_key"] = candidate.key
    deployment = {**candidate.deployment, "litellm_params": params}
    router = build_router(config, guard=Guard(config.wallie), model_list=[deployment], fallbacks=[])
    messages = [{"role": "user", "content": PROMPT}]
    try:
        return await execute_ai_request(
            router, candidate.group, messages, deadline=DEADLINE, max_tokens=MAX_TOKENS, num_retries=0
        )
    finally:
        await router.guard.aclose()


def _answer_line(candidate: Candidate, result: AIRequestResult) -> str:
    cost = "unpriced" if result.cost_usd is None else f"${result.cost_usd:.6f}"
    tokens = f"{result.prompt_tokens} + {result.completion_tokens}"
    return _line(candidate.provider, result.deployment, f"{result.latency_ms:.0f} ms", tokens, cost)


def _line(provider: str, model: str, *cells: str) -> str:
    return f"{provider:12}  {model:34}  {'  '.join(f'{cell:10}' for cell in cells)}".rstrip()


def describe(error: Exception, key: str) -> str:
    """An error in one line of bounded length, without the key and without the prompt."""
    text = " ".join(str(error).split()).replace(key, "***").replace(PROMPT, "...")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
