"""Sends a batch in halves where the whole is refused, until the refused messages are found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple

logger = logging.getLogger(__name__)

Message = dict[str, Any]

_SUSPECTS: Final = 8  # messages refused one by one, none accepted, after which the receiver is taken to be at fault
_MOST_SUSPECTS: Final = 1_000  # message ids kept between two batches


class SendResult(Enum):
    """What became of a batch that was sent."""

    ACCEPTED = auto()
    UNAVAILABLE = auto()  # down, slow or busy: retried soon
    MISCONFIGURED = auto()  # a wrong key or address: retried slowly
    REFUSED = auto()  # a message in it is invalid
    TOO_LARGE = auto()


class PostHogReply(NamedTuple):
    """A result, its reason in a few words of ours (never the receiver's text), and the seconds it asks to wait."""

    result: SendResult
    reason: str = ""
    retry_after: float = 0.0


# Sends a batch within so many seconds; raises nothing.
Send = Callable[[Sequence[Message], float], PostHogReply]


class BisectingSender:
    """Sends batches with ``send`` and counts. One thread at a time may use it."""

    def __init__(self, name: str, send: Send) -> None:
        self._name = name
        self._send = send
        self._refused: dict[str, int] = {}  # id of a message refused alone → ``delivered`` at that time
        self.delivered = 0
        self.dropped = 0

    def deliver(self, parts: Sequence[Sequence[Message]], timeout: float) -> tuple[list[Message], PostHogReply]:
        """Send all ``parts``, halving what is refused; returns what is to be sent again, and the reason.

        A message that is refused alone is dropped if others are accepted, now or before it is refused again. If no
        message is accepted, the receiver is at fault, and nothing is dropped.
        """
        left = list(reversed(parts))
        accepted = False
        suspects: list[Message] = []
        reply = PostHogReply(SendResult.ACCEPTED)
        while left and (accepted or len(suspects) < _SUSPECTS):
            part = left.pop()
            reply = self._send(part, timeout)
            if reply.result is SendResult.ACCEPTED:
                self.delivered += len(part)
                accepted = True
            elif reply.result not in (SendResult.REFUSED, SendResult.TOO_LARGE):
                left.append(part)
                break
            elif len(part) > 1:
                left += [part[len(part) // 2 :], part[: len(part) // 2]]
            elif reply.result is SendResult.TOO_LARGE or self._is_at_fault(part[0]):
                self._drop(1, reply.reason)
            else:
                suspects.append(part[0])
        if accepted:
            self._drop(len(suspects), "refused while others were accepted")
            suspects = []
        self._keep(suspects)
        rest = suspects + [message for part in reversed(left) for message in part]
        return rest, reply if rest else PostHogReply(SendResult.ACCEPTED)

    def _is_at_fault(self, message: Message) -> bool:
        """Whether other messages have been accepted since ``message`` was refused for the first time."""
        return self.delivered > self._refused.pop(_identity(message), self.delivered)

    def _keep(self, suspects: Sequence[Message]) -> None:
        if len(self._refused) > _MOST_SUSPECTS:
            self._refused.clear()
        self._refused.update((_identity(message), self.delivered) for message in suspects)

    def _drop(self, count: int, reason: str) -> None:
        if count:
            self.dropped += count
            logger.error("%s: %d events were dropped (%s)", self._name, count, reason)


def _identity(message: Message) -> str:
    return str(message.get("uuid"))
