"""The settings of LiteLLM that this package changes for a moment are restored."""

from __future__ import annotations

import threading
from contextlib import suppress

import litellm
import pytest

from wallie_litellm.litellm_adapter.debug_info import debug_info_suppressed


@pytest.mark.parametrize("before", [False, True])
def test_debug_info_is_restored_after_an_error(monkeypatch, before):
    monkeypatch.setattr(litellm, "suppress_debug_info", before)
    with suppress(RuntimeError), debug_info_suppressed():
        assert litellm.suppress_debug_info is True
        raise RuntimeError
    assert litellm.suppress_debug_info is before


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("leaves_first", [0, 1])
def test_debug_info_of_two_threads_that_overlap_is_left_as_it_was(monkeypatch, before, leaves_first):
    monkeypatch.setattr(litellm, "suppress_debug_info", before)
    inside, leave = threading.Barrier(3), [threading.Event(), threading.Event()]

    def hold(number: int) -> None:
        with debug_info_suppressed():
            inside.wait(10)
            leave[number].wait(10)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    assert litellm.suppress_debug_info is True
    for number in (leaves_first, 1 - leaves_first):
        assert litellm.suppress_debug_info is True, "one of the threads is still inside"
        leave[number].set()
        threads[number].join(10)
    assert litellm.suppress_debug_info is before


def test_debug_info_of_many_threads_is_left_as_it_was(monkeypatch):
    monkeypatch.setattr(litellm, "suppress_debug_info", False)

    def enter() -> None:
        for _ in range(500):
            with debug_info_suppressed():
                assert litellm.suppress_debug_info is True

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert litellm.suppress_debug_info is False
