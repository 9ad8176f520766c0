"""A simulated provider with many accounts on one port: ``http://127.0.0.1:PORT/<account>/...``."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from drop_in import media
from wallie_litellm.simulator.anthropic_wire import AnthropicWire
from wallie_litellm.simulator.loopback_server import LoopbackServer
from wallie_litellm.simulator.openai_wire import OpenAIWire, error_body
from wallie_litellm.simulator.wire import Ask, Json, Wire, WireAnswer, WireReply

CREATED: Final = 1_700_000_000  # unix time in seconds: the same in every answer
MAX_BODY: Final = 2**22  # bytes
LONGEST: Final = 5.0  # seconds that a hanging answer is held
# The wording that LiteLLM 1.106 and 1.110 both recognise; 1.110 does not read the code beside it.
_REFUSED_CONTENT: Final = "Your request was rejected as a result of the safety system."
_KEY_HEADERS: Final = ("authorization", "x-api-key")
_OWN_HEADERS: Final = ("x-", "openai-", "anthropic-")  # beginnings of headers that a caller or LiteLLM sets on purpose


@dataclass(frozen=True)
class Fault:
    """One answer that is not the usual one."""

    status: int = 200  # an error of the vendor's, unless 200
    kind: str = "failure"  # failure | rate_limited | context_window | content_policy
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before the answer
    pieces: int | None = None  # pieces of text after which a stream breaks, or stays silent
    silent: bool = False  # the stream stays open without a word instead of breaking
    text: str | None = None
    body: Json | None = None  # of an error, in place of the vendor's usual one


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    account: str
    path: str
    key: str
    headers: Mapping[str, str]
    body: Json


class Upstream:
    """The server. An account gives the answers of its script in turn, and then the usual one: ``from <account>``."""

    def __init__(self) -> None:
        self._server = LoopbackServer("drop-in upstream", self._handle, MAX_BODY)
        self._wires: dict[bool, Wire] = {False: OpenAIWire(), True: AnthropicWire()}
        self.prepare({})

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def prepare(self, script: Mapping[str, Sequence[Fault]]) -> None:
        """Begin anew, with these answers; the last of an account's is repeated when it is followed by ``...``."""
        self._script = {account: deque(faults) for account, faults in script.items()}
        self.requests: list[Request] = []
        self.at_once: Counter[str] = Counter()  # the most requests of an account at one time
        self.left: Counter[str] = Counter()  # requests whose client left before the end
        self._running: Counter[str] = Counter()

    def base(self, account: str) -> str:
        """The address of an account."""
        return f"http://127.0.0.1:{self._server.port}/{account}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        account, _, path = request.path.lstrip("/").partition("/")
        body = await media.read(request)
        self.requests.append(_seen(account, path, request.headers, body))
        serial = len(self.requests)
        self._running[account] += 1
        self.at_once[account] = max(self.at_once[account], self._running[account])
        try:
            return await self._answer(request, account, path, body, serial)
        except (asyncio.CancelledError, ConnectionError):
            self.left[account] += 1
            raise
        finally:
            self._running[account] -= 1

    async def _answer(
        self, request: web.Request, account: str, path: str, body: Json, serial: int
    ) -> web.StreamResponse:
        fault = self._next(account)
        wire = self._wires[path.endswith("messages")]
        ask = wire.parse(f"/{path}", body)
        await asyncio.sleep(min(fault.delay, LONGEST))
        if fault.status != 200:
            return _whole(_failure(wire, fault, body, serial), fault)
        text = fault.text or f"from {account}"
        if ask is None:
            return media.answer(path, request.method, body, text)
        answer = WireAnswer(serial, CREATED, text, ask.prompt_tokens, 3 if ask.answers else 0)
        if ask.stream:
            return await self._stream(request, wire, ask, answer, fault)
        return _whole(WireReply(200, wire.complete(ask, answer)), fault)

    async def _stream(
        self, request: web.Request, wire: Wire, ask: Ask, answer: WireAnswer, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=dict(fault.headers))
        response.content_type = "text/event-stream"
        await response.prepare(request)
        pieces = 0
        for event in wire.stream(ask, answer):
            if pieces == fault.pieces and event.content:
                return await _break_off(request, response, fault)
            await response.write(event.payload)
            pieces += event.content
        return response

    def _next(self, account: str) -> Fault:
        script = self._script.get(account)
        if not script:
            return Fault()
        return script[0] if len(script) > 1 and script[1] is ... else script.popleft()


def _seen(account: str, path: str, headers: Mapping[str, str], body: Json) -> Request:
    lower = {name.lower(): value for name, value in headers.items()}
    key = next((lower[name] for name in _KEY_HEADERS if name in lower), "")
    own = {
        name: value
        for name, value in lower.items()
        if name.startswith(_OWN_HEADERS) and not name.startswith("x-stainless") and name not in _KEY_HEADERS
    }
    return Request(account, path, key.removeprefix("Bearer "), own, body)


def _failure(wire: Wire, fault: Fault, body: Json, serial: int) -> WireReply:
    model = str(body.get("model", ""))
    if fault.body is not None:
        return WireReply(fault.status, fault.body)
    if fault.kind == "rate_limited":
        return wire.rate_limited(None, model, serial)
    if fault.kind == "context_window":
        return wire.context_window(model, serial)
    if fault.kind == "content_policy":
        return WireReply(400, error_body(_REFUSED_CONTENT, "invalid_request_error", "content_policy_violation"))
    return wire.failure(fault.status, model, serial)


def _whole(reply: WireReply, fault: Fault) -> web.Response:
    headers = {**reply.headers, **fault.headers}
    return web.Response(status=reply.status, body=reply.payload(), headers=headers, content_type="application/json")


async def _break_off(request: web.Request, response: web.StreamResponse, fault: Fault) -> web.StreamResponse:
    if fault.silent:
        await asyncio.sleep(LONGEST)
    if request.transport is not None:
        request.transport.abort()
    return response


def failing(status: int = 500, **headers: str) -> Fault:
    """The vendor's error with this status."""
    return Fault(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


LIMITED: Final = Fault(429, "rate_limited")
TOO_LONG: Final = Fault(400, "context_window")
NOT_ALLOWED: Final = Fault(400, "content_policy")


def dumps(body: Json) -> str:
    """A body in an order of its own, for comparing."""
    return json.dumps(body, sort_keys=True)
