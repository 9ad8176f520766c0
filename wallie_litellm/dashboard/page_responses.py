"""What the page's routes share: the request's language and address, forms, redirects, cookies and error pages."""

from __future__ import annotations

import re
import time
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from fastapi import Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from wallie_litellm.config.values import is_zone
from wallie_litellm.dashboard.auth import SESSION_COOKIE, SESSION_SECONDS, AccessDenied
from wallie_litellm.dashboard.formats import ShownZone
from wallie_litellm.dashboard.html import render_problem
from wallie_litellm.dashboard.page_ranges import chosen_range
from wallie_litellm.dashboard.source import ACTIONS, EXPERIMENTING, RELOAD, SWITCHING
from wallie_litellm.dashboard.translations import choose_language, translator

VARY: Final = "Accept-Language, Accept-Encoding, Cookie, Authorization"
_OWN: Final = re.compile(r"(confirm|export|requests|(requests|providers)/(?!\.+$)[^/]+)?")  # paths of own pages
ZONE_COOKIE: Final = "wallie_zone"  # set by zone.js
_NOTICE_COOKIE: Final = "wallie_notice"
_NOTICE_SECONDS: Final = 30
# The actions after which the page says what was done.
NOTICED: Final = (*ACTIONS, *SWITCHING, *EXPERIMENTING, RELOAD)


class PageError(Exception):
    """An answer that is a page which says what is wrong; ``key`` is a translation's, ``values`` its placeholders'."""

    def __init__(self, status: int, key: str, **values: str) -> None:
        super().__init__(key)
        self.status, self.key, self.values = status, key, values


def access_denied_response(request: Request, error: AccessDenied) -> Response:
    """A redirect to the login form where that helps, else a page that says what is wrong."""
    if error.status == 401 and request.method == "GET" and not _path(request).startswith("/panels"):
        following = _path(request).removeprefix("/") + (f"?{request.url.query}" if request.url.query else "")
        inside = own_page(following)
        return redirect(request, f"login?next={quote(inside, safe='')}" if inside else "login")
    text = render_problem(
        language=language_of(request), base=base_of(request), status=error.status, message=error.message
    )
    return HTMLResponse(text, error.status, headers=retry_headers(error))


def page_error_response(request: Request, error: PageError) -> Response:
    """A page that says what is wrong."""
    language = language_of(request)
    message = translator(language)(error.key, **error.values)
    text = render_problem(language=language, base=base_of(request), status=error.status, message=message)
    return HTMLResponse(text, error.status)


def page_response(text: str) -> HTMLResponse:
    """A page."""
    return HTMLResponse(text, headers={"vary": VARY})


def redirect(request: Request, where: str) -> RedirectResponse:
    """A redirect to ``where``, relative to the dashboard's first page."""
    return RedirectResponse(f"{base_of(request)}/{where}", 303)


def retry_headers(error: AccessDenied) -> dict[str, str]:
    """The ``Retry-After`` of ``error``, if waiting helps."""
    return {} if error.retry_after is None else {"retry-after": str(error.retry_after)}


def set_session(request: Request, response: Response, session: str) -> None:
    """Set the session's cookie."""
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=SESSION_SECONDS,
        path=base_of(request) or "/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def delete_session(request: Request, response: Response) -> None:
    """Delete the session's cookie."""
    response.delete_cookie(SESSION_COOKIE, path=base_of(request) or "/")


def set_notice(request: Request, response: Response, action: str, provider: str) -> None:
    """Have the next page say that ``action`` was taken."""
    response.set_cookie(
        _NOTICE_COOKIE,
        f"{action}:{quote(provider, safe='')}",
        max_age=_NOTICE_SECONDS,
        path=base_of(request) or "/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def notice_of(request: Request, language: str) -> str | None:
    """What the last action did, if the cookie says so."""
    action, _, provider = request.cookies.get(_NOTICE_COOKIE, "").partition(":")
    return translator(language)(f"notice.{action}", provider=unquote(provider)) if action in NOTICED else None


def delete_notice(request: Request, response: Response) -> None:
    """Delete the notice's cookie, if there is one: it is shown once."""
    if _NOTICE_COOKIE in request.cookies:
        response.delete_cookie(_NOTICE_COOKIE, path=base_of(request) or "/")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form.

    Raises:
        PageError: the body is none.
    """
    try:
        return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=20))
    except ValueError:  # not UTF-8, or too many
        raise PageError(400, "problem.bad_form") from None


def range_asked(name: str, since: str = "", until: str = "", zone: str = "UTC") -> str:
    """The name of the range that a page's address asks for; its ends are of ``zone``, those of a name state theirs.

    Raises:
        PageError: its ends make no sense.
    """
    try:
        return chosen_range(name, since.strip(), until.strip(), time.time(), zone).name
    except ValueError as wrong:
        raise PageError(422, "problem.range", reason=str(wrong)) from wrong


def zone_of(request: Request, stated: str | None) -> ShownZone:
    """The zone of a page's times: the one that the configuration states, else the viewer's, as zone.js tells it."""
    if stated is not None:
        return ShownZone(stated)
    own = request.cookies.get(ZONE_COOKIE, "")
    return ShownZone(own if own and is_zone(own) else "UTC", is_viewers=True)


def own_page(where: str) -> str:
    """``where`` if it is one of the dashboard's own pages, relative to the first; else an empty text."""
    try:
        parts = urlsplit(where)
    except ValueError:
        return ""
    ours = not parts.scheme and not parts.netloc and _OWN.fullmatch(parts.path) and where.isprintable()
    return where if ours and "\\" not in where else ""


def language_of(request: Request) -> str:
    """The language in which to answer."""
    return choose_language(request.headers.get("accept-language"))


def base_of(request: Request) -> str:
    """The path at which the dashboard is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _path(request: Request) -> str:
    return str(request.scope["path"]).removeprefix(base_of(request))
