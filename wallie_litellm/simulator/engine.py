"""What happens to a model request: counted, limited, perhaps failed, else answered."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Final

from aiohttp import web

from wallie_litellm.simulator.faults import Fault, FaultKind, FaultQueue
from wallie_litellm.simulator.limits import SimulatedLimits
from wallie_litellm.simulator.settings import WIRES, ProviderSettings
from wallie_litellm.simulator.tally import RequestTally, Visit
from wallie_litellm.simulator.wire import Ask, Wire, WireAnswer, WireReply, retry_after_header, sse

_BROKEN_JSON: Final = '{"id": "sim", "choices": [{"message": {"content": "Hel'


class Engine:
    """One provider's state, owned by one event loop."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.wire: Wire = WIRES[settings.vendor]()
        self.limits = SimulatedLimits(
            settings.rpm, settings.tpm, settings.rpd, slack=settings.slack, zone=self.wire.day_zone
        )
        self.faults = FaultQueue()
        self.tally = RequestTally()
        self._serial = 0

    def reset(self) -> None:
        """Counts from zero and limits full again; faults stay."""
        self.tally = RequestTally()
        self.limits.reset()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any POST to the model port."""
        try:
            body = json.loads(await request.read() or b"{}")
        except ValueError:
            body = None
        ask = self.wire.parse(request.path, body) if isinstance(body, dict) else None
        # From here to the verdict nothing awaits: arrivals, counts and limits see the same order.
        visit = self.tally.arrive(ask.model if ask else "")
        self._serial += 1
        try:
            if ask is None:
                status = 404 if isinstance(body, dict) else 400
                return self.reply(visit, self.wire.failure(status, "", self._serial), self._serial)
            return await _Exchange(self, request, ask, self._answer(ask), visit).run()
        except (asyncio.CancelledError, ConnectionError):
            visit.end("disconnected")
            raise
        finally:
            visit.end("failed")

    def _answer(self, ask: Ask) -> WireAnswer:
        text = self.settings.text or f"Hello from {self.settings.name}."
        counted = self.settings.completion_tokens
        completion = math.ceil(len(text) / 4) if counted is None else counted
        return WireAnswer(self._serial, int(time.time()), text, ask.prompt_tokens, completion if ask.answers else 0)

    def reply(self, visit: Visit, reply: WireReply, serial: int, *, stream: bool = False) -> web.Response:
        """Send a complete answer. It is counted before it is sent, so that its receiver finds it counted."""
        visit.status(reply.status)
        visit.end("rejected_429" if reply.status == 429 else "failed" if reply.status >= 400 else "succeeded")
        headers = {**self.headers(serial), **reply.headers}
        if stream and reply.status < 400 and not isinstance(reply.body, str):
            return web.Response(body=sse(reply.body), headers=headers, content_type="text/event-stream")
        return web.Response(status=reply.status, body=reply.payload(), headers=headers, content_type="application/json")

    def headers(self, serial: int) -> dict[str, str]:
        """The vendor's headers of every answer: the request's id and the state of the limits."""
        return {**self.wire.request_id(serial), **self.wire.limit_headers(self.limits.meters())}


class _Exchange:
    """One request on its way to an answer."""

    def __init__(self, engine: Engine, request: web.Request, ask: Ask, answer: WireAnswer, visit: Visit) -> None:
        self._engine = engine
        self._request = request
        self._ask = ask
        self._answer = answer
        self._visit = visit

    async def run(self) -> web.StreamResponse:
        """Limits come first, as at a real provider's gateway; a refused request uses up no fault."""
        engine, ask, serial = self._engine, self._ask, self._answer.serial
        verdict = engine.limits.admit(self._answer.total_tokens)
        if not verdict.admitted:
            return self._send(engine.wire.limited(verdict, engine.limits.meters(), ask.model, serial))
        fault = engine.faults.take(ask.model, stream=ask.stream)
        refusal = self._refusal(fault) if fault else None
        if refusal:
            engine.limits.refund_tokens(self._answer.total_tokens)
        await asyncio.sleep(engine.settings.latency)
        if refusal:
            return self._send(refusal)
        if fault and fault.kind is FaultKind.SLOW:
            await asyncio.sleep(fault.seconds)
        if fault and fault.kind is FaultKind.HANG and fault.after_chunks is None:
            return await self._hang(fault)
        if fault and fault.kind is FaultKind.MALFORMED:
            return self._malformed()
        if ask.stream:
            return await self._stream(fault)
        return self._send(WireReply(200, engine.wire.complete(ask, self._answer)))

    def _refusal(self, fault: Fault) -> WireReply | None:
        wire, model, serial = self._engine.wire, self._ask.model, self._answer.serial
        match fault.kind:
            case FaultKind.STATUS:
                reply = wire.failure(fault.status, model, serial)
                body = reply.body if fault.body is None else fault.body
                return WireReply(reply.status, body, {**reply.headers, **retry_after_header(fault.retry_after)})
            case FaultKind.RATE_LIMIT:
                return wire.rate_limited(fault.retry_after, model, serial)
            case FaultKind.CONTENT_POLICY:
                return wire.content_policy(model, serial)
            case FaultKind.CONTEXT_WINDOW:
                return wire.context_window(model, serial)
            case FaultKind.QUOTA_EXHAUSTED:
                return wire.quota_exhausted(model, serial)
        return None

    def _send(self, reply: WireReply) -> web.Response:
        return self._engine.reply(self._visit, reply, self._answer.serial, stream=self._ask.stream)

    def _malformed(self) -> web.Response:
        self._visit.end("failed")
        body = sse(_BROKEN_JSON).decode() if self._ask.stream else _BROKEN_JSON
        response = self._send(WireReply(200, body))
        if self._ask.stream:
            response.content_type = "text/event-stream"
        return response

    async def _hang(self, fault: Fault) -> web.Response:
        await asyncio.sleep(fault.seconds)
        self._visit.end("failed")
        self._abort()
        return web.Response()

    async def _stream(self, fault: Fault | None) -> web.StreamResponse:
        kind = fault.kind if fault else None
        answer = self._answer
        if kind is FaultKind.OMIT_USAGE:
            answer = WireAnswer(**{**vars(answer), "with_usage": False})
        stop_after = fault.after_chunks if fault else None
        response = web.StreamResponse(headers={**self._engine.headers(answer.serial), "cache-control": "no-cache"})
        response.content_type = "text/event-stream"
        self._visit.status(200)
        await response.prepare(self._request)
        events = list(self._engine.wire.stream(self._ask, answer))
        # Never past the last piece of text: a cut stream must not look complete.
        content = sum(event.content for event in events)
        limit = None if stop_after is None else min(stop_after, content)
        sent = 0
        for event in events:
            if limit is not None and sent == limit and (event.content or sent == content):
                return await self._break_off(fault, response)
            if event is events[-1]:
                self._visit.end("failed" if limit is not None else "succeeded")
            await response.write(event.payload)
            sent += event.content
        if limit is not None:
            return await self._break_off(fault, response)
        return response

    async def _break_off(self, fault: Fault | None, response: web.StreamResponse) -> web.StreamResponse:
        if fault and fault.kind is FaultKind.HANG:
            await asyncio.sleep(fault.seconds)
        self._visit.end("failed")
        self._abort()
        return response

    def _abort(self) -> None:
        """Close the connection without ending the answer."""
        if self._request.transport is not None:
            self._request.transport.abort()
