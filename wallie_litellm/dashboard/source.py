"""What the dashboard shows of the present, and what carries out its actions: implemented by ``*_source.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol, get_args

from wallie_litellm.dashboard.view_model import Fleet
from wallie_litellm.guard.live_config import Reloaded

Action = Literal["reset_quota", "close_circuit", "open_circuit", "release_circuit"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
SWITCHING: Final = ("switch_off", "switch_on")  # names among the actions on record
EXPERIMENTING: Final = ("conclude_experiment", "resume_arm")  # those of an experiment and one of its arms
RELOAD: Final = "reload"  # of the configuration; likewise
EXPORTED: Final = "export_csv"  # an export's name among the actions on record


class ActionRefused(Exception):  # noqa: N818 - it says what happened
    """This source carries out no actions; the message says why, and what to do instead."""


class DashboardSource(Protocol):
    """The present state of providers and of the store. Called in the dashboard service's event loop."""

    @property
    def read_only(self) -> str | None:
        """Why this source carries out no actions; ``None`` if it does."""

    async def status(self) -> Mapping[str, Any]:
        """The present, in the shape of :meth:`wallie_litellm.guard.Guard.status`."""

    async def limits(self) -> Mapping[str, Any]:
        """All limits, in the shape of :meth:`wallie_litellm.guard.Guard.limits`."""

    async def fleet(self) -> Fleet:
        """Which store holds the limits, and which processes share it."""

    def act(
        self, action: Action, provider: str, actor: str, detail: str | None = None, model: str | None = None
    ) -> None:
        """Carry out ``action``; it goes on record as ``actor``'s, with ``detail`` as its reason.

        With ``model`` it reaches that one alone: a model's name, or for ``reset_quota`` a pattern of ``models:`` too.

        Raises:
            ValueError: there is no such provider, or no such model at it.
            ActionRefused: this source is read-only.
        """

    def switch(self, name: str, actor: str, detail: str | None = None, *, on: bool) -> None:
        """Switch a decision of routing off, or on again; it goes on record as ``actor``'s.

        Raises:
            ValueError: there is no such switch.
            ActionRefused: this source is read-only.
        """

    def reload(self, actor: str, detail: str | None = None) -> Reloaded:
        """Take up the changed file, in the whole fleet; it goes on record as ``actor``'s.

        Raises:
            ConfigError: it cannot be used.
            ActionRefused: this source is read-only.
        """

    def conclude_experiment(self, name: str, winner: str, actor: str, detail: str | None = None) -> None:
        """End an experiment, whose ``winner`` serves from now on; it goes on record as ``actor``'s.

        Raises:
            AlreadyConcluded: it was concluded before.
            ValueError: there is no such experiment or arm.
            ActionRefused: this source is read-only.
        """

    def resume_arm(self, name: str, arm: str, actor: str, detail: str | None = None) -> None:
        """Have a stopped arm of an experiment take its units again; it goes on record as ``actor``'s.

        Raises:
            ValueError: there is no such experiment or arm, or it is not stopped.
            ActionRefused: this source is read-only.
        """

    def feedback(self, request_id: str, value: float) -> None:
        """Record feedback, from 0 to 1, on the answer to a request.

        Raises:
            ValueError: that is no request's id, or no value.
            ActionRefused: this source is read-only.
        """

    def record_export(self, actor: str, detail: str) -> None:
        """Put an export on record, unless this source is read-only. ``detail`` says what was exported."""
