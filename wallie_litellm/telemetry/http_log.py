"""Keeps addresses that are secrets out of httpx's log.

httpx logs every request's address, and the address of a webhook is sufficient to write to its channel.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

_quiet: Final[set[str]] = set()  # names of threads


def hide_requests_of(thread: str) -> None:
    """Drop what httpx logs of the requests of threads with this name."""
    _quiet.add(thread)
    logging.getLogger("httpx").addFilter(_is_shown)  # the same filter is added once


def _is_shown(_record: logging.LogRecord) -> bool:
    return threading.current_thread().name not in _quiet
