"""What a caller makes of a response of LiteLLM's or of OpenAI's SDK, which look alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """What a caller has of one request so far."""

    pieces: list[str] = field(default_factory=list)
    first: float | None = None  # monotonic time of the first piece
    model: str | None = None
    usage: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    def add(self, text: str | None) -> None:
        """Take in a piece."""
        if text:
            if self.first is None:
                self.first = time.monotonic()
            self.pieces.append(text)


async def read(response: Any, answer: Answer, *, stream: bool) -> None:
    """Read a response to its end, as an application does that trusts its client."""
    if not stream:
        answer.model, answer.usage = response.model, getattr(response, "usage", None) is not None
        answer.add(response.choices[0].message.content)
        return
    async for chunk in response:
        answer.model = getattr(chunk, "model", None) or answer.model
        answer.usage = answer.usage or getattr(chunk, "usage", None) is not None
        for choice in chunk.choices or ():
            answer.add(getattr(choice.delta, "content", None))
