"""The check of ``wallie.store``: Redis' package is installed, and the URL can be read. Nothing connects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from wallie_litellm.check.packages import is_installed
from wallie_litellm.config import RouterConfig
from wallie_litellm.config.values import mask_url

_FORMS: Final = (
    "redis://[user:password@]host:port/db, rediss://..., "
    "redis+sentinel://[user:password@]host:port,host:port/service/db or redis+cluster://host:port"
)


def store_problems(config: RouterConfig) -> Iterator[str]:
    """What keeps processes from sharing the configured Redis, as far as it shows without a connection."""
    url = config.wallie.store.url
    if url == "memory":
        return
    if not is_installed("redis"):
        yield "wallie.store.url: Redis' package is missing; install wallie-litellm[redis]"
        return
    from wallie_litellm.limiter.redis.connection import connect  # late: it imports Redis' package

    try:
        connect(url, None)  # sends nothing
    except Exception:  # noqa: BLE001  # its message may quote the URL, which may hold a password
        yield f"wallie.store.url: {mask_url(url)} is no URL of a Redis; expected {_FORMS}"
