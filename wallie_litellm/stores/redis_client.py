"""A connection to Redis by its URL: a single server, TLS, Sentinel, or a cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

Client = Any  # Redis and RedisCluster share the commands used here, and no base class


def connect(url: str, timeout: float | None) -> Client:
    """A client for ``url`` whose commands fail after ``timeout`` seconds and are not repeated; nothing is sent yet."""
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
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
    places, _, path = rest.partition("/")
    credentials, _, hosts = places.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, database = path.partition("/")
    sentinels = [(host, int(port or 26379)) for host, _, port in (one.rpartition(":") for one in hosts.split(","))]
    login: dict[str, Any] = {"username": unquote(user) or None, "password": unquote(password) or None}
    quick = {key: value for key, value in options.items() if key != "retry"}
    finder = Sentinel(sentinels, sentinel_kwargs=quick)  # type: ignore[no-untyped-call] # redis-py has none here
    return finder.master_for(service or "mymaster", db=int(database or 0), **login, **options)
