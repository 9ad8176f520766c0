"""The group ``auto``: its tier is chosen for each prompt by what LiteLLM's complexity router says of it.

A session stays with the tier of its first request for an hour after its last: no turn of a conversation goes to another
model because it reads simpler or harder. Each process remembers its own sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from wallie_litellm.config.tiers import AutoSettings
from wallie_litellm.core.human_ask import human_ask
from wallie_litellm.core.prompt_complexity import PromptComplexity
from wallie_litellm.routing.plan import Asked
from wallie_litellm.routing.remembered import Remembered
from wallie_litellm.routing.warm_prefixes import session_of

SESSION_KEPT: Final = 3_600.0  # seconds since its last request that a session stays with its tier
MOST_SESSIONS: Final = 10_000  # remembered at once
MOST_PROMPTS: Final = 1_000  # whose complexity is remembered, by a hash of their text
_PROMPTS: Final = ("messages", "input", "contents", "prompt")  # the arguments that hold what is sent, on each wire

Classify = Callable[[str], PromptComplexity]


class Choice(NamedTuple):
    """The tier that ``auto`` chose, why, and what was found in the prompt, if that was looked at."""

    tier: str
    why: str
    complexity: PromptComplexity | None = None


class Auto:
    """Chooses tiers. ``on`` tells whether its switch is; ``classify`` is set by what can import LiteLLM."""

    def __init__(self, settings: AutoSettings, now: Callable[[], float], on: Callable[[str], bool]) -> None:
        self.settings = settings
        self.classify: Classify | None = None
        self.chosen: Counter[str] = Counter()  # requests by tier
        self._on = on
        self._sessions: Remembered[str] = Remembered(now, MOST_SESSIONS)
        self._prompts: Remembered[PromptComplexity] = Remembered(now, MOST_PROMPTS)
        self.saved_usd = 0.0  # by the choices since the start of this process, or in shadow it would have been

    @property
    def is_on(self) -> bool:
        """Whether tiers are chosen: else all requests for ``auto`` go to the middle one."""
        return self._on("auto")

    @property
    def in_shadow(self) -> bool:
        """Whether what is chosen is only on record."""
        return self.settings.shadow

    def choose(self, asked: Asked) -> Choice:
        """The tier for a request."""
        session = session_of(asked.arguments, asked.metadata)
        key = None if session is None else (asked.feature, asked.user_id, session)
        if key is not None and (tier := self._sessions.find(key)) is not None:
            self._sessions.keep(key, tier, SESSION_KEPT)
            choice = Choice(tier, f"auto: {tier}, as the session's first request")
        else:
            choice = self.choose_for(prompt_of(asked))
            if key is not None:
                self._sessions.keep(key, choice.tier, SESSION_KEPT)
        self.chosen[choice.tier] += 1
        return choice

    def choose_for(self, prompt: Any) -> Choice:
        """The tier for a prompt, in the form of any wire."""
        ask = human_ask(prompt)
        if not ask.strip() or self.classify is None:
            return Choice(self.settings.medium, f"auto: {self.settings.medium}, as there is no text to look at")
        found = self._prompts.find(hash(ask))
        if found is None:
            found = self.classify(ask)
            self._prompts.keep(hash(ask), found, SESSION_KEPT)
        tier = self.settings.tier_of(found.level)
        signals = f": {', '.join(found.kinds)}" if found.kinds else ""
        return Choice(tier, f"auto: {tier}, as the prompt is {found.level} ({found.score:g}{signals})", found)

    def note_saved(self, amount: float) -> None:
        """A choice has saved so many US dollars, or in shadow would have."""
        self.saved_usd += amount

    def describe(self) -> dict[str, Any]:
        """The tiers, and how many requests were sent to each; JSON-ready."""
        settings = self.settings
        return {
            "tiers": {level: settings.tier_of(level) for level in ("simple", "medium", "complex", "reasoning")},
            "shadow": settings.shadow,
            "chosen": dict(self.chosen),
            "saved_usd": self.saved_usd,
            "sessions": len(self._sessions),
        }


def prompt_of(asked: Asked) -> Any:
    """What a request sends."""
    return next((asked.arguments[name] for name in _PROMPTS if asked.arguments.get(name)), None)
