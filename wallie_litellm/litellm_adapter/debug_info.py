"""LiteLLM's printed hints, kept from the output while this package looks up an unknown model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
