"""Sessions without a store: what a cookie says is believed because it is signed, by any worker of a proxy."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

SESSION_SECONDS: Final = 12 * 3600
LONGEST_NAME: Final = 60  # characters
NOBODY: Final = "operator"
_LONGEST_COOKIE: Final = 1024  # characters
_VERSION: Final = "v1"


@dataclass(frozen=True, slots=True)
class Session:
    """Who has logged in. ``nonce`` tells the session from all others, ``key`` signs what belongs to it."""

    nonce: str
    name: str
    key: bytes

    def csrf_token(self) -> str:
        """What a form of this session carries, and no other site can know."""
        return hmac.digest(self.key, f"csrf {self.nonce}".encode(), "sha256").hex()


def key_of(token: str) -> bytes:
    """What signs the sessions that ``token`` opened: they end when it is changed."""
    return hmac.digest(token.encode(errors="surrogatepass"), b"wallie-litellm dashboard session", "sha256")


def begin(key: bytes, name: str, now: float) -> tuple[str, Session]:
    """A new session and its cookie's value."""
    session = Session(secrets.token_urlsafe(18), clean_name(name), key)
    shown = urlsafe_b64encode(session.name.encode()).decode().rstrip("=")
    said = f"{_VERSION}.{int(now) + SESSION_SECONDS}.{session.nonce}.{shown}"
    return f"{said}.{sign(key, said)}", session


def resume(cookie: str, keys: Iterable[bytes], now: Callable[[], float]) -> Session | None:
    """The session of ``cookie``, if one of ``keys`` signed it and it has not expired."""
    if len(cookie) > _LONGEST_COOKIE or not cookie.isascii():
        return None
    said, _, signature = cookie.rpartition(".")
    signers = [key for key in keys if hmac.compare_digest(sign(key, said), signature)]
    if not signers:
        return None
    try:  # where no token is configured, anybody knows the key
        version, expires, nonce, shown = said.split(".")
        name = urlsafe_b64decode(shown + "=" * (-len(shown) % 4)).decode()
        if version != _VERSION or now() >= int(expires):
            return None
    except ValueError:
        return None
    return Session(nonce, clean_name(name), signers[0])


def clean_name(name: str) -> str:
    """A name as it may go on record."""
    return "".join(filter(str.isprintable, name)).strip()[:LONGEST_NAME].strip() or NOBODY


def sign(key: bytes, said: str) -> str:
    """What shows that whoever knows ``key`` wrote ``said``."""
    return hmac.digest(key, said.encode(), "sha256").hex()
