"""A connection to Redis by its URL: a single server, TLS, Sentinel, or a cluster."""

from __future__ import annotations

import os
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

Client: TypeAlias = Any  # Redis and RedisCluster share the commands used here, and no base class


def connect(url: str, timeout: float | None) -> Client:
    """A client for ``url`` that does not repeat commands; nothing is sent yet.

    ``timeout`` seconds are for making a connection. The caller limits the time for an answer: the client would also
    count the time in which this process did not run.
    """
    options: dict[str, Any] = {
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # 3 costs a new connection one more round trip before its first command
    }
    parts = urlsplit(url)
    if parts.scheme == "redis+sentinel":
        return _by_sentinel(url, options)
    if parts.scheme == "redis+cluster":
        return RedisCluster.from_url("redis" + url.removeprefix("redis+cluster"), **options)
    return Redis.from_url(url, **options)


def _by_sentinel(url: str, options: dict[str, Any]) -> Client:
    """``redis+sentinel://[user:password@]host:port,host:port/service[/db]``; the password is the master's."""
    rest = url.partition("://")[2]
    authority, _, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, database = path.partition("/")
    sentinels = [(host, int(port or 26379)) for host, _, port in (one.rpartition(":") for one in hosts.split(","))]
    login: dict[str, Any] = {"username": unquote(user) or None, "password": unquote(password) or None}
    quick = {
        **{key: value for key, value in options.items() if key != "retry"},
        "socket_timeout": options["socket_connect_timeout"],
    }
    finder = Sentinel(sentinels, sentinel_kwargs=quick)  # type: ignore[no-untyped-call] # redis-py has none here
    return finder.master_for(service or "mymaster", db=int(database or 0), **login, **options)


def reason_of(error: BaseException) -> str:
    """The cause in one line: Redis' own message; those of the client are left out, as they may quote the URL."""
    if isinstance(error, ResponseError | AuthenticationError | BusyLoadingError):
        return (str(error).splitlines() or [type(error).__name__])[0][:200]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)  # negative: of looking up names
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ValueError):
        return "the URL cannot be read"
    return type(error).__name__
