"""Where do clients connect? The listening sockets: systemd's (sd_listen_fds(3)) or the relay's own."""

import os
import socket
from collections.abc import Mapping, Sequence

from relay.errors import RelayError

BACKLOG = 1024
FIRST = 3  # SD_LISTEN_FDS_START


def inherited(environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets that systemd holds for this process; none without it. Raises RelayError for one of another kind."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    found = []
    for descriptor in range(FIRST, FIRST + int(environ.get("LISTEN_FDS", "0"))):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise RelayError(f"descriptor {descriptor} from systemd is no listening TCP socket", "see relay.socket")
        sock.setblocking(False)
        found.append(sock)
    return found


def bind(addresses: Sequence[str]) -> list[socket.socket]:
    """Listen at each ADDRESS:PORT. Raises RelayError naming the address that cannot be had."""
    sockets: list[socket.socket] = []
    for text in addresses:
        host, _, port = text.rpartition(":")
        host = host.strip("[]")
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


def notify(environ: Mapping[str, str], text: str) -> None:
    """Tell systemd about our state (sd_notify(3)); nothing without it."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.send(text.encode())
        except OSError:
            return  # systemd will notice by itself
