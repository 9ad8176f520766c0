import subprocess
import sys

import pytest

from wallie_litellm.rehearse.loopback_only import is_here

ATTEMPTS = """
import socket, urllib.request
from wallie_litellm.rehearse.loopback_only import OtherMachineError, forbid_other_machines
forbid_other_machines()
attempts = {
    "connect": lambda: socket.create_connection(("192.0.2.1", 80), 1),
    "connect_ex": lambda: socket.socket().connect_ex(("192.0.2.1", 80)),
    "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    "look-up": lambda: socket.getaddrinfo("example.com", 443),
    "unix": lambda: socket.socket(socket.AF_UNIX).connect("/tmp/no-such-socket"),
    "listen on all": lambda: socket.socket().bind(("0.0.0.0", 0)),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except OtherMachineError:
        continue
    except OSError as error:
        print(name, "got through:", error)
    else:
        print(name, "got through")
listening = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listening.getsockname()).close()
print("loopback", "ok")
"""


def test_no_socket_reaches_another_machine_and_loopback_is_reached():
    ended = subprocess.run([sys.executable, "-c", ATTEMPTS], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split("\n")[:-1] == ["loopback ok"]


@pytest.mark.parametrize(
    ("address", "here"),
    [
        (("127.0.0.1", 80), True),
        (("127.8.9.1", 80), True),
        (("::1", 80, 0, 0), True),
        (("localhost", 80), True),
        (("10.0.0.1", 80), False),
        (("192.168.0.1", 80), False),
        (("localhost.example.com", 80), False),
        ("/run/redis.sock", False),
    ],
)
def test_an_address_is_of_this_machine_by_its_loopback_network(address, here):
    assert is_here(address) is here
