"""The API's route that switches a decision off at run time, and on again."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from wallie_litellm.dashboard.api_errors import ApiError
from wallie_litellm.dashboard.auth import Visitor
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.usage_ranges import iso
from wallie_litellm.dashboard.visitors import operator_of, reason_of


class Switching(BaseModel):
    """Whether the decision is made from now on, and why, for the record."""

    model_config = ConfigDict(extra="forbid")

    on: bool
    reason: str | None = Field(default=None, max_length=200)


class Switched(BaseModel):
    """The switch as it went on record; ``turned_on``: the file turns the decision on, so that it makes a difference."""

    name: str
    on: bool
    turned_on: bool
    actor: str
    at: str


def add_switch_route(router: APIRouter, service: DashboardService, errors: dict[int | str, dict[str, Any]]) -> None:
    """Add the route; ``errors`` are those that an action may have."""

    @router.post(
        "/routing/{name}",
        tags=["actions"],
        operation_id="switch",
        summary="Switch a decision off, or on again",
        responses=errors,
    )
    async def switch(
        name: Annotated[str, Path(max_length=200)],
        visitor: Annotated[Visitor, Depends(operator_of)],
        asked: Annotated[Switching, Body()],
    ) -> Switched:
        """Off, all is as without its key in the file; over a fleet at all workers. On record with who, when and why."""
        try:
            await service.switch(name, visitor.actor, reason_of(asked.reason), on=asked.on)
        except ValueError as error:
            raise ApiError(404, "wallie_unknown_switch", str(error)) from error
        routing = (await service.status())["routing"]
        return Switched(
            name=name, on=asked.on, turned_on=name in routing["turned_on"], actor=visitor.actor, at=iso(time.time())
        )
