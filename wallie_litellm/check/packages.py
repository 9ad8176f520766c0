"""Whether an optional package is installed, and the proxy's packages are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

# Modules of the extra `proxy` without which LiteLLM's proxy does not start.
_PROXY: Final = ("uvicorn", "fastapi", "orjson", "backoff", "apscheduler", "multipart", "websockets", "mcp")


def is_installed(module: str) -> bool:
    """Whether ``module`` can be imported, without importing it (its parents are imported)."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # the parent is missing; a name such as '..x'
        return False


def proxy_package_problems() -> Iterator[str]:
    """What the proxy needs and a plain installation does not have."""
    missing = [module for module in _PROXY if not is_installed(module)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield (f"the proxy's packages are missing ({missing[0]}{more}): pip install 'wallie-litellm[proxy]'")
