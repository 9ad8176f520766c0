"""Whose failure an error is: what has to change before the same call can succeed.

Which breaker counts a failure follows from it: see :attr:`~wallie_litellm.core.attempt_result.AttemptResult.is_models`.
"""

from __future__ import annotations

from enum import Enum


class FaultDomain(Enum):
    """Where a failure lies. A rate limit without one is of an unknown scope."""

    PROVIDER = "provider"  # its servers, or the network on the way
    ACCOUNT = "account"  # the key, its permissions, its money or a limit of all its models
    MODEL = "model"  # this model at this account: it is not there, not allowed, or at a limit of its own
    REQUEST = "request"  # this request here: another provider or model may take it
    CALLER = "caller"  # the request itself: no provider takes it, or its caller has left
    OURS = "ours"  # this package, LiteLLM or code of the application's: nothing was asked of the provider
