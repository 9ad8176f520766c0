"""Authentication, and protection of actions against cross-site requests.

A token admits programs, as a bearer, and people, who exchange it for a cookie. Where no token is configured, only users
of this machine are admitted. See OWASP's cheat sheets on session management and on cross-site request forgery.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal
from urllib.parse import urlsplit

from starlette.requests import Request

from wallie_litellm.core.loopback import is_loopback
from wallie_litellm.dashboard.sessions import SESSION_SECONDS, Session, begin, key_of, resume
from wallie_litellm.dashboard.throttle import Throttle

__all__ = ["SESSION_COOKIE", "SESSION_SECONDS", "AccessDenied", "Authenticator", "Visitor"]

SESSION_COOKIE: Final = "wallie_session"
CSRF_HEADER: Final = "x-wallie-csrf"
LONGEST_TOKEN: Final = 4096  # characters
LONGEST_ACTOR: Final = 200  # characters

_FORWARDED: Final = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOCAL_KEY: Final = key_of("")  # signs sessions where no token is configured, which admits loopback alone
_VIA: Final = {"bearer": "api", "session": "page", "loopback": "page"}


class AccessDenied(Exception):  # noqa: N818 - it says what happened
    """A request was refused. ``status`` is 401, 403 or 429, ``retry_after`` whole seconds, where waiting helps."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


@dataclass(frozen=True, slots=True)
class Visitor:
    """An admitted client, and what admitted it; ``session`` is the session's nonce, empty without a cookie."""

    name: str
    address: str
    via: Literal["bearer", "session", "loopback"]
    session: str = ""

    @property
    def actor(self) -> str:
        """The name on record."""
        full = f"{self.name} ({_VIA[self.via]}, {self.address})"
        return "".join(filter(str.isprintable, full))[:LONGEST_ACTOR]  # a server may take the address from a header


class Authenticator:
    """Admits clients that show one of ``tokens``, which is called each time, since a proxy may set its key late.

    Belongs to one event loop. ``now`` is Unix time.
    """

    def __init__(self, tokens: Callable[[], Sequence[str]], *, now: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._now = now
        self._throttle = Throttle(now)

    def needs_token(self) -> bool:
        """Whether any token is configured."""
        return bool(self._configured())

    def enter(self, request: Request) -> Visitor:
        """The visitor that sent ``request``.

        Raises:
            AccessDenied: it has neither a token nor a session, or comes from another site.
        """
        _require_same_site(request)
        if not self.needs_token():
            _require_this_machine(request)
            session = self._session(request)
            name = session.name if session is not None else "operator"
            return Visitor(name, _address(request), "loopback", session.nonce if session is not None else "")
        stated = request.headers.get("authorization")
        if stated is not None:
            scheme, _, token = stated.encode("latin-1").decode(errors="surrogateescape").partition(" ")
            self._check(request, token.strip() if scheme.lower() == "bearer" else "")
            return Visitor("api", _address(request), "bearer")
        session = self._session(request)
        if session is None:
            raise AccessDenied(401, "wallie_unauthorized", "a token is needed: Authorization: Bearer …, or log in")
        return Visitor(session.name, _address(request), "session", session.nonce)

    def log_in(self, request: Request, token: str, name: str) -> str:
        """The cookie of a new session for a right ``token``; ``name`` goes on record.

        Raises:
            AccessDenied: the token is wrong, there have been too many wrong ones, or another site sent the request.
        """
        _require_same_site(request)
        if not self.needs_token():
            _require_this_machine(request)
            return begin(_LOCAL_KEY, name, self._now())[0]
        return begin(key_of(self._check(request, token)), name, self._now())[0]

    def open_loopback_session(self, visitor: Visitor) -> tuple[str, Visitor]:
        """A session's cookie for a visitor that needed no token, so that its forms can carry a form token."""
        cookie, session = begin(_LOCAL_KEY, visitor.name, self._now())
        return cookie, Visitor(visitor.name, visitor.address, visitor.via, session.nonce)

    def csrf_token(self, request: Request, visitor: Visitor) -> str:
        """The token that a form for ``visitor`` has to carry."""
        session = self._session(request)
        if session is None or session.nonce != visitor.session:
            session = Session(visitor.session, visitor.name, _LOCAL_KEY)
        return session.csrf_token()

    def check_action(self, request: Request, visitor: Visitor, csrf: str | None) -> None:
        """Require that ``request``, which changes something, comes from a program or from one of the page's forms.

        Raises:
            AccessDenied: another site may have made the browser send it.
        """
        if visitor.via == "bearer":  # no browser sends that header by itself
            return
        session = self._session(request)
        if session is None:
            if visitor.via == "loopback" and not _is_from_a_browser(request):
                return
            raise _forged_form()
        if not hmac.compare_digest(session.csrf_token().encode(), (csrf or "").encode(errors="replace")):
            raise _forged_form()

    def _configured(self) -> list[str]:
        return [token for token in self._tokens() if token]

    def _keys(self) -> list[bytes]:
        return [key_of(token) for token in self._configured()] or [_LOCAL_KEY]

    def _session(self, request: Request) -> Session | None:
        return resume(request.cookies.get(SESSION_COOKIE, ""), self._keys(), self._now)

    def _check(self, request: Request, token: str) -> str:
        """``token``, if it is a configured one.

        Raises:
            AccessDenied: it is not, or its address has sent too many wrong ones.
        """
        address = _address(request)
        wait = self._throttle.wait(address)
        if wait is not None:
            message = f"too many wrong tokens from this address; try again in {wait} s"
            raise AccessDenied(429, "wallie_throttled", message, wait)
        shown = sha256(_encoded(token[:LONGEST_TOKEN])).digest()
        # All are compared, each in constant time.
        right = [one for one in self._configured() if hmac.compare_digest(sha256(_encoded(one)).digest(), shown)]
        if not right or len(token) > LONGEST_TOKEN:
            self._throttle.wrong(address)
            raise AccessDenied(401, "wallie_unauthorized", "the token is wrong")
        return right[0]


def _encoded(token: str) -> bytes:
    """``token`` as bytes: different ones for different tokens, also for those that are not UTF-8."""
    return token.encode(errors="surrogatepass")


def _forged_form() -> AccessDenied:
    return AccessDenied(403, "wallie_forbidden", "the form has expired or is not this page's own; load it again")


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


def _is_from_a_browser(request: Request) -> bool:
    return any(name in request.headers for name in ("origin", "sec-fetch-site", "cookie"))


def _require_same_site(request: Request) -> None:
    """Refuse scripts and forms of other sites; following a link from there is allowed.

    Raises:
        AccessDenied: another site sent the request.
    """
    origin = request.headers.get("origin")
    if origin is not None and not _is_same_host(origin, request.headers.get("host", "")):
        raise AccessDenied(403, "wallie_forbidden", "requests from other sites are refused")
    site = request.headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return
    mode, goal = request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest")
    if request.method != "GET" or mode != "navigate" or goal != "document":
        raise AccessDenied(403, "wallie_forbidden", "requests from other sites are refused")


def _is_same_host(origin: str, host: str) -> bool:
    """Compares names and ports alone: TLS may have ended at a reverse proxy."""
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{host}")
        default = _DEFAULT_PORTS.get(theirs.scheme)
        if not theirs.hostname or default is None:
            return False
        return theirs.hostname == ours.hostname and (theirs.port or default) == (ours.port or default)
    except ValueError:
        return False


def _require_this_machine(request: Request) -> None:
    """Require a direct connection from this machine, under a loopback name: any site's name may resolve to loopback.

    Raises:
        AccessDenied: the request came in another way.
    """
    try:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        name = ""
    direct = is_loopback(_address(request)) and not any(header in request.headers for header in _FORWARDED)
    if not direct or not (is_loopback(name) or name.endswith(".localhost")):
        raise AccessDenied(
            403,
            "wallie_no_token",
            "no token is configured, so only this machine itself is let in, under a loopback address; "
            "set WALLIE_ADMIN_TOKEN (on a proxy, LITELLM_MASTER_KEY serves too)",
        )
