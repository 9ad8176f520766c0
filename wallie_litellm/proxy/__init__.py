"""LiteLLM's proxy with the guard in it.

``installation``  installs the guarded router, the dashboard and the draining of the sinks in a running proxy
``launch``        ``wallie-litellm proxy``: the command and the environment it starts with
``workers``       how many processes a proxy has, and what that means for limits in memory
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wallie_litellm.proxy.installation import install

__all__ = ["install"]


def __getattr__(name: str) -> Any:
    if name != "install":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wallie_litellm.proxy.installation import install  # late: it imports LiteLLM and its proxy

    return install
