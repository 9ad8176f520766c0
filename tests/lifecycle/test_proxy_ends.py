"""A proxy that is stopped or killed under load."""

from __future__ import annotations

import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from forked import ForkServer
from ledger_support import assert_sums_are_right
from proxy_support import Crowd, Proxy, RecordedLedger, fork_proxy, lay_out
from support import shipped_config, wait_until
from turns import Turns

from wallie_litellm.ledger.writer import LedgerSink

# Seconds after an answer in which a kill may cost its records: a thread gathers events for 0.05 s, the ledger for
# 0.25 s, and the rest is for writing them on a machine that is busy with the load.
LAST_FLUSH = 1.0


class Home:
    """A proxy's folder; the proxy may be started in it again and again."""

    def __init__(self, forks: ForkServer, folder: Any, config: dict[str, Any]) -> None:
        self._forks = forks
        self.path = lay_out(folder, config)
        self.ledger = RecordedLedger(folder / "wallie.db")

    def start(self) -> Proxy:
        return fork_proxy(self._forks, self.path)

    def spool(self) -> Path:
        """The spool of the ledger's records."""
        return next((self.path.parent / "wallie-spool").glob("ledger-*"))

    def users(self) -> list[str]:
        return [row["user_id"] for row in self.ledger.select("wallie_requests")]


@pytest.fixture
def proxy_home(forks, tmp_path, fleet) -> Home:
    config = shipped_config()
    config["model_list"] = fleet.point(config["model_list"])
    del config["wallie"]["ledger"]  # the default: wallie.db in the folder it was started in
    config["wallie"]["providers"] = {}
    return Home(forks, tmp_path, config)


def end_under_load(
    home: Home, name: str, number: signal.Signals, turns: Turns, *, lock: bool = False
) -> tuple[Crowd, float]:
    """The clients, and the times at which the proxy was ended, in ``turns``; ``lock`` locks its ledger first."""
    proxy = home.start()
    crowd = Crowd(proxy, name, clock=turns.now)
    try:
        wait_until(lambda: len(crowd.answered) >= 40)
        time.sleep(LAST_FLUSH)  # the load has to outlast what a kill may cost
        with home.ledger.locked() if lock else nullcontext():
            ended_at = turns.now()
            proxy.stop(number)
    finally:
        proxy.process.kill()
        crowd.leave()
    return crowd, ended_at


def check_database(home: Home) -> None:
    """No record is double, the sums are those of the records, and the file is intact."""
    users = home.users()
    assert len(users) == len(set(users))
    attempts = home.ledger.select("wallie_attempts")
    assert len({(row["request_id"], row["number"]) for row in attempts}) == len(attempts)
    assert_sums_are_right(home.ledger.url)
    assert home.ledger.integrity() == "ok"


def test_a_killed_proxy_loses_at_most_its_last_records_and_a_stopped_one_none(proxy_home) -> None:
    with Turns() as turns:
        crowd, killed_at = end_under_load(proxy_home, "killed", signal.SIGKILL, turns)
    before = set(proxy_home.users())
    missing = {user: killed_at - at for user, at in crowd.answered.items() if user not in before}
    assert not {user: age for user, age in missing.items() if age > LAST_FLUSH}
    check_database(proxy_home)

    # Without the lock, the records would be written before the stop, and the spool would stay unused.
    with Turns() as turns:
        crowd, _ = end_under_load(proxy_home, "stopped", signal.SIGTERM, turns, lock=True)
    assert not set(crowd.answered) <= set(proxy_home.users()), "the lock came too late to be of interest"
    LedgerSink(proxy_home.ledger.url, proxy_home.spool(), worker="next", retention=86_400.0).close(30)
    assert {*crowd.answered, *before} <= set(proxy_home.users())
    check_database(proxy_home)
