"""The routes that people use: the page, logging in, and giving orders."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from wallie_litellm.dashboard.auth import SESSION_COOKIE, SESSION_SECONDS, AccessDenied, Authenticator
from wallie_litellm.dashboard.guard_source import ACTIONS, Action, ActionRefused
from wallie_litellm.dashboard.html import render_confirm, render_export, render_login, render_page, render_problem
from wallie_litellm.dashboard.service import DashboardService
from wallie_litellm.dashboard.translations import choose_language, translator
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE, RANGES

LONGEST_REASON: Final = 200  # characters
NOTICE_COOKIE: Final = "wallie_notice"
NOTICE_SECONDS: Final = 30
_STATIC: Final = {"wallie.css": "text/css", "live.js": "text/javascript", "favicon.svg": "image/svg+xml"}
_VARY: Final = "Accept-Language, Accept-Encoding, Cookie, Authorization"


class PageError(Exception):
    """Answer with a page that says what is wrong."""

    def __init__(self, status: int, key: str, **values: str) -> None:
        super().__init__(key)
        self.status, self.key, self.values = status, key, values


def page_routes(desk: DashboardService, gate: Authenticator) -> APIRouter:
    """The routes, none of which is in the API's description."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/")
    async def page(request: Request, chosen: str = Query(DEFAULT_RANGE, alias="range")) -> Response:
        visitor = gate.enter(request)
        language, name = _language(request), _range(chosen)
        panels = await desk.panels(name, language)
        logged_in = visitor.via == "session"
        answer = _html(
            render_page(
                panels.html.decode(),
                language=language,
                base=_base(request),
                range_name=name,
                visitor_name=visitor.name if logged_in else None,
                csrf=gate.csrf_token(request, visitor) if logged_in else "",
                logged_in=logged_in,
                notice=_notice(request, language),
            )
        )
        if NOTICE_COOKIE in request.cookies:
            answer.delete_cookie(NOTICE_COOKIE, path=_base(request) or "/")
        return answer

    @router.get("/panels")
    async def panels(request: Request, chosen: str = Query(DEFAULT_RANGE, alias="range"), after: str = "") -> Response:
        gate.enter(request)
        drawn = await desk.panels(_range(chosen), _language(request), after=after[:80])
        headers = {"x-wallie-version": drawn.etag, "vary": _VARY, "cache-control": "no-cache, private"}
        if after == drawn.etag:
            return Response(status_code=204, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return HTMLResponse(drawn.compressed, headers={**headers, "content-encoding": "gzip"})
        return HTMLResponse(drawn.html, headers=headers)

    @router.get("/login")
    async def login_form(request: Request, next: str = "") -> Response:  # noqa: A002 - the usual name of the parameter
        if not gate.needs_token():
            gate.enter(request)
            return _to(request, "")
        return _html(render_login(language=_language(request), base=_base(request), next=_inside(next), error=None))

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        form = await _form(request)
        language, following = _language(request), _inside(form.get("next", ""))
        try:
            session = gate.log_in(request, form.get("token", ""), form.get("name", ""))
        except AccessDenied as error:
            if error.status == 403:
                raise
            key = "login.throttled" if error.status == 429 else "login.wrong"
            said = translator(language)(key, seconds=str(error.retry_after))
            text = render_login(language=language, base=_base(request), next=following, error=said)
            return HTMLResponse(text, error.status, headers=_retry(error))
        answer = _to(request, following)
        _set_session(request, answer, session)
        return answer

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        visitor = gate.enter(request)
        gate.check_action(request, visitor, (await _form(request)).get("csrf"))
        answer = _to(request, "login")
        answer.delete_cookie(SESSION_COOKIE, path=_base(request) or "/")
        return answer

    @router.get("/confirm")
    async def confirm(
        request: Request, action: str = "", provider: str = "", chosen: str = Query(DEFAULT_RANGE, alias="range")
    ) -> Response:
        visitor = gate.enter(request)
        await _require_order(desk, action, provider)
        session = None
        if visitor.via == "loopback" and not visitor.session:
            session, visitor = gate.open_loopback_session(visitor)
        answer = _html(
            render_confirm(
                language=_language(request),
                base=_base(request),
                action=action,
                provider=provider,
                range_name=_range(chosen),
                csrf=gate.csrf_token(request, visitor),
                visitor_name=visitor.name,
                scope_note=await _scope_note(desk, _language(request)),
            )
        )
        if session is not None:
            _set_session(request, answer, session)
        return answer

    @router.get("/export")
    async def export(request: Request, chosen: str = Query(DEFAULT_RANGE, alias="range")) -> Response:
        visitor = gate.enter(request)
        text = render_export(
            language=_language(request),
            base=_base(request),
            range_name=_range(chosen),
            visitor_name=visitor.name,
        )
        return _html(text)

    @router.post("/orders")
    async def order(request: Request) -> Response:
        visitor = gate.enter(request)
        form = await _form(request)
        gate.check_action(request, visitor, form.get("csrf"))
        provider = form.get("provider", "")
        action = await _require_order(desk, form.get("action", ""), provider)
        reason = "".join(filter(str.isprintable, form.get("reason", "")))[:LONGEST_REASON].strip()
        try:
            await desk.order(action, provider, visitor.actor, reason or None)
        except ActionRefused as error:
            raise PageError(409, "problem.read_only", reason=str(error)) from error
        answer = _to(request, f"?range={_range(form.get('range', ''))}")
        answer.set_cookie(
            NOTICE_COOKIE,
            f"{action}:{quote(provider, safe='')}",
            max_age=NOTICE_SECONDS,
            path=_base(request) or "/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.get("/static/{name}")
    async def static(request: Request, name: str) -> Response:
        if not gate.needs_token():
            gate.enter(request)
        if name not in _STATIC:
            raise PageError(404, "problem.not_found")
        body = files("wallie_litellm.dashboard").joinpath("static", name).read_bytes()
        headers = {"etag": f'"{sha256(body).hexdigest()[:24]}"', "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=_STATIC[name], headers=headers)

    return router


def access_denied_response(request: Request, error: AccessDenied) -> Response:
    """Where whoever is not let in goes: to log in, if that helps."""
    if error.status == 401 and request.method == "GET" and not _path(request).startswith("/panels"):
        following = _path(request).removeprefix("/") + (f"?{request.url.query}" if request.url.query else "")
        return _to(request, f"login?next={quote(_inside(following), safe='')}" if _inside(following) else "login")
    text = render_problem(language=_language(request), base=_base(request), status=error.status, message=error.message)
    return HTMLResponse(text, error.status, headers=_retry(error))


def page_error_response(request: Request, error: PageError) -> Response:
    """What is wrong, as a page."""
    language = _language(request)
    message = translator(language)(error.key, **error.values)
    text = render_problem(language=language, base=_base(request), status=error.status, message=message)
    return HTMLResponse(text, error.status)


async def _require_order(desk: DashboardService, named: str, provider: str) -> Action:
    action = next((one for one in ACTIONS if one == named), None)
    if action is None or provider not in (await desk.status())["providers"]:
        raise PageError(404, "problem.not_found")
    if desk.source.read_only is not None:
        raise PageError(409, "problem.read_only", reason=desk.source.read_only)
    return action


async def _scope_note(desk: DashboardService, language: str) -> str | None:
    """What to know where the order reaches one process of several."""
    store: dict[str, Any] = (await desk.status())["store"]
    processes = store.get("processes", 1)
    return translator(language)("confirm.one_of_many", processes=str(processes)) if processes > 1 else None


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form."""
    try:
        return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=20))
    except ValueError:  # not UTF-8, or too many
        raise PageError(400, "problem.bad_form") from None


def _html(text: str) -> HTMLResponse:
    return HTMLResponse(text, headers={"vary": _VARY})


def _to(request: Request, where: str) -> RedirectResponse:
    return RedirectResponse(f"{_base(request)}/{where}", 303)


def _set_session(request: Request, answer: Response, session: str) -> None:
    answer.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=SESSION_SECONDS,
        path=_base(request) or "/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def _retry(error: AccessDenied) -> dict[str, str]:
    return {} if error.retry_after is None else {"retry-after": str(error.retry_after)}


def _notice(request: Request, language: str) -> str | None:
    action, _, provider = request.cookies.get(NOTICE_COOKIE, "").partition(":")
    return translator(language)(f"notice.{action}", provider=unquote(provider)) if action in ACTIONS else None


def _inside(where: str) -> str:
    """``where``, if it is a page of ours, relative to the first."""
    try:
        parts = urlsplit(where)
    except ValueError:
        return ""
    ours = not parts.scheme and not parts.netloc and parts.path in ("", "confirm", "export") and where.isprintable()
    return where if ours and "\\" not in where else ""


def _range(name: str) -> str:
    return name if name in RANGES else DEFAULT_RANGE


def _language(request: Request) -> str:
    return choose_language(request.headers.get("accept-language"))


def _base(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def _path(request: Request) -> str:
    return str(request.scope["path"]).removeprefix(_base(request))
