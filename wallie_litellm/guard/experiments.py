"""What an application and an operator say of experiments: feedback on answers, and which arm has won."""

from __future__ import annotations

from typing import Final

from wallie_litellm.clock import Clock
from wallie_litellm.events import ExperimentChanged, FeedbackGiven, new_id
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.routing.experiments import CONCLUDED, RESUMED, AlreadyConcluded, Change, Experiment
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
            AlreadyConcluded: it was concluded before.
            ValueError: there is no such experiment, or no such arm, or it has not been started.
        """
        self._change(self._running(name, winner), CONCLUDED, winner, actor, detail)
        self.reporter.on_action(actor, "conclude_experiment", name, _said(f"{winner} has won", detail))

    def resume_arm(self, name: str, arm: str, actor: str = "app", detail: str | None = None) -> None:
        """Have an arm that its guardrail has stopped take its units again, in every worker within seconds.

        The guardrail looks at the requests after that alone.

        Raises:
            AlreadyConcluded: the experiment was concluded before.
            ValueError: there is no such experiment, or no such arm, or it is not stopped.
        """
        experiment = self._running(name, arm)
        if arm not in experiment.standing.stopped:
            raise ValueError(f"{arm} of {name} is not stopped")
        self._change(experiment, RESUMED, arm, actor, detail)
        self.reporter.on_action(actor, "resume_arm", name, _said(f"{arm} goes on", detail))

    def _running(self, name: str, arm: str) -> Experiment:
        known = self.routing.experiments.by_name if self.routing.experiments is not None else {}
        if name not in known:
            raise ValueError(f"unknown experiment {name!r}; known: {', '.join(sorted(known)) or 'none'}")
        experiment = known[name]
        standing, arms = experiment.standing, experiment.settings.arms
        if arm not in arms:
            raise ValueError(f"unknown arm {arm!r}; the arms of {name}: {', '.join(arms)}")
        if standing.since is None:
            raise ValueError(f"{name} has not been started: no worker has read the ledger yet")
        if standing.winner is not None:
            raise AlreadyConcluded(name, standing.winner, standing.concluded_at or 0.0)
        return experiment

    def _change(self, experiment: Experiment, change: str, arm: str, actor: str, detail: str | None) -> None:
        wall, definition = experiment.time_of_change(self.clock.wall()), experiment.settings.definition
        made = Change(new_id(wall), wall, definition, change, arm, detail)
        experiment.note(made)
        self.reporter.publish(ExperimentChanged(made.id, wall, experiment.name, definition, change, arm, actor, detail))


def _said(what: str, detail: str | None) -> str:
    return f"{what}: {detail}" if detail else what
