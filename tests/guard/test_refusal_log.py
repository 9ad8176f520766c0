"""Refusals in an application's log: a line for the first of a kind, then one every ten seconds with their number."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from support import messages

from wallie_litellm import RateLimited
from wallie_litellm.errors import CircuitOpen, UnknownTier
from wallie_litellm.guard.refusal_log import LINE_EVERY, RefusalLog


def test_many_refusals_of_a_kind_are_one_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    log = RefusalLog(clock.now)
    limited = RateLimited("openai is at its rpm limit.", provider="openai", model="o", retry_after=1.0)

    for _ in range(5):
        log.note(limited)
    log.note(CircuitOpen("groq's circuit is open.", provider="groq", retry_after=1.0))
    log.note(UnknownTier("no such tier"))
    clock.advance(LINE_EVERY)
    log.note(limited)

    assert [record.getMessage() for record in caplog.records] == [
        "refused: openai is at its rpm limit.",
        "refused: groq's circuit is open.",
        "refused: openai is at its rpm limit. (4 more since the last line)",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


async def test_a_refused_request_is_logged_without_its_content(make_router, caplog, monkeypatch) -> None:
    monkeypatch.setattr("wallie_litellm.guard.router.log_refusal", RefusalLog(FakeClock().now).note)
    router = make_router(providers={"openai": {"rpm": 1}}, admission={"max_wait": 0})
    await router.acompletion("gpt-4o", messages(), fallbacks=[])
    for stream in (False, True):
        with pytest.raises(RateLimited):
            await router.acompletion("gpt-4o", messages("my secret plan"), fallbacks=[], stream=stream)

    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("refused")]
    assert len(lines) == 1
    assert "rpm" in lines[0]
    assert "secret" not in caplog.text
