"""The text of an answer, counted in characters."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.token_estimate import count_characters


def test_bytes_are_not_text() -> None:
    assert count_characters(b"abcd") == 0


@given(st.recursive(st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
@settings(deadline=None)
def test_characters_are_counted_however_deep_they_are(content: Any) -> None:
    def text(node: Any) -> str:
        return node if isinstance(node, str) else "".join(map(text, node))

    assert count_characters(content) == len(text(content))
