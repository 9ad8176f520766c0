"""No socket of this process reaches another machine, from :func:`forbid_other_machines` on."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any, Final

_CONNECTING: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"})
_LOOKING_UP: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})


class OtherMachineError(OSError):
    """Something has tried to reach another machine."""


def forbid_other_machines() -> None:
    """Refuse every connection, datagram and look-up that is not for this machine; it cannot be undone.

    By an audit hook (PEP 578): Python raises its event for each before the system call. It does not see sockets that a
    library opens without Python's ``socket`` module.
    """
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _CONNECTING:
        address = arguments[1]
        if address is not None and not is_here(address):
            raise OtherMachineError(f"a rehearsal reaches no other machine: {event} of {address!r} is refused")
    elif event in _LOOKING_UP and not _is_own_name(arguments[0]):
        raise OtherMachineError(f"a rehearsal reaches no other machine: the look-up of {arguments[0]!r} is refused")


def is_here(address: object) -> bool:
    """Whether a socket's address is of this machine's loopback; those of Unix sockets are not."""
    if not isinstance(address, tuple) or not address:
        return False
    return _is_own_name(address[0])


def _is_own_name(host: object) -> bool:
    if host is None or host in ("localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False
