"""Coroutines that do not wait, run without an event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class NotReady(Exception):  # noqa: N818 - it says what happened
    """A coroutine would have to wait."""


def run_ready(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that ends without waiting.

    Raises:
        NotReady: it waits, or it needs a running event loop; it has been closed.
    """
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    except RuntimeError as error:
        if "no running event loop" in str(error):
            raise NotReady from error
        raise
    work.close()
    raise NotReady
