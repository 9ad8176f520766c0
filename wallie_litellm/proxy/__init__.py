"""LiteLLM's proxy with the guard in it.

``installation``  installs the guarded router and the dashboard in a running proxy
``tier_access``   which of the proxy's keys may use a tier
``disconnects``   clients that leave: their requests end at once
``errors``        errors as the proxy's clients get them, and its log
``shutdown``      the end of its process: waits end, calls have some seconds, the sinks are drained
``launch``        ``wallie-litellm proxy``: the command and the environment it starts with
``start_report``  what a process of the proxy says when it is guarded
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
