"""Sending a batch piece by piece: what is accepted, what has to go, and what is to be sent again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

Message = dict[str, Any]

_SUSPECTS = 8  # messages refused one by one, none accepted, before the fault is taken for the receiver's
_MOST_REMEMBERED = 1_000


class SendResult(Enum):
    """What became of a batch that was sent."""

    ACCEPTED = auto()
    UNAVAILABLE = auto()  # down, slow, busy: again soon
    MISCONFIGURED = auto()  # a wrong key or place: again, but not soon
    REFUSED = auto()  # something in it is not to the receiver's liking
    TOO_LARGE = auto()


class PostHogReply(NamedTuple):
    """An answer, in a word why (never the receiver's own text), and the seconds it asks to be left alone."""

    answer: SendResult
    reason: str = ""
    retry_after: float = 0.0


Send = Callable[[Sequence[Message], float], PostHogReply]
"""Sends a batch within so many seconds; raises nothing."""


class Dispatch:
    """Sends batches with ``send`` and counts. One thread at a time may use it."""

    def __init__(self, name: str, send: Send) -> None:
        self._name = name
        self._send = send
        self._refused: dict[str, int] = {}  # messages refused by themselves, and what had been delivered by then
        self.delivered = 0
        self.dropped = 0

    def deliver(self, parts: Sequence[Sequence[Message]], timeout: float) -> tuple[list[Message], PostHogReply]:
        """Send all ``parts``, halving what is refused; returns what is to be kept, and why.

        A message that is refused all by itself is dropped if others are accepted, now or until it is refused again.
        If none is, the fault is the receiver's, and nothing is lost.
        """
        left = list(reversed(parts))
        accepted = False
        suspects: list[Message] = []
        reply = PostHogReply(SendResult.ACCEPTED)
        while left and (accepted or len(suspects) < _SUSPECTS):
            part = left.pop()
            reply = self._send(part, timeout)
            if reply.answer is SendResult.ACCEPTED:
                self.delivered += len(part)
                accepted = True
            elif reply.answer not in (SendResult.REFUSED, SendResult.TOO_LARGE):
                left.append(part)
                break
            elif len(part) > 1:
                left += [part[len(part) // 2 :], part[: len(part) // 2]]
            elif reply.answer is SendResult.TOO_LARGE or self._is_to_blame(part[0]):
                self._drop(1, reply.reason)
            else:
                suspects.append(part[0])
        if accepted:
            self._drop(len(suspects), "refused while others were accepted")
            suspects = []
        self._remember(suspects)
        rest = suspects + [message for part in reversed(left) for message in part]
        return rest, reply if rest else PostHogReply(SendResult.ACCEPTED)

    def _is_to_blame(self, message: Message) -> bool:
        """Whether others have been accepted since ``message`` was refused for the first time."""
        return self.delivered > self._refused.pop(_identity(message), self.delivered)

    def _remember(self, suspects: Sequence[Message]) -> None:
        if len(self._refused) > _MOST_REMEMBERED:
            self._refused.clear()
        self._refused.update((_identity(message), self.delivered) for message in suspects)

    def _drop(self, count: int, reason: str) -> None:
        if count:
            self.dropped += count
            logger.error("%s: %d events were dropped (%s)", self._name, count, reason)


def _identity(message: Message) -> str:
    return str(message.get("uuid"))
