"""The render process itself: reads requests from standard input and writes rendered panels to standard output.

It ends with its parent, or when it has had no request for a while.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.html import render_panels
from wallie_litellm.dashboard.ledger_reader import LedgerReader
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panels import Panels
from wallie_litellm.dashboard.render_pipe import framed, receive
from wallie_litellm.dashboard.view_model import Fleet, Worker

UNUSED_FOR: Final = 300.0  # seconds without a request after which the process ends


class _ReportedSource:
    """The status and the fleet of the parent's last request."""

    read_only: str | None = None

    def __init__(self) -> None:
        self._status: Mapping[str, Any] = {}
        self._fleet = Fleet("process", "connecting", None, None, 1, (), None)

    def report(self, status: Mapping[str, Any], fleet: Mapping[str, Any]) -> None:
        self._status = status
        self._fleet = Fleet(**{**fleet, "workers": [Worker(**one) for one in fleet["workers"]]})

    async def status(self) -> Mapping[str, Any]:
        return self._status

    async def limits(self) -> Mapping[str, Any]:
        return {"providers": {}}  # no panel asks for them

    async def fleet(self) -> Fleet:
        return self._fleet

    def act(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the parent carries out actions")

    record_export = conclude_experiment = resume_arm = feedback = switch = reload = act


class _Renderer:
    """Renders what the parent requests."""

    def __init__(self, config: WallieConfig, responses: asyncio.StreamWriter) -> None:
        self._source = _ReportedSource()
        self.ledger = LedgerReader(config.ledger)
        self._panels = Panels(self._source, self.ledger, config, render_panels)
        self._responses = responses

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on."""
        self._panels.configure(config)

    async def respond(self, request: Mapping[str, Any]) -> None:
        """Render, and write the response."""
        header: dict[str, Any] = {"number": request["number"], "error": None, "etag": ""}
        html = compressed = b""
        try:
            self._source.report(request["status"], request["fleet"])
            if request["refresh"]:
                self._panels.forget()
            rendered = await self._panels.render(PanelKey(**request["key"]))
            html, compressed, header["etag"] = rendered.html, rendered.compressed, rendered.etag
        except Exception as error:  # noqa: BLE001 - the parent renders itself then, and meets it too
            header["error"] = f"{type(error).__name__}: {error}"
        self._responses.write(framed({**header, "html": len(html), "compressed": len(compressed)}) + html + compressed)
        await self._responses.drain()


async def _serve_parent() -> None:
    """Render what the parent requests, until it ends or has requested nothing for ``UNUSED_FOR``."""
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    responses = asyncio.StreamWriter(transport, protocol, None, loop)
    settings = await receive(requests)
    if settings is None:
        return
    renderer = _Renderer(WallieConfig.model_validate(settings), responses)
    responses.write(b"+")
    tasks: set[asyncio.Task[None]] = set()
    with suppress(TimeoutError):
        while (request := await asyncio.wait_for(receive(requests), UNUSED_FOR)) is not None:
            if "settings" in request:
                renderer.configure(WallieConfig.model_validate(request["settings"]))
                continue
            task = asyncio.ensure_future(renderer.respond(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await renderer.ledger.close()


if __name__ == "__main__":
    asyncio.run(_serve_parent())
