"""Sessions without a store: every worker of a proxy accepts a cookie that is signed with the token's key."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

SESSION_SECONDS: Final = 12 * 3600  # seconds, how long a session lasts
LONGEST_NAME: Final = 60  # characters
UNNAMED: Final = "operator"  # the name of a visitor that gave none
_LONGEST_COOKIE: Final = 1024  # characters
_VERSION: Final = "v1"


@dataclass(frozen=True, slots=True)
class Session:
    """A visitor's session. ``nonce`` identifies it, ``key`` signs its cookie and its form token."""

    nonce: str
    name: str
    key: bytes

    def csrf_token(self) -> str:
        """The token of this session's forms, which other sites do not have."""
        return hmac.digest(self.key, f"csrf {self.nonce}".encode(), "sha256").hex()


def key_of(token: str) -> bytes:
    """The key of the sessions that ``token`` opened: they end when the token is changed."""
    return hmac.digest(token.encode(errors="surrogatepass"), b"wallie-litellm dashboard session", "sha256")


def begin(key: bytes, name: str, now: float) -> tuple[str, Session]:
    """A new session and its cookie's value."""
    session = Session(secrets.token_urlsafe(18), clean_name(name), key)
    shown = urlsafe_b64encode(session.name.encode()).decode().rstrip("=")
    signed = f"{_VERSION}.{int(now) + SESSION_SECONDS}.{session.nonce}.{shown}"
    return f"{signed}.{sign(key, signed)}", session


def resume(cookie: str, keys: Iterable[bytes], now: Callable[[], float]) -> Session | None:
    """The session of ``cookie``, if one of ``keys`` signed it and it has not expired."""
    if len(cookie) > _LONGEST_COOKIE or not cookie.isascii():
        return None
    signed, _, signature = cookie.rpartition(".")
    signers = [key for key in keys if hmac.compare_digest(sign(key, signed), signature)]
    if not signers:
        return None
    try:  # where no token is configured, the key is public
        version, expires, nonce, shown = signed.split(".")
        name = urlsafe_b64decode(shown + "=" * (-len(shown) % 4)).decode()
        if version != _VERSION or now() >= int(expires):
            return None
    except ValueError:
        return None
    return Session(nonce, clean_name(name), signers[0])


def clean_name(name: str) -> str:
    """``name`` without unprintable characters, and not too long, for the record."""
    return "".join(filter(str.isprintable, name)).strip()[:LONGEST_NAME].strip() or UNNAMED


def sign(key: bytes, text: str) -> str:
    """The signature of ``text``."""
    return hmac.digest(key, text.encode(), "sha256").hex()
