"""Workers with one ledger agree on their experiments: started once, an arm stopped once, concluded for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_support import ended, rows, settled
from sqlalchemy import select
from support import wait_until

from wallie_litellm.config import ExperimentSettings, WallieConfig
from wallie_litellm.events import Event, new_id
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.experiment_watch import ExperimentWatch
from wallie_litellm.ledger.schema import actions, alerts, experiment_changes, feedback
from wallie_litellm.ledger.writer import LedgerSink
from wallie_litellm.routing.experiments import AlreadyConcluded, Experiment, ExperimentStep

STATED = {
    "feature": "chat", "arms": {"mini": 0.5, "sonnet": 0.5}, "metric": "cost", "stop_arm_above": {"error_rate": 0.1},
}  # fmt: skip


class Worker:
    """A guard with its own sink and watch on a shared ledger."""

    def __init__(self, url: str, place: Path, **stated: Any) -> None:
        config = WallieConfig.model_validate(
            {"features": {"chat": {}}, "experiments": {"m": {**STATED, **stated}}, "ledger": {"url": url}}
        )
        self.guard = Guard(config)
        self.sink = LedgerSink(url, place, worker=place.name, retention=86_400.0, flush_interval=0.02)
        self.guard.bus.add(lambda: self.sink)
        steps = self.guard.routing.experiments
        assert steps is not None
        self.steps: ExperimentStep = steps
        reporter = self.guard.reporter
        self.watch = ExperimentWatch(url, steps.by_name, reporter.publish, reporter.once, interval=0.05)
        self.watch.start(10.0)

    @property
    def experiment(self) -> Experiment:
        return self.steps.by_name["m"]

    def record(self, events: list[Event]) -> None:
        for event in events:
            self.guard.reporter.publish(event)

    def flush(self) -> None:
        """Have all of it written."""
        assert self.guard.bus.flush_blocking(30)

    def close(self) -> None:
        self.watch.close()
        self.guard.close()


@pytest.fixture
def worker(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(**stated: Any) -> Worker:
        made.append(Worker(database_url, tmp_path / f"spool-{len(made)}", **stated))
        return made[-1]

    yield make
    for one in made:
        one.close()


def traffic(arm: str, failed: bool) -> list[Event]:
    ends = [ended(settled(success=not failed), experiment="m", arm=arm) for _ in range(50)]
    return [end._replace(id=new_id(end.at)) for end in ends]


def test_an_arm_that_fails_is_stopped_once_for_all_workers_and_after_a_restart(
    worker: Callable[..., Worker], database_url: str
) -> None:
    first, second = worker(), worker()
    first.record([*traffic("mini", failed=False), *traffic("sonnet", failed=True)])
    for one in (first, second):
        wait_until(lambda one=one: one.experiment.standing.stopped == {"sonnet"})
    third = worker()
    assert third.experiment.standing.stopped == {"sonnet"}  # before its first request
    for one in (first, second):
        one.flush()
    assert [row.change for row in rows(database_url, select(experiment_changes).order_by("at"))] == [
        "started",
        "stopped",
    ]
    alert = rows(database_url, select(alerts))[0]
    assert (alert.type, alert.level, alert.model, alert.detail) == ("arm_stopped", "warning", "sonnet", "m")


def test_a_resumed_arm_goes_on_in_all_workers_until_it_fails_again(
    worker: Callable[..., Worker], database_url: str
) -> None:
    first, second = worker(), worker()
    first.record([*traffic("mini", failed=False), *traffic("sonnet", failed=True)])
    for one in (first, second):
        wait_until(lambda one=one: one.experiment.standing.stopped == {"sonnet"})
    first.guard.resume_arm("m", "sonnet", "cli:ops", "repaired")
    wait_until(lambda: second.experiment.standing.resumed.keys() == {"sonnet"})
    first.record(traffic("sonnet", failed=True)[:40])
    for one in (first, second):
        wait_until(lambda one=one: one.experiment.standing.stopped == {"sonnet"})
        one.flush()
    changes = rows(database_url, select(experiment_changes).order_by("at"))
    assert [row.change for row in changes] == ["started", "stopped", "resumed", "stopped"]
    looked_at = int(changes[-1].reason.partition("its last ")[2].partition(" ")[0])
    assert looked_at <= 40  # what had stopped it before stops it no more
    assert len(rows(database_url, select(alerts))) == 2


def test_a_conclusion_holds_for_all_workers_and_after_a_restart(
    worker: Callable[..., Worker], database_url: str
) -> None:
    first, second = worker(), worker()
    first.guard.conclude_experiment("m", "sonnet", "cli:ops", "half the price")
    assert first.experiment.standing.winner == "sonnet"
    wait_until(lambda: second.experiment.standing.winner == "sonnet")
    third = worker()
    assert (third.experiment.standing.state, third.experiment.standing.reason) == ("concluded", "half the price")
    first.flush()
    (action,) = rows(database_url, select(actions))
    assert (action.actor, action.action, action.provider) == ("cli:ops", "conclude_experiment", "m")
    assert action.detail == "sonnet has won: half the price"
    with pytest.raises(AlreadyConcluded, match="m was concluded before, at 20"):
        third.guard.conclude_experiment("m", "mini")


def test_a_forked_worker_follows_too(worker: Callable[..., Worker]) -> None:
    first = worker()
    first.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            wait_until(lambda: first.experiment.standing.winner == "sonnet", 20.0)
            status = 0
        finally:
            os._exit(status)
    first.guard.conclude_experiment("m", "sonnet")
    assert os.waitpid(child, 0)[1] == 0


def test_another_definition_begins_anew(worker: Callable[..., Worker], database_url: str) -> None:
    first = worker()
    first.guard.conclude_experiment("m", "sonnet")
    first.flush()
    changed = worker(arms={"mini": 0.3, "sonnet": 0.7})
    assert changed.experiment.standing.state == "running"
    changed.flush()
    wait_until(lambda: first.experiment.standing.state == "not_started")  # and does not begin its own in turns
    assert len(rows(database_url, select(experiment_changes))) == 3
    assert ExperimentSettings.model_validate(STATED).definition != changed.experiment.settings.definition


def test_feedback_reaches_the_ledger(worker: Callable[..., Worker], database_url: str) -> None:
    first = worker()
    first.guard.feedback("r1", 0.25)
    first.guard.feedback("r1", 1)
    first.flush()
    assert [(row.request_id, row.value) for row in rows(database_url, select(feedback).order_by("id"))] == [
        ("r1", 0.25),
        ("r1", 1.0),
    ]


@pytest.mark.parametrize(
    ("request_id", "value", "error"),
    [("", 1, ValueError), ("x" * 49, 1, ValueError), ("r1", 1.5, ValueError), ("r1", -0.1, ValueError),
     ("r1", float("nan"), ValueError), ("r1", float("inf"), ValueError), ("r1", 10**400, ValueError),
     ("r1", True, TypeError), ("r1", "1", TypeError), (7, 1, TypeError)],
)  # fmt: skip
def test_feedback_is_from_0_to_1_on_a_request(request_id: Any, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Guard().feedback(request_id, value)


def test_only_an_arm_of_an_experiment_can_win() -> None:
    guard = Guard(WallieConfig.model_validate({"features": {"chat": {}}, "experiments": {"m": STATED}}))
    with pytest.raises(ValueError, match="unknown experiment 'x'; known: m"):
        guard.conclude_experiment("x", "mini")
    with pytest.raises(ValueError, match="unknown arm 'opus'; the arms of m: mini, sonnet"):
        guard.conclude_experiment("m", "opus")
    with pytest.raises(ValueError, match="m has not been started"):
        guard.conclude_experiment("m", "mini")
    with pytest.raises(ValueError, match="known: none"):
        Guard().conclude_experiment("m", "mini")


def test_without_a_ledger_to_read_experiments_go_on_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "wallie.db"
    place.write_text("no database")
    one = Experiment("m", ExperimentSettings.model_validate(STATED), frozenset())
    watch = ExperimentWatch(f"sqlite:///{place}", {"m": one}, lambda _: None, lambda *_: None, interval=0.02)
    watch.start(10.0)
    wait_until(lambda: "experiments go on as they stand" in caplog.text)
    watch.close()
    assert caplog.text.count("experiments go on as they stand") == 1
    assert one.standing.state == "not_started"
