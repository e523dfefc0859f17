"""Listening sockets: systemd's (sd_listen_fds(3)) or the relay's own, and the Unix sockets in STATE/run."""

import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from relay.errors import RelayError

BACKLOG = 1024
FIRST = 3  # SD_LISTEN_FDS_START


def inherited(environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets that systemd passes to this process; none without systemd.

    Raises RelayError for a descriptor that is no listening TCP socket.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = int(environ.get("LISTEN_FDS", "0"))
    return [_listening(descriptor) for descriptor in range(FIRST, FIRST + count)]


def _listening(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    sock = socket.socket(fileno=descriptor)
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise RelayError(f"descriptor {descriptor} from systemd is no listening TCP socket", "see relay.socket")
    sock.setblocking(False)
    return sock


def missing(sockets: Sequence[socket.socket], addresses: Sequence[str]) -> list[str]:
    """What differs between `addresses` and the addresses of `sockets`, in words."""
    wanted = {_place(*_split(text)): text for text in addresses}
    there = {_place(*sock.getsockname()[:2]): where(sock) for sock in sockets}
    if not socket.has_ipv6:
        wanted = {place: text for place, text in wanted.items() if place[0] != 6}
    return [f"not at {text}" for place, text in wanted.items() if place not in there] + [
        f"at {text}, which is not in `listen`" for place, text in there.items() if place not in wanted
    ]


def where(sock: socket.socket) -> str:
    """ADDRESS:PORT of a listening socket; an IPv6 address is in brackets."""
    name = sock.getsockname()
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def local(path: Path) -> socket.socket:
    """A listening Unix socket at `path`. Another one there is replaced atomically: `path` always leads to a socket."""
    fresh = path.with_name(f".{os.getpid():x}")
    fresh.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(fresh))
        fresh.chmod(0o600)
        sock.listen(128)
        sock.setblocking(False)
        fresh.rename(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _split(text: str) -> tuple[str, str]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), port


def _place(host: str, port: str | int) -> tuple[int, str, int]:
    address = ip_address(host)
    return address.version, str(address), int(port)


def bind(addresses: Sequence[str]) -> list[socket.socket]:
    """Listen at each ADDRESS:PORT. Raises RelayError naming the address that cannot be bound."""
    sockets: list[socket.socket] = []
    for text in addresses:
        host, port = _split(text)
        six = ":" in host
        if six and not socket.has_ipv6:
            continue
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if six:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, int(port)))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if six and host == "::" and sockets:
                continue  # a machine without IPv6: the default listens on both
            for other in sockets:
                other.close()
            hint = f"who has it? ss -ltnp 'sport = :{port}'"
            if isinstance(error, PermissionError):
                hint = "ports below 1024 need root or systemd's socket: relayctl init --systemd"
            raise RelayError(f"cannot listen at {text}: {error.strerror}", hint) from None
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
