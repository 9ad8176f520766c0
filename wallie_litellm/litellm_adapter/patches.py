"""What this package writes into LiteLLM's objects and settings, one function each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import litellm


class _DebugInfo:
    """LiteLLM's setting for its printed hints, for which it has no lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._suppressed = 0  # calls of suppress() without their restore()
        self._before = False  # the setting before the first of them

    def suppress(self) -> None:
        with self._lock:
            if not self._suppressed:
                self._before, litellm.suppress_debug_info = litellm.suppress_debug_info, True
            self._suppressed += 1

    def restore(self) -> None:
        with self._lock:
            self._suppressed -= 1
            if not self._suppressed:
                litellm.suppress_debug_info = self._before


_debug_info = _DebugInfo()


@contextmanager
def debug_info_suppressed() -> Iterator[None]:
    """Keep LiteLLM from printing its hints about unknown models. Safe to use from several threads at once."""
    _debug_info.suppress()
    try:
        yield
    finally:
        _debug_info.restore()


def without_context_finaliser(stream: Any) -> Any:
    """Keep a LiteLLM stream's finaliser from writing context variables.

    Written in the middle of a garbage collection, they crash CPython up to 3.11 (python/cpython#148891). LiteLLM
    writes them for ``request_correlation_in_logs``, which is off by default.
    """
    if not litellm.request_correlation_in_logs and hasattr(stream, "_restore_consumer_correlation_context"):
        stream._restore_consumer_correlation_context = _restore_nothing
    return stream


def _restore_nothing(**_: Any) -> None:
    pass
