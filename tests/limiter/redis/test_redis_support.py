"""The servers that the Redis tests run against do what those tests rely on."""

from __future__ import annotations

import time

import pytest
import redis
from redis.cluster import RedisCluster as ClusterClient
from redis_support import RedisCluster, RedisServer, SentinelSet, SlowLink, wait_for

SCRIPT = "return cmsgpack.pack({tonumber(redis.call('TIME')[1]), 'x'})"


def evaluate(client: redis.Redis) -> None:
    assert client.ping()
    assert client.eval(SCRIPT, 0).startswith(b"\x92\xce")


def test_a_server_can_crash_hang_and_come_back_empty() -> None:
    with RedisServer(password="secret") as server, server.client(socket_timeout=0.2) as client:
        evaluate(client)
        client.set("key", 1)
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        server.restart()
        assert client.get("key") is None
        server.flush()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()


def test_a_cluster_holds_keys_in_three_places() -> None:
    with RedisCluster() as cluster:
        for server in cluster.servers:
            evaluate(server.client())
        with ClusterClient.from_url(cluster.url.replace("+cluster", "")) as client:
            assert len({client.get_node_from_key(key).port for key in "abc" if client.set(key, 1)}) == 3


def test_a_sentinel_promotes_the_replica() -> None:
    with SentinelSet() as group:
        evaluate(group.master.client())
        assert group.master_port() == group.master.port
        group.master.kill()
        wait_for(lambda: group.master_port() == group.replica.port, "a failover", 20)


def test_a_slow_link_is_late_or_silent() -> None:
    with RedisServer() as server, SlowLink(server, delay=0.1) as link:
        client = redis.Redis.from_url(link.url, socket_timeout=0.5, retry=None)
        started = time.monotonic()
        evaluate(client)
        assert time.monotonic() - started >= 0.2
        link.silent = True
        with pytest.raises(redis.TimeoutError):
            client.ping()
