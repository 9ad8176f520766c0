"""What an application and an operator say of experiments: feedback on answers, and which arm has won."""

from __future__ import annotations

from typing import Final

from wallie_litellm.clock import Clock
from wallie_litellm.events import ExperimentChanged, FeedbackGiven, new_id
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.routing.experiments import CONCLUDED, Change
from wallie_litellm.routing.routing import Routing

LONGEST_ID: Final = 48  # characters of a request's id


class ExperimentActions:
    """The part of the guard that is about experiments."""

    clock: Clock
    reporter: Reporter
    routing: Routing

    def feedback(self, request_id: str, value: float) -> None:
        """Record how good the answer to a request was, from 0 to 1; of several for one request the last counts.

        Raises:
            TypeError: ``request_id`` is no text, or ``value`` no number.
            ValueError: ``request_id`` is empty or no request's, or ``value`` is not from 0 to 1.
        """
        if not isinstance(request_id, str):
            raise TypeError(f"request_id: found {type(request_id).__name__}, expected text")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"value: found {type(value).__name__}, expected a number from 0 to 1")
        if not 0 < len(request_id) <= LONGEST_ID or not request_id.isprintable():
            raise ValueError("request_id: expected the id of a request, as result.request_id or x-wallie-request-id")
        if not 0 <= value <= 1:
            raise ValueError(f"value: found {value!r}, expected a number from 0 to 1")
        wall = self.clock.wall()
        self.reporter.publish(FeedbackGiven(new_id(wall), wall, request_id, float(value)))

    def conclude_experiment(self, name: str, winner: str, actor: str = "app", detail: str | None = None) -> None:
        """End an experiment: from now on ``winner`` serves its requests, in every worker within seconds.

        Raises:
            ValueError: there is no such experiment, or no such arm, or it has not been started or been concluded.
        """
        known = self.routing.experiments.by_name if self.routing.experiments is not None else {}
        if name not in known:
            raise ValueError(f"unknown experiment {name!r}; known: {', '.join(sorted(known)) or 'none'}")
        experiment = known[name]
        if winner not in experiment.settings.arms:
            raise ValueError(f"unknown arm {winner!r}; the arms of {name}: {', '.join(experiment.settings.arms)}")
        if experiment.standing.since is None:
            raise ValueError(f"{name} has not been started: no worker has read the ledger yet")
        if experiment.standing.winner is not None:
            raise ValueError(f"{name} has been concluded: {experiment.standing.winner} has won")
        wall, definition = experiment.time_of_change(self.clock.wall()), experiment.settings.definition
        change = Change(new_id(wall), wall, definition, CONCLUDED, winner, detail)
        experiment.note(change)
        self.reporter.publish(ExperimentChanged(change.id, wall, name, definition, CONCLUDED, winner, actor, detail))
        self.reporter.on_action(
            actor, "conclude_experiment", name, f"{winner} has won" + (f": {detail}" if detail else "")
        )
