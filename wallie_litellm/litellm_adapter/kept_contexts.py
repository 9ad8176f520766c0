"""Context variables that a garbage collection may set without a crash, on CPython before 3.12.

``ContextVar.set`` of those releases holds no reference to the variables that it copies, and a collection may begin at
each of its allocations. Where that collection ends an object that sets a variable of the same context, the variables
that are being copied are freed, and the process dies of a segmentation fault, or goes on without some of them:
https://github.com/python/cpython/issues/148891. LiteLLM's streams set two variables when they are collected, and its
coroutines reset theirs when they are closed, so that a proxy dies after enough streams that have failed.

Since 3.12 a collection begins between two instructions only.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Mapping
from contextvars import Context, copy_context
from typing import Any, Final

# Collections within one call of ``ContextVar.set``, at most: it allocates a node for each of the eight levels of the
# variables' tree, and one for its root.
_MOST: Final = 9
_kept: deque[Context] = deque(maxlen=_MOST)


def keep_contexts() -> None:
    """Have the variables that each collection meets live for as long as a ``ContextVar.set`` may go on reading them."""
    if sys.version_info < (3, 12) and _keep not in gc.callbacks:
        gc.callbacks.append(_keep)


def _keep(phase: str, _: Mapping[str, Any]) -> None:
    if phase == "start":
        _kept.append(copy_context())
