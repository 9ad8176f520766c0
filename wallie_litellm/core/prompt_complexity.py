"""How complex a prompt is, and how much of a long one is looked at."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Level = Literal["simple", "medium", "complex", "reasoning"]

LONG: Final = 1_600  # characters, about 400 tokens: a prompt with more is a long one
_END: Final = 500  # characters of a long prompt that are looked at, at either end: what is asked stands there


class PromptComplexity(NamedTuple):
    """The level, the score that led to it, and the signals in the prompt: ``code (python)``, ``short (3 tokens)``."""

    level: Level
    score: float
    signals: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The signals without the words of the prompt that they name."""
        return tuple(signal.partition(" (")[0] for signal in self.signals)


def is_long(prompt: str) -> bool:
    """Whether a prompt is long, whatever is in it."""
    return len(prompt) > LONG


def excerpt(prompt: str) -> str:
    """The part of a prompt that is looked at: the whole, or both ends of a long one."""
    return f"{prompt[:_END]}\n{prompt[-_END:]}" if is_long(prompt) else prompt
