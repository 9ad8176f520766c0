"""The HTTP client with which commands ask a running proxy or dashboard."""

from __future__ import annotations

import codecs
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from wallie_litellm.core.loopback import is_loopback
from wallie_litellm.core.scrubbing import one_line

CONNECT: Final = 5.0  # seconds for a connection
ANSWER: Final = 10.0  # seconds for all of a JSON answer, and between two parts of an export
LARGEST: Final = 16 * 1024 * 1024  # bytes of a JSON answer, at most
PREFIX: Final = "/wallie"  # path of the dashboard's page and API

_SHOWN: Final = 300  # characters of a server's message

Parameters = Sequence[tuple[str, str]]


class WrongAddress(Exception):  # noqa: N818 - it says what is wrong
    """The URL cannot be used as it is; the message is one line."""


class ServerUnavailable(Exception):  # noqa: N818 - it says what happened
    """The server does not give what was asked for. The message is one line.

    ``status`` is the HTTP status, 0 without one, and ``code`` ours, such as ``wallie_unauthorized``. ``unclear`` means
    that an action may have been carried out all the same.
    """

    def __init__(self, message: str, status: int = 0, code: str = "", *, unclear: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.unclear = status, code, unclear


class Client:
    """A client of the server at ``url``: its address, or that of its page; ``token`` is sent as a bearer token.

    Raises:
        WrongAddress: ``url`` is no URL, or the token could be read on its way there.
    """

    def __init__(self, url: str, token: str | None = None, *, insecure: bool = False) -> None:
        self.base, host, secure = _read_url(url)
        self._token = (token or "").strip()
        if self._token and not self._token.isprintable():
            raise WrongAddress("the token holds characters that no header can carry")
        own = is_loopback(host)
        if self._token and not (secure or own or insecure):
            raise WrongAddress(
                f"{self.base} is neither https nor this machine: the token could be read on its way; use https, or "
                "--insecure if you trust the network"
            )
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "wallie-litellm"}
        login = [(b"authorization", b"Bearer " + self._token.encode())] if self._token else []
        self._http = httpx.Client(
            headers=httpx.Headers([*((name.encode(), value.encode()) for name, value in headers.items()), *login]),
            timeout=httpx.Timeout(ANSWER, connect=CONNECT),
            follow_redirects=False,
            trust_env=not own,  # a proxy of the environment leads away from this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, parameters: Parameters = ()) -> dict[str, Any]:
        """The JSON object at ``path``, below ``/wallie/``.

        Raises:
            ServerUnavailable: it does not answer with it.
        """
        with self._opened("GET", path, params=list(parameters)) as response:
            return self._json(response)

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        """Carry out an action; ``headers`` are ASCII.

        Raises:
            ServerUnavailable: it was not carried out, or may have been (``unclear``).
        """
        with self._opened("POST", path, json=dict(body), headers=dict(headers)) as response:
            return self._json(response)

    def text(self, path: str, parameters: Parameters, content_type: str) -> Iterator[str]:
        """The text at ``path``, piece by piece.

        Raises:
            ServerUnavailable: it does not answer with it, or the answer ends too early.
        """
        with self._opened("GET", path, params=list(parameters)) as response:
            if not response.headers.get("content-type", "").startswith(content_type):
                raise self._not_wallie(response)
            decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
            for chunk in response.iter_raw():
                yield decoder.decode(chunk)
            yield decoder.decode(b"", final=True)

    @contextmanager
    def _opened(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(method, f"{self.base}/{path}", **more) as response:
                if not response.is_success:
                    raise self._refusal(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            why = f"no connection within {CONNECT:g} s" if isinstance(error, httpx.TimeoutException) else _reason(error)
            raise self._unavailable(f"cannot connect: {why}") from None
        except httpx.TimeoutException:
            raise self._unavailable(f"no answer within {ANSWER:g} s", unclear=True) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unavailable(f"the connection broke: {_reason(error)}", unclear=True) from None

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            found = json.loads(self._body(response))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._not_wallie(response)
        return found

    def _body(self, response: httpx.Response) -> bytes:
        deadline, body = time.monotonic() + ANSWER, b""
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > LARGEST:
                raise self._not_wallie(response)
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer is too slow")
        return body

    def _refusal(self, response: httpx.Response) -> ServerUnavailable:
        status = response.status_code
        if response.is_redirect:
            where = response.headers.get("location", "")
            return self._unavailable(
                f"redirects to {where}, which is not followed; give that URL if it is right", status
            )
        code, message = self._error_of(response)
        if status == 401 and not self._token:
            message = "a token is needed: set WALLIE_ADMIN_TOKEN; a proxy takes its LITELLM_MASTER_KEY too"
        elif status == 401:
            message = "the token is not accepted: WALLIE_ADMIN_TOKEN, else LITELLM_MASTER_KEY, was sent"
        elif not code:
            if status == 404:
                return self._not_wallie(response)
            message = f"HTTP {status}"
        return self._unavailable(message, status, code)

    def _error_of(self, response: httpx.Response) -> tuple[str, str]:
        """Code and message, if the error is one of ours, else two empty texts."""
        try:
            error = json.loads(self._body(response))["error"]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return "", ""
        return (code, message) if code.startswith("wallie_") else ("", "")

    def _not_wallie(self, response: httpx.Response) -> ServerUnavailable:
        return self._unavailable(
            f"no Wallie answers there (HTTP {response.status_code}); is it the URL of a guarded proxy or a dashboard?",
            response.status_code,
        )

    def _unavailable(self, why: str, status: int = 0, code: str = "", *, unclear: bool = False) -> ServerUnavailable:
        if self._token:
            why = why.replace(self._token, "***")
        return ServerUnavailable(one_line(f"{self.base}: {why[:_SHOWN]}"), status, code, unclear=unclear)


def _read_url(url: str) -> tuple[str, str, bool]:
    """Where our pages begin, without a slash at the end; the host; and whether it is reached over TLS."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not url.isprintable():
        raise WrongAddress("--url: expected one such as http://127.0.0.1:4000")
    if parts.username is not None or parts.password is not None:
        raise WrongAddress("--url: a URL may hold no password; set WALLIE_ADMIN_TOKEN")
    path = parts.path.rstrip("/")
    if not path.endswith(PREFIX):
        path += PREFIX
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{path}", host, parts.scheme == "https"


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
