"""A dial asks the kernel again once it is connected: what has changed meanwhile refuses, before a byte has flowed."""

import asyncio
import os
import resource
import socket
from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy.model import Address, Zone
from relay.net.kernel import netlink
from relay.net.kernel.egress_path import EgressPath
from relay.net.kernel.route_guard import RouteCheck
from relay.serve.worker.forward.dial import KEEPALIVE, USER_TIMEOUT_MS, DialFailed, dial

HERE = ip_address("127.0.0.1")
LO = socket.if_nametoindex("lo")


def owns(index: int, address: Address) -> bool:
    """Every address is the interface's own."""
    return True


def way(*, gateway: Address | None = None, index: int = LO) -> EgressPath:
    """The way by lo as it is said to have been found before the dial."""
    return EgressPath(
        Zone("here", (ip_network("127.0.0.0/8"),), "lo", gateway), HERE, RouteCheck(None, "", "lo", index)
    )


def dialled(by: EgressPath) -> tuple[socket.socket, EgressPath]:
    """Dial a listener of our own, which takes whatever comes."""
    with socket.create_server((str(HERE), 0)) as listener:
        return asyncio.run(dial(by, listener.getsockname()[1], 5.0, owns))


def test_a_way_that_stayed_is_connected_and_bound() -> None:
    """The socket belongs to the zone's interface, and notices a path that is gone."""
    sock, found = dialled(way())
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        options = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
        assert tuple(sock.getsockopt(socket.IPPROTO_TCP, option) for option in options) == KEEPALIVE
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
    assert found.source == HERE


@pytest.mark.parametrize(
    ("found", "obstacle"),
    [(way(gateway=ip_address("127.0.0.9")), "other-gateway"), (way(index=LO + 1000), "interface-remade")],
    ids=["the route", "the interface"],
)
def test_what_changed_during_the_dial_refuses(found: EgressPath, obstacle: str) -> None:
    """The target has answered, but by another way than the one that was found: whoever that was gets nothing."""
    with pytest.raises(DialFailed) as failed:
        dialled(found)
    assert (failed.value.reason, failed.value.obstacle) == ("overlay-down", obstacle)


def test_a_kernel_that_cannot_be_asked_any_more_refuses() -> None:
    """No descriptor is left to ask with: what is open may go on then, but no answer is no leave for what is new."""

    async def at_the_limit(port: int) -> None:
        netlink.unshare()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        following = os.dup(0)
        os.close(following)
        resource.setrlimit(resource.RLIMIT_NOFILE, (following + 1, hard))  # one more: the dial's own
        try:
            await dial(way(), port, 5.0, owns)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with socket.create_server((str(HERE), 0)) as listener, pytest.raises(DialFailed) as failed:
        asyncio.run(at_the_limit(listener.getsockname()[1]))
    assert (failed.value.reason, failed.value.obstacle) == ("overlay-down", "kernel-silent")
