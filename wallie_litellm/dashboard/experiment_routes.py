"""The API's routes about experiments: their figures, their end, and feedback on answers."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from wallie_litellm.dashboard.api_errors import ApiError
from wallie_litellm.dashboard.auth import Visitor
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.usage_ranges import iso
from wallie_litellm.dashboard.visitors import operator_of, reason_of
from wallie_litellm.ledger.experiments import as_json
from wallie_litellm.routing.experiments import AlreadyConcluded

TAGS: Final[list[Any]] = ["experiments"]


class EffectRange(BaseModel):
    """A difference from the first arm, and its bounds, which hold at every look; of latency a share."""

    low: float
    estimate: float
    high: float


class Split(BaseModel):
    """The probability of a division of the units as uneven as theirs; it is wrong where that is below 0.001."""

    p: float | None
    is_wrong: bool


class ArmRow(BaseModel):
    """One arm's figures since the start."""

    arm: str
    share: float
    stopped: bool = Field(description="by its guardrail: its units go to the other arms")
    units: int
    requests: int
    successes: int
    by_caller: int
    fallbacks: int = Field(description="the successes that another member of the chain answered")
    unpriced: int
    cost_usd: float | None = Field(description="mean of a request")
    p50_ms: float | None
    p95_ms: float | None
    feedbacks: int
    feedback: float | None = Field(description="mean")
    measured: int = Field(description="requests with a value of the metric")
    mean: float | None = Field(description="of the metric; of latency the geometric mean in milliseconds")
    effect: EffectRange | None
    error_rate: float | None
    fallback_rate: float | None


class ExperimentRow(BaseModel):
    """One experiment."""

    name: str
    feature: str
    metric: str
    unit: str
    state: str = Field(description="not_started, running or concluded")
    since: str | None
    leader: str | None = Field(description="the arm that is better than all others, which holds at every look")
    winner: str | None = Field(description="the arm with which it was concluded")
    concluded_at: str | None
    reason: str | None
    split: Split
    arms: list[ArmRow]


class Experiments(BaseModel):
    """All experiments of the configuration."""

    experiments: list[ExperimentRow]


class Conclusion(BaseModel):
    """The arm that has won, the leader unless given, and why, for the record."""

    model_config = ConfigDict(extra="forbid")

    winner: str | None = Field(default=None, max_length=200)
    reason: str | None = Field(default=None, max_length=200)


class Concluded(BaseModel):
    """The end of an experiment as it went on record; ``before``: by an earlier request, and nothing has changed."""

    experiment: str
    winner: str
    actor: str | None = Field(description="who sent this request; null where it was concluded before")
    at: str
    before: bool = False


class Resuming(BaseModel):
    """The arm that goes on, and why, for the record."""

    model_config = ConfigDict(extra="forbid")

    arm: str = Field(max_length=200)
    reason: str | None = Field(default=None, max_length=200)


class Resumed(BaseModel):
    """The arm that goes on, as it went on record."""

    experiment: str
    arm: str
    actor: str
    at: str


class Feedback(BaseModel):
    """How good the answer to a request was."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(max_length=48, description="as `x-wallie-request-id` or `result.request_id` has it")
    value: float = Field(ge=0, le=1, strict=True, description="from 0, of no use, to 1")


class Given(BaseModel):
    """The feedback as it went on record."""

    request_id: str
    value: float


def add_experiment_routes(
    router: APIRouter, service: DashboardService, errors: dict[int | str, dict[str, Any]]
) -> None:
    """Add the routes; ``errors`` are those that an action may have."""

    @router.get("/experiments", tags=TAGS, operation_id="experiments", summary="Experiments and their arms")
    async def experiments() -> Experiments:
        """Each experiment's arms, with intervals that hold at every look, since it was started."""
        found = await service.ask(lambda queries: queries.experiments(service.config.experiments))
        return Experiments.model_validate({"experiments": [as_json(one) for one in found]})

    @router.post(
        "/experiments/{name:path}/conclude",  # a name may have a slash
        tags=TAGS,
        operation_id="conclude_experiment",
        summary="End an experiment",
        responses=errors,
    )
    async def conclude(
        name: Annotated[str, Path(max_length=200)],
        visitor: Annotated[Visitor, Depends(operator_of)],
        conclusion: Annotated[Conclusion | None, Body()] = None,
    ) -> Concluded:
        """The winner serves all requests of the experiment from now on. On record with who, when and why.

        Of one that was concluded before nothing changes: that is 200 with the same winner, 409 with another.
        """
        stated = conclusion or Conclusion()
        winner = stated.winner or await _leader(service, name)
        try:
            await service.conclude_experiment(name, winner, visitor.actor, reason_of(stated.reason))
        except AlreadyConcluded as error:
            if winner != error.winner:
                raise ApiError(409, "wallie_already_concluded", str(error)) from error
            return Concluded(experiment=name, winner=winner, actor=None, at=iso(error.at), before=True)
        except ValueError as error:
            raise ApiError(404, "wallie_unknown_experiment", str(error)) from error
        return Concluded(experiment=name, winner=winner, actor=visitor.actor, at=iso(time.time()))

    @router.post(
        "/experiments/{name:path}/resume",
        tags=TAGS,
        operation_id="resume_arm",
        summary="Have a stopped arm of an experiment go on",
        responses=errors,
    )
    async def resume(
        name: Annotated[str, Path(max_length=200)],
        visitor: Annotated[Visitor, Depends(operator_of)],
        resuming: Annotated[Resuming, Body()],
    ) -> Resumed:
        """Its units come back to it, and its guardrail looks at what comes after. On record with who, when and why."""
        try:
            await service.resume_arm(name, resuming.arm, visitor.actor, reason_of(resuming.reason))
        except AlreadyConcluded as error:
            raise ApiError(409, "wallie_already_concluded", str(error)) from error
        except ValueError as error:
            raise ApiError(404, "wallie_unknown_experiment", str(error)) from error
        return Resumed(experiment=name, arm=resuming.arm, actor=visitor.actor, at=iso(time.time()))

    @router.post(
        "/feedback", tags=TAGS, operation_id="feedback", summary="Say how good an answer was", responses=errors
    )
    async def feedback(visitor: Annotated[Visitor, Depends(operator_of)], given: Annotated[Feedback, Body()]) -> Given:
        """From 0 to 1, for an experiment whose metric is feedback; of several for one request the last counts."""
        try:
            await service.feedback(given.request_id, given.value)
        except ValueError as error:
            raise ApiError(422, "wallie_bad_request", str(error)) from error
        return Given(request_id=given.request_id, value=given.value)


async def _leader(service: DashboardService, name: str) -> str:
    """The arm that leads the experiment, or that it was concluded with.

    Raises:
        ApiError: there is no such experiment, or no arm leads it yet.
    """
    settings = service.config.experiments.get(name)
    if settings is None:
        known = ", ".join(sorted(service.config.experiments)) or "none"
        raise ApiError(404, "wallie_unknown_experiment", f"unknown experiment {name!r}; known: {known}"[:2000])
    (found,) = await service.ask(lambda queries: queries.experiments({name: settings}))
    if found.standing.winner is not None:
        return found.standing.winner
    if found.leader is None:
        raise ApiError(409, "wallie_no_leader", f"no arm of {name} is better than the others yet; say which has won")
    return found.leader
