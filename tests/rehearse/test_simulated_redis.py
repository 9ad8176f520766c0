"""The Redis of a rehearsal answers a worker's commands as a real one does."""

import asyncio

import pytest
import redis.asyncio
from redis_support import RedisServer

from wallie_litellm.limiter.redis.connection import connect
from wallie_litellm.limiter.redis.layout import SCRIPT, SCRIPT_ID, WRITE_TRIAL_SCRIPT
from wallie_litellm.rehearse.simulated_redis import SimulatedRedis

COMMANDS = [
    ("ping",),
    ("set", "once", "a", "px", 60_000, "nx"),
    ("set", "once", "b", "px", 60_000, "nx"),
    ("get", "once"),
    ("get", "gone"),
    ("incr", "reloads"),
    ("incr", "reloads"),
    ("hset", "workers", "w1", "one"),
    ("hset", "workers", "w2", "two"),
    ("hset", "workers", "w1", "three"),
    ("hgetall", "workers"),
    ("hdel", "workers", "w2", "w3"),
    ("hkeys", "workers"),
    ("sadd", "troubled", "m1"),
    ("sadd", "troubled", "m1"),
    ("expire", "troubled", 60),
    ("smembers", "troubled"),
    ("srem", "troubled", "m1", "m2"),
    ("smembers", "troubled"),
    ("publish", "nowhere", "hello"),
    ("eval", WRITE_TRIAL_SCRIPT, 1, "trial", 1_000),
    ("eval", SCRIPT, 1, "state", '{"version": 3}'),
    ("evalsha", SCRIPT_ID, 1, "state", '{"version": 3}'),
    ("evalsha", SCRIPT_ID, 1, "state", '{"version": 3, "worker": "a"}'),
]


async def answers(url):
    client = connect(url, 5.0)
    found = [await client.execute_command(*command) for command in COMMANDS[:-1]]
    state = await client.execute_command(*COMMANDS[-1])
    channel = client.pubsub()
    await channel.subscribe("changes")
    assert await client.publish("changes", "a openai") == 1
    told = [await channel.get_message(timeout=5.0) for _ in range(2)]
    await client.aclose()
    return [*found, b'"initialised"' in state, *((one["type"], one["channel"], one["data"]) for one in told)]


async def simulated():
    server = SimulatedRedis()
    await server.start()
    try:
        return await answers(server.url)
    finally:
        server.leave()


def without_spaces(found):
    return [one.replace(b" ", b"") if isinstance(one, bytes) else one for one in found]


def test_its_answers_are_those_of_a_real_server():
    with RedisServer() as server:
        real = asyncio.run(answers(server.url))
    assert without_spaces(asyncio.run(simulated())) == without_spaces(real)


def test_while_it_is_away_it_refuses_and_then_has_what_it_had():
    async def outage():
        server = SimulatedRedis()
        await server.start()
        client = connect(server.url, 5.0)
        await client.set("key", "kept")
        server.leave()
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.ping()
        with pytest.raises(redis.exceptions.ConnectionError):
            await connect(server.url, 5.0).ping()
        server.come_back()
        await asyncio.sleep(0.01)
        kept = await client.get("key")
        await client.aclose()
        server.leave()
        return kept

    assert asyncio.run(outage()) == b"kept"
