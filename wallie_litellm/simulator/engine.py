"""What happens to a model request: counted, limited, perhaps failed, else answered."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from aiohttp import web

from wallie_litellm.simulator.faults import Fault, FaultKind, FaultQueue
from wallie_litellm.simulator.limits import Charge, SimulatedLimits
from wallie_litellm.simulator.settings import WIRES, ProviderSettings
from wallie_litellm.simulator.stream_script import BROKEN_JSON, StreamScript, paced, script_of
from wallie_litellm.simulator.tally import RequestTally, Visit
from wallie_litellm.simulator.tool_calls import structured_text, tool_call
from wallie_litellm.simulator.wire import Ask, Wire, WireAnswer, WireReply, retry_after_header, sse

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)  # closing the socket discards what is unsent, and sends a reset


class Engine:
    """One provider's state, owned by one event loop."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.wire: Wire = WIRES[settings.vendor]()
        self.limits = SimulatedLimits(
            settings.limits,
            settings.models,
            slack=settings.slack,
            zone=self.wire.day_zone,
            slice_seconds=settings.slice_seconds,
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
        visit = self.tally.arrive(ask.model if ask else "", body)
        self._serial += 1
        try:
            if ask is None:
                status = 404 if isinstance(body, dict) else 400
                return self.reply(visit, self.wire.failure(status, "", self._serial), self.headers(None, self._serial))
            return await _Exchange(self, request, ask, self._answer(ask), visit).run()
        except (asyncio.CancelledError, ConnectionError):
            visit.end("disconnected")
            raise
        finally:
            visit.end("failed")

    def _answer(self, ask: Ask) -> WireAnswer:
        text = (self.settings.text or f"Hello from {self.settings.name}.").removeprefix(ask.prefill)
        call = tool_call(ask.body, self._serial) if self.settings.uses_tools else None
        if self.settings.uses_tools:
            text = structured_text(ask.body) or text
        counted = self.completion_tokens_of(ask)
        completion = math.ceil(len(call.text if call else text) / 4) if counted is None else counted
        tokens = ask.prompt_tokens, completion if ask.answers else 0
        cached = min(self.settings.cached_tokens, ask.prompt_tokens)
        written = min(self.settings.cache_write_tokens, ask.prompt_tokens - cached)
        answer = WireAnswer(self._serial, int(time.time()), text, *tokens, call=call)
        return replace(answer, cached_tokens=cached, cache_write_tokens=written)

    def seconds_of(self, ask: Ask, *, refused: bool) -> float:
        """How long it takes until the answer to ``ask``, or its refusal, begins, in seconds."""
        return self.settings.latency

    def seconds_of_limit(self) -> float:
        """How long it takes until a request is refused by a limit, in seconds."""
        return 0.0

    def pause_of(self, ask: Ask) -> float:
        """How long a stream takes from its first piece of text to the others, in seconds."""
        return 0.0

    def completion_tokens_of(self, ask: Ask) -> int | None:
        """The tokens that are counted for the answer to ``ask``; ``None`` counts its text."""
        return self.settings.completion_tokens

    def reply(
        self, visit: Visit, reply: WireReply, headers: Mapping[str, str], *, stream: bool = False
    ) -> web.Response:
        """Send a complete answer. It is counted before it is sent, so that its receiver finds it counted."""
        visit.status(reply.status)
        visit.end("rejected_429" if reply.status == 429 else "failed" if reply.status >= 400 else "succeeded")
        headers = {**headers, **reply.headers}
        if stream and reply.status < 400 and not isinstance(reply.body, str):
            return web.Response(body=sse(reply.body), headers=headers, content_type="text/event-stream")
        return web.Response(status=reply.status, body=reply.payload(), headers=headers, content_type="application/json")

    def headers(self, ask: Ask | None, serial: int) -> dict[str, str]:
        """The vendor's headers of every answer: the request's id and the state of the limits."""
        if ask is None:
            return self.wire.request_id(serial)
        meters = self.limits.meters(ask.model)
        return {**self.wire.request_id(serial), **self.wire.limit_headers(meters, ask.kind)}


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
        used = engine.wire.charge_of(self._answer)
        charged = used
        if engine.wire.reserves_output and ask.answers:
            charged = used._replace(output=max(used.output, ask.max_output or 0))
        verdict = engine.limits.admit(charged, ask.model)
        if verdict.refused_by is not None:
            self._visit.refused(verdict.scope, verdict.refused_by)
            if seconds := engine.seconds_of_limit():
                await asyncio.sleep(seconds)
            meters = {**engine.limits.meters(ask.model), verdict.refused_by: verdict.meter}
            return self._send(engine.wire.limited(verdict, meters, ask.model, serial))
        fault = engine.faults.take(ask.model, stream=ask.stream, prefilled=bool(ask.prefill))
        refusal = engine.wire.invalid(ask, serial) or (self._refusal(fault) if fault else None)
        try:
            await asyncio.sleep(engine.seconds_of(ask, refused=refusal is not None))
            return await self._answered(fault) if refusal is None else self._send(refusal)
        finally:
            # An error still counts as a request.
            engine.limits.end(charged, used if refusal is None else Charge(0, 0), ask.model)

    async def _answered(self, fault: Fault | None) -> web.StreamResponse:
        if fault is None:
            return await self._stream(None) if self._ask.stream else self._send(self._whole())
        begins = fault.after_headers or fault.after_chunks is not None
        match fault.kind:
            case FaultKind.RESET:
                return self._reset()
            case FaultKind.HANG if not begins:
                return await self._hang(fault)
            case FaultKind.SLOW if not begins:
                await asyncio.sleep(fault.seconds)
            case FaultKind.MALFORMED if not begins:
                return self._malformed()
        if self._ask.stream:
            return await self._stream(fault)
        return await self._in_one_piece(fault)

    def _whole(self) -> WireReply:
        self._visit.bill(self._answer.prompt_tokens, self._answer.completion_tokens)
        return WireReply(200, self._engine.wire.complete(self._ask, self._answer))

    async def _in_one_piece(self, fault: Fault) -> web.StreamResponse:
        if fault.kind is FaultKind.ERROR_IN_200:
            self._visit.end("failed")
            failure = self._engine.wire.failure(fault.status, self._ask.model, self._answer.serial)
            return self._send(WireReply(200, failure.body))
        if not fault.after_headers:
            return self._send(self._whole())
        if fault.kind is FaultKind.HANG:
            return await self._play(StreamScript((fault.seconds,), whole=False, aborted=True), "application/json", ())
        payload = WireReply(200, self._engine.wire.complete(self._ask, self._answer)).payload()
        return await self._play(StreamScript((fault.seconds, payload)), "application/json", (payload,))

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
            case FaultKind.REFUSE_PREFILL:
                return wire.prefill_refused(model, serial)
        return None

    def _send(self, reply: WireReply) -> web.Response:
        headers = self._engine.headers(self._ask, self._answer.serial)
        return self._engine.reply(self._visit, reply, headers, stream=self._ask.stream)

    def _malformed(self) -> web.Response:
        self._visit.end("failed")
        self._visit.bill(self._answer.prompt_tokens, self._answer.completion_tokens)
        body = sse(BROKEN_JSON).decode() if self._ask.stream else BROKEN_JSON
        response = self._send(WireReply(200, body))
        if self._ask.stream:
            response.content_type = "text/event-stream"
        return response

    async def _hang(self, fault: Fault) -> web.Response:
        await asyncio.sleep(fault.seconds)
        self._visit.end("failed")
        self._abort()
        return web.Response()

    def _reset(self) -> web.Response:
        self._visit.end("failed")
        transport = self._request.transport
        sock = transport.get_extra_info("socket") if transport is not None else None
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._abort()
        return web.Response()

    async def _stream(self, fault: Fault | None) -> web.StreamResponse:
        answer, wire = self._answer, self._engine.wire
        if fault is not None and fault.kind is FaultKind.OMIT_USAGE:
            answer = replace(answer, with_usage=False)
        if fault is not None and fault.kind is FaultKind.OMIT_FINISH:
            answer = replace(answer, with_finish=False)
        error = wire.error_events(self._ask, answer, fault.status if fault else 500)
        events = list(wire.stream(self._ask, answer))
        script = paced(script_of(events, fault, error), events, self._engine.pause_of(self._ask))
        return await self._play(script, "text/event-stream", [event.payload for event in events])

    async def _play(self, script: StreamScript, content_type: str, sold: Sequence[bytes]) -> web.StreamResponse:
        """Send ``script``; of its payloads those in ``sold`` are the answer, and billed as they are sent."""
        headers = {**self._engine.headers(self._ask, self._answer.serial), "cache-control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        response.content_type = content_type
        self._visit.status(200)
        await response.prepare(self._request)
        sent, answer, payloads = 0, self._answer, frozenset(sold)
        for number, step in enumerate(script.steps, start=1):
            if not isinstance(step, bytes):
                await asyncio.sleep(step)
                continue
            if step in payloads:
                sent += 1
                self._visit.bill(answer.prompt_tokens, math.ceil(answer.completion_tokens * sent / len(sold)))
            if number == len(script.steps):  # before it is sent: its receiver finds it counted
                self._visit.end("succeeded" if script.whole else "failed")
            await response.write(step)
        self._visit.end("succeeded" if script.whole else "failed")
        if script.aborted:
            self._abort()
        return response

    def _abort(self) -> None:
        """Close the connection without ending the answer."""
        if self._request.transport is not None:
            self._request.transport.abort()
