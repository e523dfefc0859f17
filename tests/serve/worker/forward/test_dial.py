"""The dial asks the kernel again after connecting: a change meanwhile refuses, before a byte has flowed."""

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


def path(*, gateway: Address | None = None, index: int = LO) -> EgressPath:
    """A path by lo, as found before the dial."""
    return EgressPath(
        Zone("here", (ip_network("127.0.0.0/8"),), "lo", gateway), HERE, RouteCheck(None, "", "lo", index)
    )


def dialled(by: EgressPath) -> tuple[socket.socket, EgressPath]:
    """Dial a listener of the test."""
    with socket.create_server((str(HERE), 0)) as listener:
        return asyncio.run(dial(by, listener.getsockname()[1], 5.0, owns))


def test_an_unchanged_path_gives_a_bound_socket() -> None:
    """The socket is bound to the zone's interface, and notices a dead path by its keepalives."""
    sock, found = dialled(path())
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        options = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
        assert tuple(sock.getsockopt(socket.IPPROTO_TCP, option) for option in options) == KEEPALIVE
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
    assert found.source == HERE


@pytest.mark.parametrize(
    ("found", "obstacle"),
    [(path(gateway=ip_address("127.0.0.9")), "other-gateway"), (path(index=LO + 1000), "interface-remade")],
    ids=["the route", "the interface"],
)
def test_a_change_during_the_dial_refuses(found: EgressPath, obstacle: str) -> None:
    """The target has answered by another path than the one found before, so it gets no byte."""
    with pytest.raises(DialFailed) as failed:
        dialled(found)
    assert (failed.value.reason, failed.value.obstacle) == ("overlay-down", obstacle)


def test_without_an_answer_of_the_kernel_the_dial_is_refused() -> None:
    """With no descriptor left to ask, open forwards may continue, but no new one is permitted."""

    async def at_the_limit(port: int) -> None:
        netlink.close_thread_socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        following = os.dup(0)
        os.close(following)
        resource.setrlimit(resource.RLIMIT_NOFILE, (following + 1, hard))  # one more: the dial's own
        try:
            await dial(path(), port, 5.0, owns)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with socket.create_server((str(HERE), 0)) as listener, pytest.raises(DialFailed) as failed:
        asyncio.run(at_the_limit(listener.getsockname()[1]))
    assert (failed.value.reason, failed.value.obstacle) == ("overlay-down", "kernel-silent")
