"""The handle of one simulated provider."""

from __future__ import annotations

import http.client
import json
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

from wallie_litellm.simulator.buckets import Meter
from wallie_litellm.simulator.faults import Fault, FaultKind
from wallie_litellm.simulator.hosts import Host, ProcessHost, ThreadHost
from wallie_litellm.simulator.limits import ACCOUNT, Charge
from wallie_litellm.simulator.settings import HOST, WIRES, Ports, ProviderSettings
from wallie_litellm.simulator.tally import Counts, VisitRecord

_CONTROL_TIMEOUT: Final = 10.0  # seconds for a control request


class SimulatedProvider:
    """A provider that listens on 127.0.0.1 only, answers as its vendor does, and fails as its faults say.

    ``settings`` are the fields of :class:`~wallie_litellm.simulator.settings.ProviderSettings`: the limits that it
    enforces, what it says and counts. ``vendor`` selects the wire format, by default that of its name.
    ``in_process=False`` runs it as a process of its own.

    The fault methods may be called at any time, from any thread. A fault with ``times=N`` applies to
    the next N requests that it fits, without ``times`` until ``heal()``; a request gets the first fault,
    in the order they were set, that fits its ``model`` (the name on the wire) and its kind. Requests
    over a limit get their 429 first and use up no fault. A request that ends with an assistant's message is
    answered with the rest of ``text``, where that message is its beginning.
    """

    def __init__(self, name: str, *, in_process: bool = True, vendor: str | None = None, **settings: Any) -> None:
        self.name = name
        self.settings = ProviderSettings(name=name, vendor=vendor or name, **settings)
        self._in_process = in_process
        self._host: Host | None = None
        self._ports: Ports | None = None

    def start(self) -> Self:
        """Listen; returns itself."""
        if self._host is None:
            host: Host = ThreadHost() if self._in_process else ProcessHost()
            self._ports = host.start(self.settings)
            self._host = host
        return self

    def stop(self) -> None:
        """End the server, cutting whatever is still in flight; a second call does nothing."""
        host, self._host, self._ports = self._host, None, None
        if host is not None:
            host.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The model port; the same while it refuses connections."""
        return self._listening().model

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a path."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_base(self) -> str:
        """What LiteLLM wants as ``api_base`` for this vendor."""
        return self.base_url + WIRES[self.settings.vendor].api_path

    def _listening(self) -> Ports:
        if self._ports is None:
            raise RuntimeError(f"the simulated provider {self.name!r} is not started")
        return self._ports

    # Faults

    def set_fault(self, fault: Fault) -> None:
        """Put ``fault`` behind those already set; the methods below name the usual ones."""
        self._control("POST", "faults", fault.to_json())

    def fail(
        self,
        status: int = 500,
        *,
        times: int | None = None,
        retry_after: float | str | None = None,
        body: Any = None,
        model: str | None = None,
    ) -> None:
        """Answer with ``status``, in the vendor's error body or in ``body``."""
        self.set_fault(Fault(FaultKind.STATUS, times, model, status=status, retry_after=retry_after, body=body))

    def hang(
        self,
        times: int | None = None,
        seconds: float = 3600.0,
        *,
        after_chunks: int | None = None,
        after_headers: bool = False,
        model: str | None = None,
    ) -> None:
        """Send nothing for ``seconds``, then close.

        ``after_headers`` sends the status and the headers first. With ``after_chunks`` a stream stalls after so many
        chunks of text; 0 is after what precedes the text, such as OpenAI's chunk with the role.
        """
        fault = Fault(FaultKind.HANG, times, model, seconds=seconds)
        self.set_fault(replace(fault, after_chunks=after_chunks, after_headers=after_headers))

    def slow(
        self,
        seconds: float,
        times: int | None = None,
        *,
        after_chunks: int | None = None,
        after_headers: bool = False,
        model: str | None = None,
    ) -> None:
        """Answer correctly, with a pause of ``seconds`` where :meth:`hang` would begin."""
        fault = Fault(FaultKind.SLOW, times, model, seconds=seconds)
        self.set_fault(replace(fault, after_chunks=after_chunks, after_headers=after_headers))

    def reset_connection(self, times: int | None = None, *, model: str | None = None) -> None:
        """Reset the connection (RST) once the request has been read."""
        self.set_fault(Fault(FaultKind.RESET, times, model))

    def cut_stream(self, after_chunks: int = 2, times: int | None = None, *, model: str | None = None) -> None:
        """Close the connection after so many chunks of text, without an end; only streams have it."""
        self.set_fault(Fault(FaultKind.CUT_STREAM, times, model, after_chunks=after_chunks))

    def omit_usage(self, times: int | None = None, *, model: str | None = None) -> None:
        """Stream without usage; answers in one piece keep theirs."""
        self.set_fault(Fault(FaultKind.OMIT_USAGE, times, model))

    def truncate_stream(self, after_chunks: int = 2, times: int | None = None, *, model: str | None = None) -> None:
        """End a stream after so many chunks of text as HTTP has it, but without an end mark."""
        self.set_fault(Fault(FaultKind.TRUNCATE_STREAM, times, model, after_chunks=after_chunks))

    def omit_end(self, times: int | None = None, *, model: str | None = None) -> None:
        """Stream everything but the last event: ``[DONE]``, ``message_stop`` or ``response.completed``."""
        self.set_fault(Fault(FaultKind.OMIT_END, times, model))

    def omit_finish(self, times: int | None = None, *, model: str | None = None) -> None:
        """Stream the text and ``[DONE]``, usage on every chunk, and no finish reason; OpenAI's format only."""
        self.set_fault(Fault(FaultKind.OMIT_FINISH, times, model))

    def malformed(self, times: int | None = None, *, after_chunks: int | None = None, model: str | None = None) -> None:
        """Answer 200 with broken JSON; with ``after_chunks``, a stream is right but for one event there."""
        self.set_fault(Fault(FaultKind.MALFORMED, times, model, after_chunks=after_chunks))

    def error_in_200(
        self,
        status: int = 503,
        times: int | None = None,
        *,
        after_chunks: int | None = None,
        model: str | None = None,
    ) -> None:
        """Answer 200 with an error object that says ``status``; a stream has it after so many chunks of text."""
        self.set_fault(Fault(FaultKind.ERROR_IN_200, times, model, status=status, after_chunks=after_chunks))

    def rate_limit(
        self, retry_after: float | str | None, times: int | None = None, *, model: str | None = None
    ) -> None:
        """Answer 429 with this Retry-After, true or not: seconds or an HTTP date."""
        self.set_fault(Fault(FaultKind.RATE_LIMIT, times, model, retry_after=retry_after))

    def content_policy(self, times: int | None = None, *, model: str | None = None) -> None:
        """Refuse the prompt's content, as the vendor does."""
        self.set_fault(Fault(FaultKind.CONTENT_POLICY, times, model))

    def context_window(self, times: int | None = None, *, model: str | None = None) -> None:
        """Refuse the prompt's length, as the vendor does."""
        self.set_fault(Fault(FaultKind.CONTEXT_WINDOW, times, model))

    def quota_exhausted(self, times: int | None = None, *, model: str | None = None) -> None:
        """Refuse the account, as the vendor does when money or quota has run out."""
        self.set_fault(Fault(FaultKind.QUOTA_EXHAUSTED, times, model))

    def refuse_prefill(self, times: int | None = None, *, model: str | None = None) -> None:
        """Refuse requests whose last message is the assistant's; others do not meet this fault."""
        self.set_fault(Fault(FaultKind.REFUSE_PREFILL, times, model))

    def refuse(self) -> None:
        """Refuse connections, and drop those that exist."""
        self._control("POST", "refuse")

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._control("POST", "accept")

    def heal(self) -> None:
        """Drop every fault and accept connections again."""
        self._control("DELETE", "faults")
        self.accept()

    # Limits

    def change_limits(self, pattern: str = ACCOUNT, **limits: int | None) -> None:
        """Another tier from now on: the account's limits, or those of the models of ``pattern``; None is no limit.

        Those that are not named stay. What was used stays used.
        """
        self._control("POST", "limits", {"pattern": pattern, "limits": limits})

    def use_elsewhere(
        self, requests: float = 0, input_tokens: float = 0, output_tokens: float = 0, model: str = ""
    ) -> None:
        """Let a second client of the account take so much of its limits a minute, evenly and before other calls.

        ``model`` is the one that it calls (the name on the wire). It takes no more than there is, and meets no fault.
        """
        uses = Charge(input_tokens, output_tokens, requests)._asdict()
        self._control("POST", "limits", {"uses": uses, "model": model})

    def limits(self, model: str = "") -> dict[str, Meter]:
        """The limits by name, as an answer to a call of ``model`` has them."""
        path = f"limits?{urlencode({'model': model})}"
        return {name: Meter(**meter) for name, meter in self._control("GET", path).items()}

    # Counts

    def counts(self) -> Counts:
        """What it has received since the start or the last ``reset()``."""
        return Counts.from_json(self._control("GET", "counts"))

    def bodies(self) -> list[Any]:
        """The bodies of the last requests, at most 100, since the start or the last ``reset()``."""
        bodies: list[Any] = self._control("GET", "bodies")
        return bodies

    def visits(self) -> list[VisitRecord]:
        """The log of the requests since the start or the last ``reset()``, in the order of their arrival."""
        return [VisitRecord(**record) for record in self._control("GET", "visits")]

    def reset(self) -> None:
        """Count from zero and fill the limits; faults stay until ``heal()``."""
        self._control("POST", "reset")

    def restore(self) -> None:
        """``heal()`` and ``reset()`` in one request; limits that were changed stay as they are."""
        self._control("POST", "restore")

    def _control(self, method: str, route: str, body: Any = None) -> Any:
        # http.client rather than urllib: it never asks the environment for a proxy.
        connection = http.client.HTTPConnection(HOST, self._listening().control, timeout=_CONTROL_TIMEOUT)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, f"/_sim/{route}", payload, {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"the simulated provider {self.name!r} answered {response.status}: {text.decode()}")
        return json.loads(text)
