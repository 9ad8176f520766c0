"""A limit on wrong tokens, by client address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import Final

WINDOW: Final = 60.0  # seconds, from an address' first wrong token on
MOST_WRONG: Final = 5  # wrong tokens of one address in a window
MOST_WRONG_IN_ALL: Final = 200  # wrong tokens in a window, after which all addresses with one have to wait
MOST_ADDRESSES: Final = 10_000  # addresses counted at most; the oldest are dropped
_IPV6_PREFIX: Final = 64  # bits of an address, the network that one customer of a provider usually has


class Throttle:
    """Counts wrong tokens by address. An address without one is never refused, so that guessing locks no others out.

    Belongs to one event loop. ``now`` is in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()  # address: (start of its window, number)
        self._in_all: tuple[float, int] = (float("-inf"), 0)

    def wait(self, address: str) -> int | None:
        """Whole seconds until ``address`` may try again; ``None`` if it may now."""
        now = self._now()
        since, count = self._wrong.get(_network(address), (float("-inf"), 0))
        if not _is_open(since, now):
            return None
        if count < MOST_WRONG and not (_is_open(self._in_all[0], now) and self._in_all[1] >= MOST_WRONG_IN_ALL):
            return None
        return max(1, ceil(since + WINDOW - now))

    def wrong(self, address: str) -> None:
        """``address`` has sent a wrong token."""
        now, network = self._now(), _network(address)
        since, count = self._wrong.pop(network, (now, 0))
        self._wrong[network] = (since, count + 1) if _is_open(since, now) else (now, 1)
        while len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        began, total = self._in_all
        self._in_all = (began, total + 1) if _is_open(began, now) else (now, 1)


def _is_open(since: float, now: float) -> bool:
    """Whether a window is still open. One that begins after ``now`` is not: the clock has been set back."""
    return 0 <= now - since < WINDOW


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:  # from a dual-stack socket; one prefix would hold all of IPv4
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _IPV6_PREFIX), strict=False))
