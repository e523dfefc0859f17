"""How a target is reached: exactly the judged address, through the zone's interface, with a deadline."""

import asyncio
import errno
import socket
import sys
from dataclasses import replace
from ipaddress import ip_address

from relay.core.policy.model import Address, Destination, Zone
from relay.errors import RelayError
from relay.net.kernel import egress_path as ways
from relay.net.kernel import interfaces, route_guard
from relay.net.kernel.egress_path import EgressPath, Owns
from relay.net.kernel.route_guard import Obstacle

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
# What such an error alone says, where the kernel's tables are well again when it is asked
_OBSTACLES = {
    errno.ENETUNREACH: Obstacle.ROUTE_MISSING,
    errno.ENODEV: Obstacle.INTERFACE_MISSING,
    errno.EADDRNOTAVAIL: Obstacle.SOURCE_ADDRESS,
    errno.ENETDOWN: Obstacle.INTERFACE_DOWN,
}


class DialFailed(Exception):
    """The target could not be reached."""

    def __init__(self, reason: str, detail: str, obstacle: str = "") -> None:
        """`reason` and `obstacle` (what is wrong with the zone, "" if not known) are stable words of the audit log.

        `detail` is for the operator.
        """
        super().__init__(reason, detail, obstacle)
        self.reason = reason
        self.detail = detail
        self.obstacle = obstacle


def find_path(zone: Zone, destination: Destination) -> EgressPath:
    """The way into the zone at this moment. Costs two netlink questions. Raises DialFailed when it is closed."""
    guard = ways.look(zone, destination.address, port=destination.port)
    if guard.reason is not None:
        raise DialFailed("overlay-down", guard.detail, guard.reason)
    return EgressPath(zone, destination.address, guard, port=destination.port)


async def dial(way: EgressPath, port: int, timeout: float, owns: Owns) -> tuple[socket.socket, EgressPath]:
    """A connected, non-blocking socket to the judged address, bound to the zone's interface, and its way with source.

    The kernel is asked before (`find`) and after connecting which way packets of that socket go, and whether its
    own address is one of the interface's: so a vanished route or another gateway refuses instead of leaking.
    `timeout` in seconds. Raises DialFailed.
    """
    family = socket.AF_INET if way.address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _failure(way, error) from None
    try:
        sock.setblocking(False)
        _prepare(sock, way)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(sock, (str(way.address), port))
        except TimeoutError:
            raise DialFailed(*ways.why(way, "target-silent", f"no answer within {timeout:g} s")) from None
        except OSError as error:
            raise _failure(way, error) from None
        if way.guard.interface:
            way = replace(way, source=_source(sock))
            # by name, not by the zone's pattern: another interface that fits it as well is seen by the next look
            now = route_guard.guard(
                way.guard.interface, way.address, way.zone.gateway, port=way.port, source=way.source
            )
            if now.reason is not None:  # also when the kernel cannot be asked: nothing has flowed yet
                raise DialFailed("overlay-down", now.detail, now.reason)
            try:
                found = way.obstacle(now, owns)
            except (OSError, RelayError) as error:
                raise DialFailed("overlay-down", str(error), Obstacle.KERNEL_SILENT) from None
            if found is not None:
                raise DialFailed("overlay-down", found[1], found[0])
    except BaseException:
        sock.close()
        raise
    return sock, way


def _source(sock: socket.socket) -> Address:
    """The socket's own address; for link-local ones Python appends the interface."""
    return ip_address(str(sock.getsockname()[0]).partition("%")[0])


def _failure(way: EgressPath, error: OSError) -> DialFailed:
    number = error.errno or 0
    detail = f"{errno.errorcode.get(number, '?')}: {error.strerror}"
    cause = ways.why(way, _REASONS.get(number, "target-failed"), detail)
    if cause.reason == "overlay-down" and not cause.obstacle:
        if number == errno.EADDRNOTAVAIL and _has_address(way):
            return DialFailed("busy", f"{detail}; no port of ours is free towards {way.address}")
        return DialFailed(cause.reason, cause.detail, _OBSTACLES.get(number, ""))
    return DialFailed(*cause)


def _has_address(way: EgressPath) -> bool:
    try:
        return any(one.version == way.address.version for one in interfaces.addresses(way.guard.index))
    except (OSError, RelayError):
        return False


def _prepare(sock: socket.socket, way: EgressPath) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform != "linux":
        return  # without SO_BINDTODEVICE there is no route guard: `serve` says so at start
    interface = way.guard.interface
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except OSError as error:
        detail = f"cannot bind to {interface}: {error.strerror}"
        raise DialFailed("overlay-down", detail, Obstacle.INTERFACE_MISSING) from None
    idle, interval, probes = KEEPALIVE
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
