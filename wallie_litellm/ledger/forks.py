"""No fork in the middle of a transaction: SQLite keeps its locks in memory that a child copies, and never releases.

A child that is forked while another thread writes would find the database locked for ever (SQLITE_BUSY), in connections
of its own too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FORK_TIMEOUT: Final = 1.0  # seconds that a fork waits for transactions, and a transaction for forks


class ForkBarrier:
    """Transactions on one side, forks on the other: while there is one of these, none of those begins."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._transactions = 0
        self._forks = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The time of a transaction."""
        with self._changed:
            self._changed.wait_for(lambda: not self._forks, FORK_TIMEOUT)
            self._transactions += 1
        try:
            yield
        finally:
            with self._changed:
                self._transactions -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait for the end of the transactions, and keep others from beginning."""
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._transactions <= 0, FORK_TIMEOUT)

    def after_fork_in_parent(self) -> None:
        """Let transactions begin again."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Begin anew: the transactions, if any, are the parent's."""
        self._changed, self._transactions, self._forks = threading.Condition(), 0, 0


BARRIER: Final = ForkBarrier()

os.register_at_fork(
    before=BARRIER.before_fork,
    after_in_parent=BARRIER.after_fork_in_parent,
    after_in_child=BARRIER.after_fork_in_child,
)
