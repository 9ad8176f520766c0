from __future__ import annotations

from wallie_litellm.core.operations import COUNTED, EXECUTE, GENERATING


def test_an_applications_own_call_is_counted_in_tokens() -> None:
    assert EXECUTE in GENERATING
    assert GENERATING < COUNTED
