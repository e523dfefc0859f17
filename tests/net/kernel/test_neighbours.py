"""The neighbour table says whether a gateway answered, and by which link address."""

import errno
import json
import struct
import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.kernel import neighbours, netlink
from relay.net.kernel.neighbours import Neighbour, NeighbourState

if TYPE_CHECKING:
    from tests.net.conftest import Namespace

GATEWAY = ip_address("172.18.0.200")
ASK = """
import json, socket, sys
from ipaddress import ip_address
from relay.net.kernel import neighbours
found = neighbours.neighbour(ip_address(sys.argv[1]), socket.if_nametoindex("zt0"))
print(json.dumps(None if found is None else [found.state, found.mac, found.silent]))
"""


def entry(*attributes: bytes, family: int = 2, state: int = 2) -> bytes:
    return struct.pack("=BxxxiHBB", family, 3, state, 0, 1) + b"".join(attributes)


def test_an_entry_is_read() -> None:
    """Address, interface, state and link address, as ip(8) shows them."""
    body = entry(netlink.attribute(1, GATEWAY.packed), netlink.attribute(2, bytes.fromhex("024cc0c8ce6d")))
    assert neighbours.parse_neighbour(body) == Neighbour(GATEWAY, 3, NeighbourState.REACHABLE, "02:4c:c0:c8:ce:6d")


@pytest.mark.parametrize("state", [(0x01, True), (0x20, True), (0x02, False), (0x04, False), (0x80, False), (0, False)])
def test_incomplete_and_failed_are_silent(state: tuple[int, bool]) -> None:
    """Every other state, an unknown one too, is no proof of silence."""
    found = neighbours.parse_neighbour(entry(netlink.attribute(1, GATEWAY.packed), state=state[0]))
    assert found is not None
    assert found.silent is state[1]
    assert found.mac == ""


@pytest.mark.parametrize(
    "body",
    [entry(), entry(netlink.attribute(1, b"abc")), entry(netlink.attribute(1, GATEWAY.packed), family=10), b"\2\0",
     entry(netlink.attribute(1, GATEWAY.packed), netlink.attribute(2, bytes(33)))],
)  # fmt: skip
def test_a_malformed_entry_is_refused(body: bytes) -> None:
    """Addresses of a wrong length are EBADMSG."""
    with pytest.raises(OSError) as raised:
        neighbours.parse_neighbour(body)
    assert raised.value.errno == errno.EBADMSG


@given(st.binary(max_size=120), st.sampled_from([2, 10]))
def test_any_bytes_are_an_entry_or_refused(data: bytes, family: int) -> None:
    """Nothing but OSError(EBADMSG) comes out of the parser."""
    for body in (data, bytes([family]) + data, entry(data, family=family)):
        try:
            neighbours.parse_neighbour(body)
        except OSError as error:
            assert error.errno == errno.EBADMSG


@pytest.mark.system
def test_the_kernels_table(relay_host: "Namespace") -> None:
    """A reachable, a failed and a missing entry, in both families."""

    def ask(address: str) -> object:
        return json.loads(relay_host.run(sys.executable, "-c", ASK, address))

    relay_host.ip(
        "neigh add 172.18.0.200 lladdr 02:4c:c0:c8:ce:6d dev zt0 nud reachable",
        "neigh add fd18::200 lladdr 02:4c:c0:c8:ce:6d dev zt0 nud permanent",
        "neigh add 172.18.0.201 dev zt0 nud failed",
    )
    assert ask("172.18.0.200") == ["reachable", "02:4c:c0:c8:ce:6d", False]
    assert ask("fd18::200") == ["permanent", "02:4c:c0:c8:ce:6d", False]
    assert ask("172.18.0.201") == ["failed", "", True]
    assert ask("172.18.0.202") is None
