"""What the check finds about Redis' URL and package."""

from __future__ import annotations

from typing import Any

import pytest
from check_support import entry

STORE_URLS = [
    "redis://h",
    "redis://user:hunter2@h:6380/3",
    "rediss://h",
    "redis+sentinel://:hunter2@h:26379,i:26379/main/2",
    "redis+cluster://h:7000",
]


@pytest.mark.parametrize("url", STORE_URLS)
def test_a_redis_whose_url_can_be_read_gives_neither_problem_nor_note(check: Any, url: str) -> None:
    report = check(entry("openai/gpt-4o"), wallie={"store": {"url": url}})
    assert (report.problems, report.notes) == ((), ())


@pytest.mark.parametrize(
    "url",
    ["redis://h:port", "rediss://h:123456", "redis+sentinel://:hunter2@h:port/main", "redis+cluster://h:port"],
)
def test_a_redis_url_that_cannot_be_read_is_a_problem_that_shows_the_form_and_no_password(check: Any, url: str) -> None:
    [problem] = check(entry("openai/gpt-4o"), wallie={"store": {"url": url}}).problems
    assert "wallie.store.url: " in problem
    assert " is no URL of a Redis; expected redis://[user:password@]host:port/db, rediss://..., " in problem
    assert "hunter2" not in problem
