"""The rows of failover through a running proxy, by OpenAI's client; and clients that leave, or ask again."""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from failover_proxy import Client, Heard, configuration, start
from failover_rows import CHUNKS, PART, SCALE, TEXT, TIMEOUT, Calls
from forked import ForkServer
from proxy_support import Proxy
from support import messages, wait_until

from wallie_litellm.litellm_adapter.error_evidence import causes_of
from wallie_litellm.simulator import SimulatedProvider, SimulatedProviders

SLACK = 5.0  # seconds that a proxy takes for eight requests on a busy machine
STREAM, WHOLE = True, False
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": messages()}),
    "messages": ("/v1/messages", {"messages": messages(), "max_tokens": 20}),
    "responses": ("/v1/responses", {"input": "Hello there"}),
}
PREPARED: dict[str, Callable[[SimulatedProvider, str], object]] = {
    "queued": lambda at, model: at.slow(2.0, model=model),
    "in-flight": lambda at, model: at.hang(model=model),
    "between-retries": lambda at, model: at.fail(500, model=model),
}


@dataclass(frozen=True)
class ProxyRow:
    """A fault of one group's provider, and what OpenAI's client must hear; ``within`` in seconds of a configuration."""

    name: str
    fault: Callable[[SimulatedProvider, str], object]
    stream: bool
    within: float = 0.0
    clients: int = 1
    calls: Calls = 1  # to the faulty provider
    backup: int | None = None  # by default one for each client
    feature: str | None = None
    error: type[Exception] | None = None
    delivered: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{'stream' if self.stream else 'whole'}"

    @property
    def group(self) -> str:
        return str(self).replace(" ", "-")


def both(name: str, fault: Callable[[SimulatedProvider, str], object], **more: Any) -> list[ProxyRow]:
    return [ProxyRow(name, fault, stream, **more) for stream in (WHOLE, STREAM)]


BROKEN: dict[str, Any] = {"stream": STREAM, "backup": 0, "error": openai.APIError, "delivered": PART}
ROWS = [
    *both("hangs", lambda at, model: at.hang(model=model), within=TIMEOUT),
    *both(  # five timeouts open the breaker: a client that comes after them is not held up
        "eight meet a hang", lambda at, model: at.hang(model=model), within=TIMEOUT, clients=8, calls=range(5, 9)
    ),
    *both(
        "no content for 20 s",
        lambda at, model: at.slow(20 / SCALE, after_headers=True, model=model),
        within=2.0,
        feature="hasty",
    ),
    ProxyRow("the role and nothing", lambda at, model: at.hang(after_chunks=0, model=model), STREAM, within=TIMEOUT),
    *both("one reset", lambda at, model: at.reset_connection(1, model=model), within=3.0, calls=2, backup=0),
    *both("eight meet a 429", lambda at, model: at.rate_limit(60, model=model), clients=8, calls=range(1, 9)),
    ProxyRow("cut", lambda at, model: at.cut_stream(CHUNKS, model=model), **BROKEN),
    ProxyRow("truncated", lambda at, model: at.truncate_stream(CHUNKS, model=model), **BROKEN),
    ProxyRow("malformed", lambda at, model: at.malformed(after_chunks=CHUNKS, model=model), **BROKEN),
    ProxyRow("an error object", lambda at, model: at.error_in_200(503, after_chunks=CHUNKS, model=model), **BROKEN),
    ProxyRow("stalls", lambda at, model: at.hang(after_chunks=CHUNKS, model=model), within=TIMEOUT, **BROKEN),
    ProxyRow("held", lambda at, model: at.truncate_stream(CHUNKS, model=model), STREAM, feature="held"),
    ProxyRow("continued", lambda at, model: at.cut_stream(CHUNKS, model=model), STREAM, feature="continued"),
    *both("content policy", lambda at, model: at.content_policy(model=model), backup=0, error=openai.BadRequestError),
    *both("a 400", lambda at, model: at.fail(400, model=model), backup=0, error=openai.BadRequestError),
]
ENDED = {0, -signal.SIGTERM}  # exit codes of a proxy after SIGTERM
LEAVING = [f"{phase}-{route}-{kind}" for phase in PREPARED for route in ROUTES for kind in ("whole", "stream")]
LIMITED = {"rpm": 120, "burst": {"rpm": 1}}  # one call in half a second, far longer than a call takes
OWN: dict[str, dict[str, Any]] = {
    **{row.group: {} for row in ROWS},
    **{name: {"concurrency": 1} if name.startswith("queued") else {} for name in LEAVING},
    "warm": {},
    "asked-too-often": {},
    "too-small": {"tpm": 40},
    "crowded": LIMITED,
    "crowded-by-sdk": LIMITED,
    "waited-for": {"rpm": 30, "burst": {"rpm": 1}},
    "retried": {},
}
ALONE = frozenset({*LEAVING, "asked-too-often", "too-small", "crowded", "crowded-by-sdk", "waited-for", "retried"})


@pytest.fixture(scope="module")
def proxies(running_fleet: SimulatedProviders, forks: ForkServer) -> Iterator[list[Proxy]]:
    """The proxies that were started: one for all tests, and another after the test that ends it."""
    started: list[Proxy] = []
    yield started
    assert [code for one in started if (code := one.stop()) not in ENDED] == []


@pytest.fixture
def proxy(
    proxies: list[Proxy], forks: ForkServer, fleet: SimulatedProviders, tmp_path_factory: pytest.TempPathFactory
) -> Proxy:
    if not proxies or proxies[-1].process.poll() is not None:
        proxies.append(start(forks, tmp_path_factory.mktemp("failover"), configuration(OWN, ALONE), fleet))
        warm_up(proxies[-1])
        for name in fleet:
            fleet[name].reset()
    return proxies[-1]


def warm_up(running: Proxy) -> None:
    """LiteLLM imports much with a first request of a kind, which no row is to wait for."""
    client = Client(running)
    for stream in (WHOLE, STREAM):
        for group in ("warm", "backup"):
            wait_until(lambda group=group, stream=stream: client.ask(group, stream).text == TEXT)
        for path, body in ROUTES.values():
            assert running.post(path, {**body, "model": "warm", "stream": stream}).status == 200


@pytest.fixture
def client(proxy: Proxy) -> Client:
    return Client(proxy)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_client_of_the_proxy_hears_of_a_fault(client, proxy, fleet, row):
    row.fault(fleet["openai"], row.group)
    for heard in client.ask_at_once(row.clients, row.group, row.stream, row.feature):
        if row.error is None:
            assert (heard.error, heard.text) == (None, TEXT), explained(heard, proxy)
            fell_back = "0" if row.backup == 0 else "1"
            assert row.stream or heard.headers["x-wallie-fallback"] == fell_back
        else:
            assert isinstance(heard.error, row.error), explained(heard, proxy)
            assert row.delivered.startswith(heard.text)
            assert bool(heard.text) == bool(row.delivered)
        assert heard.seconds <= row.within / SCALE + SLACK
    received = fleet["openai"].counts().by_model[row.group]
    assert received in (row.calls if isinstance(row.calls, range) else (row.calls,))
    assert fleet["anthropic"].counts().received == (row.clients if row.backup is None else row.backup)


def explained(heard: Heard, proxy: Proxy) -> str:
    """What is known of an answer that should have been another one: pytest shortens a tuple of it."""
    causes = [repr(cause) for cause in causes_of(heard.error)] if heard.error is not None else []
    log = proxy.log.read_text().splitlines()
    return "\n".join([*causes, f"exit code of the proxy: {proxy.process.poll()}", *proxy.warnings(), *log[-60:]])


def test_a_client_that_retries_by_itself_is_told_when_that_is_no_use(proxy, fleet):
    fleet["openai"].rate_limit(3 / SCALE, model="asked-too-often")
    heard = Client(proxy, retries=2).ask("asked-too-often")
    assert isinstance(heard.error, openai.RateLimitError)
    assert heard.headers["x-should-retry"] == "false"
    assert float(heard.headers["retry-after"]) > 0
    assert fleet["openai"].counts().by_model["asked-too-often"] == 4  # one call, and three retries of ours


def test_a_request_that_can_never_be_served_is_not_asked_for_again(client, fleet):
    heard = client.ask("too-small", prompt="x" * 4000)
    assert isinstance(heard.error, openai.RateLimitError)
    assert heard.error.code == "wallie_request_too_large"
    assert heard.headers["x-should-retry"] == "false"
    assert fleet["openai"].counts().received == 0


@pytest.mark.parametrize("phase", PREPARED)
def test_clients_that_leave_are_not_called_for(proxy, fleet, phase):
    """On every route, streamed and not, all at once: each in a group of its own."""
    asked = {(route, kind): f"{phase}-{route}-{kind}" for route in ROUTES for kind in ("whole", "stream")}
    for group in asked.values():
        PREPARED[phase](fleet["openai"], group)
    connections = [leaving(proxy, route, group, kind) for (route, kind), group in asked.items()]
    wait_until(lambda: all(fleet["openai"].counts().by_model.get(group, 0) == 1 for group in asked.values()))
    if phase == "queued":  # behind these
        stay, connections = connections, [leaving(proxy, route, group, kind) for (route, kind), group in asked.items()]
        time.sleep(0.3)
    for connection in connections:
        proxy.hang_up(connection)
    if phase == "queued":
        wait_until(lambda: fleet["openai"].counts().succeeded == len(asked))
        for connection in stay:
            connection.close()
    if phase == "in-flight":
        wait_until(lambda: fleet["openai"].counts().disconnected == len(asked))
    time.sleep(1.0)  # a place in the queue would have come, or more retries
    most = 2 if phase == "between-retries" else 1  # of four: the first retry may have begun
    calls = fleet["openai"].counts().by_model
    assert max(calls.values()) <= most, calls


def leaving(proxy: Proxy, route: str, group: str, kind: str) -> http.client.HTTPConnection:
    path, body = ROUTES[route]
    connection = proxy.connect()
    proxy.send(connection, path, {**body, "model": group, "stream": kind == "stream", "timeout": 60})
    return connection


def answered_within(seconds: float, proxy: Proxy, model: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=seconds)
    try:
        proxy.send(connection, "/v1/chat/completions", {"model": model, "messages": messages()})
        return connection.getresponse().status == 200
    except TimeoutError:
        return False
    finally:
        connection.close()


def test_a_crowd_that_gives_up_leaves_the_capacity_to_those_who_wait(proxy, fleet):
    """Twice as many requests as the limit allows, for eight seconds; each waits for 2.5 seconds at most."""
    asked = 32

    def ask(number: int) -> bool:
        time.sleep(number / 4)
        return answered_within(2.5, proxy, "crowded")

    with ThreadPoolExecutor(asked) as pool:
        answered = sum(pool.map(ask, range(asked)))
    assert answered >= asked * 0.2
    assert fleet["openai"].counts().by_model["crowded"] <= answered + asked * 0.25


def test_clients_with_retries_of_their_own_are_nearly_all_answered(proxy, fleet):
    with ThreadPoolExecutor(12) as pool:
        heard = list(pool.map(lambda _: Client(proxy, retries=2, timeout=2.5).ask("crowded-by-sdk"), range(12)))
    assert sum(one.text == TEXT for one in heard) >= 10
    assert fleet["openai"].counts().by_model["crowded-by-sdk"] <= 16


def test_waits_and_retries_end_with_the_proxy(proxy, fleet):
    fleet["openai"].fail(503, model="retried")
    with ThreadPoolExecutor(2) as pool:
        client = Client(proxy)
        assert client.ask("waited-for").text == TEXT
        waits = [pool.submit(client.ask, name) for name in ("waited-for", "retried")]
        wait_until(lambda: fleet["openai"].counts().by_model.get("retried", 0) == 1)
        started = time.monotonic()
        assert proxy.stop(signal.SIGTERM) is not None
        ended = time.monotonic() - started
        heard = [wait.result() for wait in waits]
    assert all(one.error is not None for one in heard)
    assert ended < 4.5, proxy.log.read_text()[-2000:]
    calls = fleet["openai"].counts().by_model
    assert calls["waited-for"] == 1
    assert calls["retried"] <= 2  # of four; one may go out before the signal has arrived
