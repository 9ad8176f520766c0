"""Messages between the render process and its parent: a length (4 bytes, big-endian) and JSON.

The parent sends its settings, then requests. The process answers with one byte once it is ready, then with responses:
a message whose ``html`` and ``compressed`` are the lengths in bytes of what follows it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any


def framed(message: Mapping[str, Any]) -> bytes:
    """The bytes of ``message``."""
    text = json.dumps(message).encode()
    return len(text).to_bytes(4, "big") + text


async def receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; ``None`` at the end of the stream."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        found: dict[str, Any] = json.loads(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None
    return found
