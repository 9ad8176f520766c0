"""Which scope has lately been sent the same beginning of a prompt: its vendor still has that in its cache.

A request stays there where it can serve as soon as any other; a breaker, a pause, room and ``switch_at`` come first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from wallie_litellm.core.agent_users import agent_user
from wallie_litellm.routing.plan import Asked, Decided, Plan, Warm
from wallie_litellm.routing.remembered import Remembered

MOST_PREFIXES: Final = 10_000  # remembered at once, as digests of 16 bytes
PREFIX: Final = 4_096  # characters that count: about the 1,024 tokens from which vendors keep a prompt's beginning
USUAL: Final = 300.0  # seconds: Anthropic's cache, and about that of OpenAI's
LONG: Final = 3_600.0  # seconds: Anthropic's longer one, and OpenAI's extended one at the least

#: Keys of a request's metadata that name a conversation.
SESSION_KEYS: Final = ("session_id", "sessionId", "conversation_id", "conversationId", "thread_id", "threadId")
_CONTENT: Final = ("system", "instructions", "tools", "messages", "input")  # in the order in which vendors keep them


class WarmPrefixes:
    """The scopes that served each of the last prefixes. Safe to use from several threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._served: Remembered[tuple[str, str]] = Remembered(now, MOST_PREFIXES)  # scope and group, by digest
        self.kept = 0  # requests that stayed where their prefix was
        self.moved = 0  # requests whose prefix was elsewhere, which could not serve as soon

    def find(self, digest: bytes, seconds: float) -> Warm:
        """What is remembered of a prefix."""
        return Warm(digest, seconds, *(self._served.find(digest) or ()))

    def served(self, warm: Warm, scope: str, group: str) -> None:
        """A request with this prefix has been answered in ``scope``."""
        self._served.keep(warm.digest, (scope, group), warm.seconds)
        if warm.scope is not None:
            if warm.scope == scope:
                self.kept += 1
            else:
                self.moved += 1

    def describe(self) -> dict[str, int]:
        """How many prefixes are remembered, and how many requests stayed; JSON-ready."""
        return {"prefixes": len(self._served), "kept": self.kept, "moved": self.moved}


class WarmStep:
    """The step of a plan that looks a request's prefix up: those of all features, or of those that have points.

    ``points`` are, by feature, where prompts are marked for the vendors' caches.
    """

    def __init__(
        self,
        prefixes: WarmPrefixes,
        points: Mapping[str, Sequence[Mapping[str, Any]]],
        *,
        everywhere: bool,
        on: Callable[[str], bool],
    ) -> None:
        self.prefixes = prefixes
        self._seconds = {feature: LONG if _is_long(stated) else USUAL for feature, stated in points.items()}
        self._everywhere = everywhere
        self._on = on

    def __call__(self, plan: Plan, asked: Asked) -> Plan:
        """The plan, whose record has the prefix."""
        seconds = self._seconds.get(asked.feature or "")
        if (seconds is None and not self._everywhere) or not self._on("warm_prefix"):
            return plan
        digest = digest_of(asked.arguments, asked.metadata)
        if digest is None:
            return plan
        decided = plan.decided or Decided()
        decided.warm = self.prefixes.find(digest, max(seconds or USUAL, _seconds(asked.arguments)))
        return plan if plan.decided is not None else plan._replace(decided=decided)


def digest_of(arguments: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes | None:
    """The digest of a request's session, else of the beginning of what it sends.

    ``None`` where that is too short for a vendor to keep it.
    """
    session = session_of(arguments, metadata)
    if session is not None:
        return blake2b(session.encode("utf-8", "surrogatepass"), digest_size=16, person=b"session").digest()
    text, length = [], 0
    for part in _beginning(arguments):
        text.append(part[: PREFIX - length])
        length += len(text[-1])
        if length >= PREFIX:
            whole = "".join(text).encode("utf-8", "surrogatepass")
            return blake2b(whole, digest_size=16, person=b"prefix").digest()
    return None


def session_of(arguments: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """The conversation that a request is part of, as LiteLLM's arguments, its metadata or an agent's user name it."""
    stated = arguments.get("litellm_session_id")
    found = next((metadata[key] for key in SESSION_KEYS if metadata.get(key)), None) if stated is None else stated
    if found is None:
        return next((agent.session for one in _users(arguments) if (agent := agent_user(one)) is not None), None)
    return str(found) if isinstance(found, str | int) and found != "" else None


def _users(arguments: Mapping[str, Any]) -> Iterator[object]:
    """The users that a request names, as it was stated."""
    yield arguments.get("user")
    for name in ("metadata", "litellm_metadata"):
        if isinstance(found := arguments.get(name), Mapping):
            yield found.get("user_id")
            if isinstance(inner := found.get("requester_metadata"), Mapping):
                yield inner.get("user_id")


def _beginning(arguments: Mapping[str, Any]) -> Iterator[str]:
    """What a request sends, in pieces, from its beginning."""
    for name in _CONTENT:
        value = arguments.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            for one in value:
                yield from _texts(one) if name != "tools" else (json.dumps(one, default=str),)


def _texts(value: Any) -> Iterator[str]:
    """The texts in a message, in order; those of media too, which are long and cut."""
    if isinstance(value, str):
        yield value[:PREFIX]
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _seconds(arguments: Mapping[str, Any]) -> float:
    """For how long a request asks the vendor to keep its prefix."""
    if arguments.get("prompt_cache_retention") == "24h" or _is_long(arguments.get("cache_control_injection_points")):
        return LONG
    return USUAL


def _is_long(points: Any) -> bool:
    """Whether one of LiteLLM's injection points asks for Anthropic's longer cache."""
    for point in points if isinstance(points, list | tuple) else ():
        control = point.get("control") if isinstance(point, Mapping) else None
        if isinstance(control, Mapping) and control.get("ttl") == "1h":
            return True
    return False
