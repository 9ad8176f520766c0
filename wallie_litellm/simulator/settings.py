"""How one simulated provider is set up, and which vendor it imitates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wallie_litellm.simulator.anthropic_wire import AnthropicWire
from wallie_litellm.simulator.azure_wire import AzureWire
from wallie_litellm.simulator.gemini_wire import GeminiWire
from wallie_litellm.simulator.limits import LIMIT_NAMES, LimitName, LimitNumbers
from wallie_litellm.simulator.openai_dialects import CerebrasWire, DeepSeekWire, GroqWire, MistralWire, TogetherWire
from wallie_litellm.simulator.openai_wire import OpenAIWire
from wallie_litellm.simulator.wire import Wire

WIRES: dict[str, type[Wire]] = {
    "openai": OpenAIWire,
    "anthropic": AnthropicWire,
    "gemini": GeminiWire,
    "groq": GroqWire,
    "deepseek": DeepSeekWire,
    "azure": AzureWire,
    "mistral": MistralWire,
    "cerebras": CerebrasWire,
    "together_ai": TogetherWire,
}

HOST: Final = "127.0.0.1"  # the only address that anything here binds to


@dataclass(frozen=True)
class Ports:
    """Where a running provider listens: for models, and for control even while it refuses models."""

    model: int
    control: int


@dataclass(frozen=True)
class ProviderSettings:
    """One provider; the handle's parameters, checked.

    ``rpm``, ``tpm``, ``itpm``, ``otpm``, ``rpd``, ``tpd`` and ``concurrency`` are the account's limits, of all models
    together. ``models`` has those of models, by pattern of their names; models that fit one share them. None is no
    limit.
    """

    name: str
    vendor: str  # whose wire format it speaks: a key of WIRES
    rpm: int | None = None
    tpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrency: int | None = None
    models: Mapping[str, LimitNumbers] = field(default_factory=dict)  # 0 is a model that is not on the plan
    slack: float = 2.0  # seconds of rate allowed on top of each per-minute limit
    slice_seconds: float | None = None  # requests per minute are enforced in slices of so many seconds too
    latency: float = 0.0  # seconds before each answer begins
    text: str = ""
    completion_tokens: int | None = None  # counted for every answer; None counts a quarter of its characters
    cached_tokens: int = 0  # of every prompt read from the cache, as far as it is that long
    cache_write_tokens: int = 0  # of the rest of every prompt written to the cache, as far as it is that long
    uses_tools: bool = False  # calls a tool that the request offers, and keeps to the JSON schema that it asks for
    port: int = 0  # the model port on 127.0.0.1; 0 takes a free one

    def __post_init__(self) -> None:
        if self.vendor not in WIRES:
            raise ValueError(f"no wire format for {self.vendor!r}: choose one of {', '.join(WIRES)}")
        for name, value in self.limits.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, or None for no limit: {value}")
        for pattern, limits in self.models.items():
            check_limits(limits, f"models[{pattern!r}]")
        if self.cached_tokens < 0 or self.cache_write_tokens < 0:
            raise ValueError("cached_tokens and cache_write_tokens must not be negative")
        if self.slack < 0 or self.latency < 0:
            raise ValueError("slack and latency must not be negative")
        if self.slice_seconds is not None and not 0 < self.slice_seconds <= 60:
            raise ValueError(f"slice_seconds must be above 0 and at most 60: {self.slice_seconds}")

    @property
    def limits(self) -> dict[LimitName, int]:
        """The account's limits that are set."""
        return {name: value for name in LIMIT_NAMES if (value := getattr(self, name)) is not None}


def check_limits(limits: Mapping[Any, object], where: str) -> None:
    """Raises:
    ValueError: a name is no limit, or a limit no whole number from 0 on, or None.
    """
    for name, value in limits.items():
        if name not in LIMIT_NAMES:
            raise ValueError(f"{where} has no limit {name!r}: choose from {', '.join(LIMIT_NAMES)}")
        if value is not None and (not isinstance(value, int) or value < 0):
            raise ValueError(f"{where} must have whole numbers from 0 on, or None: {name} is {value!r}")
