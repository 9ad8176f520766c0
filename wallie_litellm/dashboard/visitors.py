"""Who sends a request to the API, and whether an action is theirs to take."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from urllib.parse import unquote

from fastapi import Header, Request

from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.dashboard.auth import CSRF_HEADER, Visitor
from wallie_litellm.dashboard.sessions import clean_name


async def visitor_of(request: Request) -> Visitor:
    """The visitor that the route's class has admitted."""
    found: Visitor = request.state.visitor
    return found


async def operator_of(
    request: Request,
    x_wallie_actor: Annotated[str | None, Header(description="who takes the action, for the record")] = None,
    csrf: Annotated[
        str | None, Header(alias=CSRF_HEADER, description="with the cookie: the form token of its session")
    ] = None,
) -> Visitor:
    """The visitor of an action.

    Raises:
        AccessDenied: another site may have made the browser send the request.
    """
    found = await visitor_of(request)
    request.state.authenticator.check_action(request, found, csrf)
    if x_wallie_actor:
        # Clients write characters outside of ASCII as in URLs.
        found = replace(found, name=clean_name(unquote(x_wallie_actor)))
    return found


def reason_of(text: str | None) -> str | None:
    """Why an operator acts, fit to be recorded; ``None`` without a reason."""
    return one_line(text or "", "").strip() or None
