"""How the simulated providers answer: each request with the size and the time that were planned for it.

A request says its number in its prompt, so that it is answered alike in every run, whatever else happens in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from wallie_litellm.simulator.engine import Engine
from wallie_litellm.simulator.wire import Ask, text_of

FIRST_TOKEN: Final = 0.5  # seconds until a usual answer begins; what it is like in reality, the ledger knows
REFUSAL: Final = 0.1  # seconds until an answer with an error status
PER_SECOND: Final = 80.0  # tokens of a usual answer a second
_NUMBER: Final = re.compile(r"Rehearsal request (\d+)\.")
_CHARACTERS: Final = 4  # of a token


class PlannedAnswer(NamedTuple):
    """``tokens`` in ``seconds``, of which ``first`` pass until a stream begins."""

    tokens: int
    seconds: float
    first: float


def prompt_of(number: int, tokens: int) -> str:
    """A prompt of so many tokens for the request of this number."""
    head = f"Rehearsal request {number}."
    return head + " word" * max(0, (tokens * _CHARACTERS - len(head)) // len(" word"))


def usual_answer(tokens: int, factor: float) -> PlannedAnswer:
    """An answer of ``tokens`` where no time is on record; ``factor`` is how slow this one is."""
    return PlannedAnswer(tokens, factor * (FIRST_TOKEN + tokens / PER_SECOND), factor * FIRST_TOKEN)


class RehearsedEngine(Engine):
    """A provider that answers as planned, ``slowness`` times as slowly."""

    slowness = 1.0
    answers: Sequence[PlannedAnswer] = ()

    def seconds_of(self, ask: Ask, *, refused: bool) -> float:
        """Until the first token of a stream, or the whole answer."""
        if refused:
            return self.slowness * REFUSAL
        planned = self._planned(ask)
        return self.slowness * (planned.first if ask.stream else planned.seconds)

    def seconds_of_limit(self) -> float:
        """As any other error's."""
        return self.slowness * REFUSAL

    def pause_of(self, ask: Ask) -> float:
        """The rest of the time."""
        planned = self._planned(ask)
        return self.slowness * max(0.0, planned.seconds - planned.first)

    def completion_tokens_of(self, ask: Ask) -> int | None:
        """As planned."""
        return self._planned(ask).tokens

    def _planned(self, ask: Ask) -> PlannedAnswer:
        found = _NUMBER.search(_prompt_in(ask.body)[:200])
        return self.answers[int(found[1])] if found and int(found[1]) < len(self.answers) else usual_answer(150, 1.0)


def _prompt_in(body: dict[str, Any]) -> str:
    """The text of the last turn of the user's, in any of the wire formats."""
    turns = body.get("messages") or body.get("contents") or body.get("input") or []
    if isinstance(turns, str):
        return turns
    for turn in reversed(turns):
        if isinstance(turn, dict) and turn.get("role", "user") == "user":
            return text_of(turn.get("content") or turn.get("parts") or "")
    return ""
