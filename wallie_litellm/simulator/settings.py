"""How one simulated provider is set up, and which vendor it imitates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wallie_litellm.simulator.anthropic_wire import AnthropicWire
from wallie_litellm.simulator.gemini_wire import GeminiWire
from wallie_litellm.simulator.openai_dialects import DeepSeekWire, GroqWire
from wallie_litellm.simulator.openai_wire import OpenAIWire
from wallie_litellm.simulator.wire import Wire

WIRES: dict[str, type[Wire]] = {
    "openai": OpenAIWire,
    "anthropic": AnthropicWire,
    "gemini": GeminiWire,
    "groq": GroqWire,
    "deepseek": DeepSeekWire,
}


HOST: Final = "127.0.0.1"  # the only address that anything here binds to


@dataclass(frozen=True)
class Ports:
    """Where a running provider listens: for models, and for control even while it refuses models."""

    model: int
    control: int


@dataclass(frozen=True)
class ProviderSettings:
    """One provider; the handle's parameters, checked."""

    name: str
    vendor: str  # whose wire format it speaks: a key of WIRES
    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    slack: float = 2.0  # seconds of rate allowed on top of each per-minute limit
    latency: float = 0.0  # seconds before each answer begins
    text: str = ""
    completion_tokens: int | None = None  # counted for every answer; None counts a quarter of its characters
    cached_tokens: int = 0  # of every prompt read from the cache, as far as it is that long
    uses_tools: bool = False  # calls a tool that the request offers, and keeps to the JSON schema that it asks for
    port: int = 0  # the model port on 127.0.0.1; 0 takes a free one

    def __post_init__(self) -> None:
        if self.vendor not in WIRES:
            raise ValueError(f"no wire format for {self.vendor!r}: choose one of {', '.join(WIRES)}")
        for name in ("rpm", "tpm", "rpd"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or None for no limit: {value}")
        if self.cached_tokens < 0:
            raise ValueError("cached_tokens must not be negative")
        if self.slack < 0 or self.latency < 0:
            raise ValueError("slack and latency must not be negative")
