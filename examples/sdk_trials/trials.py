"""What the trials of every SDK share: how one is made and reported, and the questions."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

PROXY = os.environ["TRIALS_PROXY"]
KEY = os.environ["TRIALS_KEY"]
CONFIG = os.environ["TRIALS_CONFIG"]
QUESTION = "What is the weather in Rome?"
LONG = "Please summarise this. " * 50  # more tokens than the group `tiny` may have in a minute
MESSAGES = [{"role": "user", "content": QUESTION}]
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

Found = str | tuple[str, tuple[int, int]]  # the result, and the tokens that the SDK says


class Trials:
    """Runs the trials of one SDK; each prints a line of JSON. ``against`` is ``library`` or ``proxy``."""

    def __init__(self, sdk: str, package: str, against: str) -> None:
        self.sdk, self.version, self.against = sdk, version(package), against

    def feature(self, tried: str) -> str:
        """The feature under which a trial is on record."""
        return f"{self.sdk} {self.version} {tried}".replace(" ", "-").lower()

    def headers(self, tried: str) -> dict[str, str]:
        """The header that tells the proxy its feature."""
        return {"x-wallie-feature": self.feature(tried)}

    def run(self, tried: str, act: Callable[[], Any]) -> None:
        """``act`` returns what it found, or is a coroutine function that does; what it raises is a failure."""
        try:
            found = act()
            if asyncio.iscoroutine(found):
                found = asyncio.run(found)
            result, tokens = found if isinstance(found, tuple) else (found, None)
            self._print(tried, good=True, result=result, tokens=tokens)
        except Exception as error:
            self._print(tried, good=False, result=f"{type(error).__name__}: {error}"[:300], tokens=None)

    def _print(self, tried: str, **found: Any) -> None:
        row = {"sdk": self.sdk, "version": self.version, "against": self.against, "tried": tried}
        print(json.dumps({**row, "feature": self.feature(tried), **found}), flush=True)


def expect(holds: object, found: object) -> None:
    """Go on where ``holds``.

    Raises:
        AssertionError: it does not; ``found`` says what there is instead.
    """
    if not holds:
        raise AssertionError(str(found))


def refused(ask: Callable[[], Any], kind: type[BaseException]) -> Any:
    """The error with which the group `full` refuses, at the latest after its one call in five seconds."""
    for _ in range(3):
        try:
            ask()
        except kind as error:
            return error
    raise AssertionError("it was never refused")


def waited(ask: Callable[[], Any]) -> str:
    """Two calls of the group `waits`, of which the second waits for its turn."""
    ask()
    begun = time.monotonic()
    ask()
    took = time.monotonic() - begun
    expect(took > 0.3, f"the second call took {took:.2f} s")
    return "the second of two calls waited for its turn"
