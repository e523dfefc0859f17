"""How a target is reached: exactly the judged address, through the zone's interface, with a deadline."""

import asyncio
import errno
import socket
import sys
from dataclasses import dataclass

from relay.core.rules import Destination, Zone
from relay.net import routes

USER_TIMEOUT_MS = 30_000  # unacknowledged data this old means the path is gone (a bound flow hangs otherwise)
KEEPALIVE = (60, 15, 3)  # idle s, interval s, probes: a silent dead target is noticed after about 105 s

_REASONS = {
    errno.ECONNREFUSED: "target-refused",
    errno.ETIMEDOUT: "target-silent",
    errno.EHOSTUNREACH: "target-unreachable",
    errno.ENETUNREACH: "overlay-down",
    errno.ENODEV: "overlay-down",
    errno.EADDRNOTAVAIL: "overlay-down",
    errno.ENETDOWN: "overlay-down",
    errno.EMFILE: "busy",
    errno.ENFILE: "busy",
    errno.ENOBUFS: "busy",
    errno.ENOMEM: "busy",
}


@dataclass(frozen=True, slots=True)
class DialFailed(Exception):
    """The target could not be reached: `reason` is a stable word of the audit log, `detail` for the operator."""

    reason: str
    detail: str


async def dial(destination: Destination, zone: Zone, timeout: float) -> socket.socket:
    """A connected, non-blocking socket to the judged address, bound to the zone's interface.

    The kernel is asked before and after connecting which way packets of that socket go (relay.net.routes), so
    a vanished route or another gateway refuses instead of leaking. `timeout` in seconds. Raises DialFailed.
    """
    before = _guard(zone, destination)
    family = socket.AF_INET if destination.address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _failure(error) from None
    try:
        sock.setblocking(False)
        _prepare(sock, before.interface)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(sock, (str(destination.address), destination.port))
        except TimeoutError:
            raise DialFailed("target-silent", f"no answer within {timeout:g} s") from None
        except OSError as error:
            raise _failure(error) from None
        after = _guard(zone, destination)
        if (after.interface, after.index) != (before.interface, before.index):
            raise DialFailed("overlay-down", f"{before.interface} was made anew while the target was dialled")
    except BaseException:
        sock.close()
        raise
    return sock


def _guard(zone: Zone, destination: Destination) -> routes.Guard:
    if sys.platform != "linux":
        return routes.Guard(None)
    guard = routes.guard(zone.interface, destination.address, zone.gateway)
    if not guard.ok:
        raise DialFailed("overlay-down", f"{guard.reason}: {guard.detail}")
    return guard


def _failure(error: OSError) -> DialFailed:
    number = error.errno or 0
    return DialFailed(_REASONS.get(number, "target-failed"), f"{errno.errorcode.get(number, '?')}: {error.strerror}")


def _prepare(sock: socket.socket, interface: str) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform != "linux":
        return  # without SO_BINDTODEVICE there is no route guard: `serve` says so at start
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except OSError as error:
        raise DialFailed("overlay-down", f"cannot bind to {interface}: {error.strerror}") from None
    idle, interval, probes = KEEPALIVE
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
