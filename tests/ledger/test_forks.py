"""A fork waits for transactions, so that a child finds no lock that is never released."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

from wallie_litellm.ledger.forks import BARRIER, ForkBarrier


def write(database: Path, row: int) -> None:
    connection = sqlite3.connect(database, isolation_level=None, timeout=2)
    connection.execute("begin immediate")
    connection.execute("insert into rows values (?)", (row,))
    connection.execute("commit")


def test_a_child_can_write_though_a_thread_of_its_parent_was_writing(tmp_path: Path) -> None:
    database = tmp_path / "ledger.db"
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table rows (number)")
    begun, forking = threading.Event(), threading.Event()

    def transaction() -> None:
        with BARRIER.transaction():
            connection.execute("begin immediate")
            connection.execute("insert into rows values (1)")
            begun.set()
            forking.wait(0.2)
            connection.execute("commit")

    writer = threading.Thread(target=transaction)
    writer.start()
    assert begun.wait(60)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            write(database, 2)
            status = 0
        finally:
            os._exit(status)
    writer.join()
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(connection.execute("select number from rows")) == [(1,), (2,)]


def test_no_transaction_begins_during_a_fork() -> None:
    barrier, entered = ForkBarrier(), threading.Event()

    def transaction() -> None:
        with barrier.transaction():
            entered.set()

    barrier.before_fork()
    thread = threading.Thread(target=transaction)
    thread.start()
    assert not entered.wait(0.05)
    barrier.after_fork_in_parent()
    assert entered.wait(60)
    thread.join()


def test_a_child_does_not_wait_for_transactions_of_its_parent() -> None:
    barrier = ForkBarrier()
    with barrier.transaction():
        barrier.after_fork_in_child()
        barrier.before_fork()
        barrier.after_fork_in_parent()
