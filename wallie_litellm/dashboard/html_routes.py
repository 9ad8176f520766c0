"""The routes for people: the page, the session, the confirmation of an action, and static files."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final, cast
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import HTMLResponse

from wallie_litellm.dashboard.auth import AccessDenied, Authenticator
from wallie_litellm.dashboard.html import render_confirm, render_export, render_login, render_page, render_playbook
from wallie_litellm.dashboard.page_responses import (
    VARY,
    PageError,
    base_of,
    delete_notice,
    delete_session,
    language_of,
    notice_of,
    own_page,
    page_response,
    range_asked,
    read_form,
    redirect,
    retry_headers,
    set_notice,
    set_session,
    zone_of,
)
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panel_version import PanelVersion
from wallie_litellm.dashboard.provider_routes import LONGEST_NAME
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.source import ACTIONS, EXPERIMENTING, RELOAD, SWITCHING, Action, ActionRefused
from wallie_litellm.dashboard.translations import translator
from wallie_litellm.dashboard.usage_tables import DEFAULT_BY, TABS, By
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE
from wallie_litellm.errors import ConfigError

LONGEST_REASON: Final = 200  # characters
LONGEST_VERSION: Final = 80  # characters
_STATIC: Final = {
    "wallie.css": "text/css",
    "live.js": "text/javascript",
    "zone.js": "text/javascript",
    "favicon.svg": "image/svg+xml",
}


def page_routes(service: DashboardService, authenticator: Authenticator) -> APIRouter:
    """The routes, none of which is in the API's description."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    panels = _PanelPages(service, authenticator)
    router.get("/")(panels.page)
    router.get("/panels")(panels.panels)
    sessions = _SessionPages(authenticator)
    router.get("/login")(sessions.form)
    router.post("/login")(sessions.log_in)
    router.post("/logout")(sessions.log_out)
    actions = _ActionPages(service, authenticator)
    router.get("/confirm")(actions.confirm)
    router.post("/orders")(actions.act)
    files_ = _FileRoutes(authenticator)
    router.get("/export")(files_.export)
    router.get("/playbook")(files_.playbook)
    router.get("/static/{name}")(files_.static)
    return router


class _PanelPages:
    """The page, and the live refresh of it and of those of providers."""

    def __init__(self, service: DashboardService, authenticator: Authenticator) -> None:
        self._service, self._authenticator = service, authenticator

    async def page(
        self,
        request: Request,
        chosen: str = Query(DEFAULT_RANGE, alias="range"),
        since: str = "",
        until: str = "",
        by: str = DEFAULT_BY,
    ) -> Response:
        visitor = self._authenticator.enter(request)
        language, zone, tab = language_of(request), zone_of(request, self._service.config.dashboard.timezone), _tab(by)
        name = range_asked(chosen, since, until, zone.name)
        panels = await self._service.panels(PanelKey(name, language, tab, zone=zone.name))
        logged_in = visitor.via == "session"
        response = page_response(
            render_page(
                panels.html.decode(),
                language=language,
                base=base_of(request),
                range_name=name,
                zone=zone,
                by=tab,
                visitor_name=visitor.name if logged_in else None,
                csrf=self._authenticator.csrf_token(request, visitor) if logged_in else "",
                logged_in=logged_in,
                notice=notice_of(request, language),
                name=self._service.config.dashboard.name,
            )
        )
        delete_notice(request, response)
        return response

    async def panels(
        self,
        request: Request,
        chosen: str = Query(DEFAULT_RANGE, alias="range"),
        by: str = DEFAULT_BY,
        provider: str = "",
        after: str = "",
    ) -> Response:
        self._authenticator.enter(request)
        shown = PanelVersion.parse(after[:LONGEST_VERSION])
        zone = zone_of(request, self._service.config.dashboard.timezone).name
        key = PanelKey(range_asked(chosen), language_of(request), _tab(by), zone=zone)
        if provider:
            key = key._replace(by=DEFAULT_BY, provider=provider[:LONGEST_NAME], base=base_of(request))
        panels = await self._service.panels(key, after=shown)
        headers = {"x-wallie-version": str(panels.version), "vary": VARY, "cache-control": "no-cache, private"}
        if shown == panels.version:
            return Response(status_code=204, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return HTMLResponse(panels.compressed, headers={**headers, "content-encoding": "gzip"})
        return HTMLResponse(panels.html, headers=headers)


class _SessionPages:
    """Logging in and out."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def form(self, request: Request, next: str = "") -> Response:  # noqa: A002 - the parameter's usual name
        if not self._authenticator.needs_token():
            self._authenticator.enter(request)
            return redirect(request, "")
        text = render_login(language=language_of(request), base=base_of(request), next=own_page(next), error=None)
        return page_response(text)

    async def log_in(self, request: Request) -> Response:
        form = await read_form(request)
        following = own_page(form.get("next", ""))
        try:
            session = self._authenticator.log_in(request, form.get("token", ""), form.get("name", ""))
        except AccessDenied as error:
            if error.status == 403:
                raise
            return self._refused(request, error, following)
        response = redirect(request, following)
        set_session(request, response, session)
        return response

    async def log_out(self, request: Request) -> Response:
        visitor = self._authenticator.enter(request)
        self._authenticator.check_action(request, visitor, (await read_form(request)).get("csrf"))
        response = redirect(request, "login")
        delete_session(request, response)
        return response

    def _refused(self, request: Request, error: AccessDenied, following: str) -> Response:
        language = language_of(request)
        key = "login.throttled" if error.status == 429 else "login.wrong"
        message = translator(language)(key, seconds=str(error.retry_after))
        text = render_login(language=language, base=base_of(request), next=following, error=message)
        return HTMLResponse(text, error.status, headers=retry_headers(error))


class _ActionPages:
    """An action's confirmation, and the action."""

    def __init__(self, service: DashboardService, authenticator: Authenticator) -> None:
        self._service, self._authenticator = service, authenticator

    async def confirm(
        self,
        request: Request,
        action: str = "",
        provider: str = "",
        model: str = "",
        chosen: str = Query(DEFAULT_RANGE, alias="range"),
    ) -> Response:
        visitor = self._authenticator.enter(request)
        await self._require_action(action, provider, model)
        session = None
        if visitor.via == "loopback" and not visitor.session:
            session, visitor = self._authenticator.open_loopback_session(visitor)
        language = language_of(request)
        response = page_response(
            render_confirm(
                language=language,
                base=base_of(request),
                action=action,
                provider=provider,
                model=model,
                range_name=range_asked(chosen),
                csrf=self._authenticator.csrf_token(request, visitor),
                visitor_name=visitor.name,
                # Workers agree on their experiments by the ledger.
                scope_note=None if action in EXPERIMENTING else await self._scope_note(language),
            )
        )
        if session is not None:
            set_session(request, response, session)
        return response

    async def act(self, request: Request) -> Response:
        visitor = self._authenticator.enter(request)
        form = await read_form(request)
        self._authenticator.check_action(request, visitor, form.get("csrf"))
        provider, model = form.get("provider", ""), form.get("model", "")
        action = await self._require_action(form.get("action", ""), provider, model)
        reason = "".join(filter(str.isprintable, form.get("reason", "")))[:LONGEST_REASON].strip() or None
        try:
            await self._carry_out(action, provider, model, visitor.actor, reason)
        except ValueError as error:  # the model has gone meanwhile
            raise PageError(404, "problem.not_found") from error
        except ConfigError as error:
            raise PageError(422, "problem.reload", reason="; ".join(error.problems)) from error
        except ActionRefused as error:
            raise PageError(409, "problem.read_only", reason=str(error)) from error
        response = redirect(request, f"?range={quote(range_asked(form.get('range', '')))}")
        set_notice(request, response, action, f"{provider} {model}" if model else provider)
        return response

    async def _carry_out(self, action: str, name: str, model: str, actor: str, reason: str | None) -> None:
        if action == RELOAD:
            await self._service.reload(actor, reason)
        elif action in SWITCHING:
            await self._service.switch(name, actor, reason, on=action == "switch_on")
        elif action == "conclude_experiment":
            await self._service.conclude_experiment(name, model, actor, reason)
        elif action == "resume_arm":
            await self._service.resume_arm(name, model, actor, reason)
        else:
            await self._service.act(cast(Action, action), name, actor, reason, model or None)

    async def _require_action(self, action: str, provider: str, model: str) -> str:
        status = await self._service.status()
        described: Mapping[str, Any] | None
        if action == RELOAD:
            config = status.get("config")
            described = {} if config is not None and provider == config["file"] else None
        elif action in SWITCHING:
            described = {} if provider in status["routing"]["switches"] else None
        elif action in EXPERIMENTING:
            one = status["routing"].get("experiments", {}).get(provider)
            described = None if one is None or one["state"] != "running" or not model else {"models": one["arms"]}
        else:
            described = status["providers"].get(provider) if action in ACTIONS else None
        if described is None:
            raise PageError(404, "problem.not_found")
        called = () if action == "reset_quota" else described.get("called_models", ())
        if model and model not in {*described.get("models", {}), *called}:
            raise PageError(404, "problem.not_found")
        if self._service.source.read_only is not None:
            raise PageError(409, "problem.read_only", reason=self._service.source.read_only)
        return action

    async def _scope_note(self, language: str) -> str | None:
        """What to consider where the action reaches one process of several."""
        store: dict[str, Any] = (await self._service.status())["store"]
        processes = store.get("processes", 1)
        return translator(language)("confirm.one_of_many", processes=str(processes)) if processes > 1 else None


class _FileRoutes:
    """The form for an export, the playbook, and the page's static files."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def export(self, request: Request, chosen: str = Query(DEFAULT_RANGE, alias="range")) -> Response:
        visitor = self._authenticator.enter(request)
        text = render_export(
            language=language_of(request),
            base=base_of(request),
            range_name=range_asked(chosen),
            visitor_name=visitor.name,
        )
        return page_response(text)

    async def playbook(self, request: Request) -> Response:
        self._authenticator.enter(request)
        return page_response(render_playbook(language=language_of(request), base=base_of(request)))

    async def static(self, request: Request, name: str) -> Response:
        if not self._authenticator.needs_token():
            self._authenticator.enter(request)
        if name not in _STATIC:
            raise PageError(404, "problem.not_found")
        body = files("wallie_litellm.dashboard").joinpath("static", name).read_bytes()
        headers = {"etag": f'"{sha256(body).hexdigest()[:24]}"', "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=_STATIC[name], headers=headers)


def _tab(name: str) -> By:
    return next((by for by in TABS if by == name), DEFAULT_BY)
