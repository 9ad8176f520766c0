"""Several simulated providers together."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

from wallie_litellm.simulator.provider import SimulatedProvider

# The product specification's limits: requests and tokens per minute, requests per day.
DEFAULT_LIMITS: Mapping[str, dict[str, int]] = {
    "openai": {"rpm": 500, "tpm": 150_000, "rpd": 10_000},
    "anthropic": {"rpm": 1_000, "tpm": 100_000, "rpd": 50_000},
    "gemini": {"rpm": 2_000, "tpm": 200_000, "rpd": 100_000},
    "groq": {"rpm": 500, "tpm": 50_000, "rpd": 10_000},
    "deepseek": {"rpm": 300, "tpm": 100_000, "rpd": 5_000},
}

FAKE_KEY: Final = "sk-simulated"


class SimulatedProviders:
    """The five providers, each with its own limits.

    ``limits`` maps a provider's name to keyword arguments of its ``SimulatedProvider``; a provider it
    leaves out keeps its default, and a new name needs a ``vendor``. Other keyword arguments go to all.
    """

    def __init__(self, limits: Mapping[str, dict[str, Any]] | None = None, **provider_kwargs: Any) -> None:
        chosen = {**DEFAULT_LIMITS, **(limits or {})}
        self.providers = {
            name: SimulatedProvider(name, **{**provider_kwargs, **arguments}) for name, arguments in chosen.items()
        }

    def start(self) -> Self:
        """Start all of them at once; returns itself."""
        try:
            # An interrupt comes while waiting for a result; leaving the block then waits until all can be stopped.
            with ThreadPoolExecutor(len(self.providers)) as pool:
                started = [pool.submit(provider.start) for provider in self.providers.values()]
                for future in started:
                    future.result()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all of them at once."""
        with ThreadPoolExecutor(len(self.providers)) as pool:
            list(pool.map(SimulatedProvider.stop, self.providers.values()))

    def restore(self) -> None:
        """Restore each of them."""
        for provider in self.providers.values():
            provider.restore()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, name: str) -> SimulatedProvider:
        return self.providers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.providers)

    def __len__(self) -> int:
        return len(self.providers)

    def point(self, model_list: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A copy of a LiteLLM ``model_list`` whose deployments reach these providers, with a fake key.

        The provider is ``model_info.wallie_provider`` where there is one of that name, else the
        prefix of ``litellm_params.model``; a deployment of neither is an error, not a real call.
        """
        pointed = copy.deepcopy(model_list)
        for deployment in pointed:
            params = deployment["litellm_params"]
            params |= {"api_base": self._provider_of(deployment).api_base, "api_key": FAKE_KEY}
        return pointed

    def _provider_of(self, deployment: Mapping[str, Any]) -> SimulatedProvider:
        model = str(deployment["litellm_params"]["model"])
        named = (deployment.get("model_info") or {}).get("wallie_provider")
        provider = self.providers.get(named or "") or self.providers.get(model.partition("/")[0])
        if provider is None:
            raise ValueError(f"no simulated provider for {model!r}: its prefix must be one of {', '.join(self)}")
        return provider
