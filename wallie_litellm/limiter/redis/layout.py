"""What the fleet has in Redis: keys, a channel, and the scripts. Their names carry the version of the exchange."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Final

from wallie_litellm.core.lease_exchange import VERSION

CHANNEL: Final = f"wallie:v{VERSION}:changes"  # broadcasts: the worker that changed a state, a space, the provider
WORKERS: Final = f"wallie:v{VERSION}:workers"  # hash: worker to JSON of its pid, host, start and last sign of life
PAUSED_MODELS: Final = f"wallie:v{VERSION}:paused-models"  # hash: scope to the Unix time at which its pause ends
TROUBLED_MODELS: Final = f"wallie:v{VERSION}:troubled-models"  # set: scopes of models whose breakers are not closed
SWITCHED_OFF: Final = f"wallie:v{VERSION}:switched-off"  # hash: decisions that are switched off, to the worker
RELOADS: Final = f"wallie:v{VERSION}:reloads"  # number: how often the fleet was asked to reload its configuration
STATE_TTL: Final = 2 * 86_400  # seconds that an unused provider's state is kept: a day's usage, and a weekend's pause

_LUA = files("wallie_litellm.limiter.redis").joinpath("lua")
_EXCHANGE = (
    "request",
    "token_bucket",
    "sliding_window",
    "circuit_breaker",
    "lease_server",
)  # one script: Lua in Redis has no modules

SCRIPT: Final = "\n".join(_LUA.joinpath(f"{part}.lua").read_text() for part in _EXCHANGE)
SCRIPT_ID: Final = sha1(SCRIPT.encode()).hexdigest()  # noqa: S324 - Redis' own name for a script
INSPECT_SCRIPT: Final = _LUA.joinpath("inspect.lua").read_text()
# Fails where a script may not write: a server may answer, and yet refuse that. Milliseconds to keep the key.
WRITE_TRIAL_SCRIPT: Final = "return redis.call('SET', KEYS[1], '', 'PX', ARGV[1])"


def key_of(name: str) -> str:
    """The key of a provider's state; what is in braces decides its place in a cluster."""
    return f"wallie:v{VERSION}:{{{name}}}:state"


def trial_key_of(name: str) -> str:
    """A key beside a provider's state, for :data:`WRITE_TRIAL_SCRIPT`."""
    return f"wallie:v{VERSION}:{{{name}}}:trial"


def once_key_of(key: str) -> str:
    """The key that the first worker sets to do what is done once in the fleet."""
    return f"wallie:v{VERSION}:once:{key}"
