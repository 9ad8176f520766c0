"""The page of one provider: its present, its last 24 hours, and its failures, each with its request."""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from wallie_litellm.dashboard.auth import Authenticator
from wallie_litellm.dashboard.ledger_reader import LedgerUnavailable
from wallie_litellm.dashboard.page_responses import PageError, base_of, language_of, page_response
from wallie_litellm.dashboard.provider_html import render_provider
from wallie_litellm.dashboard.provider_queries import ProviderDay, gather_provider_day
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.view_model import recorded_only

LONGEST_NAME: Final = 200  # characters


def provider_pages(service: DashboardService, authenticator: Authenticator) -> APIRouter:
    """The route, which is not in the API's description."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages = _ProviderPages(service, authenticator)
    router.get("/providers/{name:path}")(pages.page)
    return router


class _ProviderPages:
    def __init__(self, service: DashboardService, authenticator: Authenticator) -> None:
        self._service, self._authenticator = service, authenticator

    async def page(self, request: Request, name: str) -> Response:
        self._authenticator.enter(request)
        name = name[:LONGEST_NAME]
        present = await self._service.present()
        day, problem = await self._day(name)
        known = next((one for one in present.providers if one.name == name), None)
        if known is None and (day is None or not day.total.attempts):
            raise PageError(404, "problem.not_found")
        shown = recorded_only(name) if known is None else known
        return page_response(
            render_provider(present, shown, day, problem, language=language_of(request), base=base_of(request))
        )

    async def _day(self, name: str) -> tuple[ProviderDay | None, str]:
        """What is on record, or why that cannot be read."""
        try:
            return await self._service.ask(lambda queries: gather_provider_day(queries, name, time.time())), ""
        except LedgerUnavailable as error:
            return None, error.problem
