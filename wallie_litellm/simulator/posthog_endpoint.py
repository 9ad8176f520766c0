"""A PostHog-compatible capture endpoint on 127.0.0.1: real HTTP for the real SDK, with outages on demand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

from aiohttp import web

from wallie_litellm.simulator.faults import Fault, FaultKind, FaultQueue
from wallie_litellm.simulator.loopback_server import LoopbackServer
from wallie_litellm.simulator.settings import HOST

# The project's key unless another is given; a batch with any other is answered 401.
PROJECT_KEY: Final = "phc_simulated"
# Where the SDK posts batches, with the project's key in the body.
BATCH_PATHS: Final = ("/batch/", "/batch", "/i/v0/ai/batch/")
# Where it posts them in its newer capture mode, with the key in the Authorization header.
V1_PATH: Final = "/i/v1/analytics/events"

_MAX_BODY: Final = 20 * 2**20  # bytes that PostHog takes in one request


class _InvalidError(Exception):
    """The request is answered 400, with these words."""


@dataclass(frozen=True)
class PostHogEvent:
    """One event as it was received."""

    name: str
    uuid: str
    distinct_id: str
    timestamp: str | None
    properties: Mapping[str, Any]


@dataclass
class _Received:
    """What came in; owned by the endpoint's loop, replaced as a whole by a reset."""

    events: dict[str, PostHogEvent] = field(default_factory=dict)
    deliveries: int = 0
    requests: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)


class PostHogEndpoint:
    """Keeps what the SDK sends; recognises repetitions by their uuid, as PostHog does.

    Its methods may be called from any thread, at any time. A fault with ``times`` applies to the next so many
    requests, without it until :meth:`heal`. ``max_body`` is in bytes, after decompression.
    """

    def __init__(self, project_key: str = PROJECT_KEY, *, max_body: int = _MAX_BODY) -> None:
        self.project_key = project_key
        self._received = _Received()
        self._server = LoopbackServer("PostHog endpoint", self._handle, max_body)
        self._faults = FaultQueue()

    def start(self) -> Self:
        """Listen on a free port; returns itself."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening and cut what is under way; a second call does nothing."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What the SDK wants as ``host``."""
        return f"http://{HOST}:{self._server.port}"

    # What it has received

    def events(self, name: str | None = None) -> list[PostHogEvent]:
        """The events, or those named ``name``, in the order of their first arrival, each once."""
        events = list(self._received.events.values())
        return [event for event in events if name is None or event.name == name]

    @property
    def deliveries(self) -> int:
        """How often an event was accepted, repetitions included."""
        return self._received.deliveries

    @property
    def requests(self) -> list[str]:
        """Method and path of every request that was read, in order, those answered with an error included."""
        return list(self._received.requests)

    @property
    def bodies(self) -> list[str]:
        """Every body that was read, decompressed, for searches of what must not be there."""
        return list(self._received.bodies)

    def reset(self) -> None:
        """Forget what was received; faults stay."""
        self._received = _Received()

    # Outages

    def fail(self, status: int = 500, times: int | None = None, *, retry_after: float | str | None = None) -> None:
        """Answer with ``status`` and take nothing."""
        self._add(Fault(FaultKind.STATUS, times, status=status, retry_after=retry_after))

    def hang(self, times: int | None = None, seconds: float = 3600.0) -> None:
        """Take nothing and answer nothing for ``seconds``, then close."""
        self._add(Fault(FaultKind.HANG, times, seconds=seconds))

    def slow(self, seconds: float, times: int | None = None) -> None:
        """Take the events, and answer after ``seconds``."""
        self._add(Fault(FaultKind.SLOW, times, seconds=seconds))

    def lose_answers(self, times: int | None = None) -> None:
        """Take the events, and close the connection without an answer."""
        self._add(Fault(FaultKind.CUT_STREAM, times))

    def refuse(self) -> None:
        """Refuse connections, and drop those that exist."""
        self._server.run(self._server.refuse())

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._server.run(self._server.accept())

    def heal(self) -> None:
        """Drop every fault and accept connections again. A request that hangs goes on hanging."""
        self._server.call(self._faults.clear)
        self.accept()

    def _add(self, fault: Fault) -> None:
        self._server.call(lambda: self._faults.add(fault))

    # Requests, on the loop

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = self._received
        received.requests.append(f"{request.method} {request.path}")
        try:
            body = (await request.read()).decode()
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "the request is too large")
        except ValueError:
            return _error(400, "the body is not UTF-8")
        received.bodies.append(body)
        fault = self._faults.take("", stream=True)
        if fault is not None and fault.kind in (FaultKind.STATUS, FaultKind.HANG):
            return await _misbehave(request, fault)
        answer = self._answer(request, body, received)
        if fault is not None:
            await _delay(request, fault)
        return answer

    def _answer(self, request: web.Request, body: str, received: _Received) -> web.Response:
        v1 = request.path == V1_PATH
        if request.method != "POST" or not (v1 or request.path in BATCH_PATHS):
            return _error(404, "PostHog captures nothing here")
        try:
            data = json.loads(body, parse_constant=_refuse_constant)
            events = _events(data)
        except ValueError:
            return _error(400, "the body is not JSON")
        except _InvalidError as invalid:
            return _error(400, str(invalid))
        if _key(request, data, v1=v1) != self.project_key:
            return _error(401, "the project's key is not valid")
        received.deliveries += len(events)
        for event in events:
            received.events.setdefault(event.uuid, event)
        if v1:
            return web.json_response({"results": {event.uuid: {"result": "ok"} for event in events}})
        return web.json_response({"status": "Ok"})


def _key(request: web.Request, data: Mapping[str, Any], *, v1: bool) -> Any:
    return request.headers.get("Authorization", "").removeprefix("Bearer ") if v1 else data.get("api_key")


def _events(data: Any) -> list[PostHogEvent]:
    if not isinstance(data, dict) or not isinstance(data.get("batch"), list):
        raise _InvalidError("there is no batch")
    if not _is_unicode(data):
        raise _InvalidError("there is half of a surrogate pair")  # as strict parsers have it
    return [_event(event) for event in data["batch"]]


def _event(data: Any) -> PostHogEvent:
    if not isinstance(data, dict) or not isinstance(data.get("properties", {}), dict):
        raise _InvalidError("an event is no object")
    name, distinct_id, uuid = (data.get(key) for key in ("event", "distinct_id", "uuid"))
    if not (name and distinct_id and uuid and all(isinstance(value, str) for value in (name, distinct_id, uuid))):
        raise _InvalidError("an event lacks its name, distinct_id or uuid")
    UUID(uuid)
    return PostHogEvent(name, uuid, distinct_id, data.get("timestamp"), data.get("properties", {}))


def _is_unicode(data: Any) -> bool:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _error(status: int, detail: str) -> web.Response:
    return web.json_response({"type": "validation_error", "detail": detail}, status=status)


async def _misbehave(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault.kind is FaultKind.HANG:
        await asyncio.sleep(fault.seconds)
        return _cut(request)
    answer = _error(fault.status, "a simulated fault")
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    return answer


async def _delay(request: web.Request, fault: Fault) -> None:
    if fault.kind is FaultKind.SLOW:
        await asyncio.sleep(fault.seconds)
    elif fault.kind is FaultKind.CUT_STREAM:
        _cut(request)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def wait_for_events(endpoint: PostHogEndpoint, count: int, name: str | None = None, seconds: float = 20.0) -> bool:
    """Whether ``endpoint`` has ``count`` events, of that ``name``, within so many seconds; blocks until then."""
    deadline = time.monotonic() + seconds
    while len(endpoint.events(name)) < count:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True
