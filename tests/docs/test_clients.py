"""What `docs/clients.md` says of the clients that are installed is so."""

from __future__ import annotations

from pathlib import Path

import openai
from openai import _constants

PAGE = (Path(__file__).parents[2] / "docs/clients.md").read_text()


def test_the_defaults_of_openais_sdk_are_those_of_the_page() -> None:
    timeout, (row,) = openai.DEFAULT_TIMEOUT, [line for line in PAGE.splitlines() if "| OpenAI SDK, Python" in line]
    assert f"{timeout.read:g} s without a byte, {timeout.connect:g} s to connect" in row
    assert f"| {openai.DEFAULT_MAX_RETRIES} |" in row
    longest = getattr(_constants, "MAX_RETRY_AFTER_DELAY", 120)  # 2.x has another bound, and the page names 3.57
    assert f"`Retry-After` up to {longest} s" in row
