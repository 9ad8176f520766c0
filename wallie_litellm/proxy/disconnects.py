"""Clients that leave: their requests end at once, wherever they are. It is a setting of LiteLLM's proxy."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import MutableMapping
from typing import Final

_LOOKS: Final = 0.05  # seconds between two looks at whether the proxy has read its settings
_MOST_LOOKS: Final = 2_400  # two minutes of them
_tasks: set[asyncio.Task[None]] = set()  # the event loop keeps weak references only


def cancel_when_clients_leave() -> None:
    """Turn LiteLLM's setting on, unless the proxy's file states it. The proxy reads it for each request."""
    server = sys.modules.get("litellm.proxy.proxy_server")
    if server is not None and isinstance(server.general_settings, MutableMapping):
        server.general_settings.setdefault("cancel_on_disconnect", True)


def cancel_when_clients_leave_once_started() -> None:
    """The same as soon as the proxy has read its settings, which are not there yet when it loads its callbacks."""

    async def when_started() -> None:
        for _ in range(_MOST_LOOKS):
            if getattr(sys.modules.get("litellm.proxy.proxy_server"), "llm_router", None) is not None:
                break
            await asyncio.sleep(_LOOKS)
        cancel_when_clients_leave()

    try:
        task = asyncio.get_running_loop().create_task(when_started())
    except RuntimeError:  # not a proxy that starts
        return
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
