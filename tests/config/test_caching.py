from __future__ import annotations

from typing import Any

import pytest

from wallie_litellm.config import AnswerCacheSettings, WallieConfig
from wallie_litellm.config.caching import SYSTEM_MESSAGES

TOOLS = {"location": "tool_config"}
LAST = {"location": "message", "index": -1}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1h", AnswerCacheSettings(ttl=3600)),
        (90, AnswerCacheSettings(ttl=90)),
        ({"ttl": "5m", "per": "all"}, AnswerCacheSettings(ttl=300, per="all")),
        ({"ttl": "1s", "any_temperature": True}, AnswerCacheSettings(ttl=1, any_temperature=True)),
        (False, None),
        (None, None),
    ],
)
def test_a_features_answer_cache_is_a_duration_or_a_mapping(written: Any, read: AnswerCacheSettings | None) -> None:
    wallie = WallieConfig.model_validate({"features": {"faq": {"cache": written}}})
    assert wallie.for_feature("faq").cache == read
    assert wallie.for_feature("other").cache is None
    assert WallieConfig.model_validate(wallie.model_dump()) == wallie


def test_an_answer_is_given_to_its_own_user_alone_unless_the_file_says_otherwise() -> None:
    assert AnswerCacheSettings(ttl=1).per == "user"


@pytest.mark.parametrize(
    ("written", "read"), [(True, SYSTEM_MESSAGES), ([LAST, TOOLS], (LAST, TOOLS)), (False, None), (None, None)]
)
def test_a_features_prompt_cache_is_a_switch_or_litellms_injection_points(written: Any, read: Any) -> None:
    wallie = WallieConfig.model_validate({"features": {"chat": {"prompt_cache": written}}})
    assert wallie.for_feature("chat").prompt_cache == read
    assert WallieConfig.model_validate(wallie.model_dump()) == wallie
