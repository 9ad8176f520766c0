"""The API's route that takes up a changed configuration."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel, ConfigDict, Field

from wallie_litellm.dashboard.api_errors import ApiError
from wallie_litellm.dashboard.auth import Visitor
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.usage_ranges import iso
from wallie_litellm.dashboard.visitors import operator_of, reason_of
from wallie_litellm.errors import ConfigError


class ReloadRequest(BaseModel):
    """Why the file is reloaded, for the record."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=200)


class ReloadDone(BaseModel):
    """The keys that are taken up, and those that only a restart takes up."""

    changed: list[str]
    restart_needed: list[str]
    unreached: int = Field(description="workers beside this one that share no store with it, and keep what they have")
    actor: str
    at: str


def add_reload_route(router: APIRouter, service: DashboardService, errors: dict[int | str, dict[str, Any]]) -> None:
    """Add the route; ``errors`` are those that an action may have."""

    @router.post(
        "/config/reload",
        tags=["actions"],
        operation_id="reload_config",
        summary="Take up the changed configuration",
        responses=errors,
    )
    async def reload_config(
        visitor: Annotated[Visitor, Depends(operator_of)], asked: Annotated[ReloadRequest, Body()]
    ) -> ReloadDone:
        """No request ends for it; in a fleet each worker reads its own file. A file with a mistake changes nothing."""
        try:
            done = await service.reload(visitor.actor, reason_of(asked.reason))
        except ConfigError as error:
            raise ApiError(422, "wallie_config_refused", "; ".join(error.problems)) from error
        store = (await service.status())["store"]
        return ReloadDone(
            changed=done.changed,
            restart_needed=done.restart_needed,
            unreached=store.get("processes", 1) - 1,
            actor=visitor.actor,
            at=iso(time.time()),
        )
