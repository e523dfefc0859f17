"""The dial of a target: exactly the authorized address, through the zone's interface, with a deadline."""

import asyncio
import errno
import socket
import sys
from dataclasses import replace
from ipaddress import ip_address

from relay.core.policy.model import Address, Destination, Zone
from relay.errors import RelayError
from relay.net.kernel import egress_path, interfaces, route_guard
from relay.net.kernel.egress_path import EgressPath, Owns
from relay.net.kernel.route_guard import Obstacle

USER_TIMEOUT_MS = 30_000  # data unacknowledged for so long: the path is gone (a bound socket would hang)
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
# The obstacle of such an error, if the kernel's tables are in order again when they are asked
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
    """The path to the destination now, after two netlink questions. Raises DialFailed when the guard refuses it."""
    guard = egress_path.check_path(zone, destination.address, port=destination.port)
    if guard.reason is not None:
        raise DialFailed("overlay-down", guard.detail, guard.reason)
    return EgressPath(zone, destination.address, guard, port=destination.port)


async def dial(path: EgressPath, port: int, timeout: float, owns: Owns) -> tuple[socket.socket, EgressPath]:
    """A connected, non-blocking socket to the authorized address, bound to the zone's interface, and its path.

    Before (`find_path`) and after connecting the kernel is asked by which interface and gateway packets of that socket
    leave, and whether its own address is one of the interface's: a vanished route or another gateway refuses instead of
    leaking. `timeout` in seconds. Raises DialFailed.
    """
    family = socket.AF_INET if path.address.version == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _failure(path, error) from None
    try:
        sock.setblocking(False)
        _prepare(sock, path)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(sock, (str(path.address), port))
        except TimeoutError:
            raise DialFailed(
                *egress_path.explain_failure(path, "target-silent", f"no answer within {timeout:g} s")
            ) from None
        except OSError as error:
            raise _failure(path, error) from None
        if path.guard.interface:
            path = replace(path, source=_source(sock))
            # by name, not by the zone's pattern: the next zone check finds another interface that fits it
            answer = route_guard.guard(
                path.guard.interface, path.address, path.zone.gateway, port=path.port, source=path.source
            )
            if answer.reason is not None:  # also when the kernel cannot be asked: nothing has flowed yet
                raise DialFailed("overlay-down", answer.detail, answer.reason)
            try:
                obstacle = path.obstacle(answer, owns)
            except (OSError, RelayError) as error:
                raise DialFailed("overlay-down", str(error), Obstacle.KERNEL_SILENT) from None
            if obstacle is not None:
                raise DialFailed("overlay-down", obstacle[1], obstacle[0])
    except BaseException:
        sock.close()
        raise
    return sock, path


def _source(sock: socket.socket) -> Address:
    """The socket's own address; for link-local ones Python appends the interface."""
    return ip_address(str(sock.getsockname()[0]).partition("%")[0])


def _failure(path: EgressPath, error: OSError) -> DialFailed:
    number = error.errno or 0
    detail = f"{errno.errorcode.get(number, '?')}: {error.strerror}"
    cause = egress_path.explain_failure(path, _REASONS.get(number, "target-failed"), detail)
    if cause.reason == "overlay-down" and not cause.obstacle:
        if number == errno.EADDRNOTAVAIL and _has_address(path):
            return DialFailed("busy", f"{detail}; no port of ours is free towards {path.address}")
        return DialFailed(cause.reason, cause.detail, _OBSTACLES.get(number, ""))
    return DialFailed(*cause)


def _has_address(path: EgressPath) -> bool:
    try:
        return any(address.version == path.address.version for address in interfaces.addresses(path.guard.index))
    except (OSError, RelayError):
        return False


def _prepare(sock: socket.socket, path: EgressPath) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform != "linux":
        return  # without SO_BINDTODEVICE there is no route guard: `serve` says so at start
    interface = path.guard.interface
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
