"""Where clients connect: systemd's sockets or our own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from relay.errors import RelayError
from relay.serve.supervisor import listeners


def test_sockets_are_bound_where_the_site_says() -> None:
    """Each address is listened at; both families at once do not disturb each other."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (sock,) = listeners.bind([f"127.0.0.1:{port}"])
    with sock:
        assert sock.getsockname() == ("127.0.0.1", port)
        assert not sock.getblocking()
        with pytest.raises(RelayError) as caught:
            listeners.bind([f"127.0.0.1:{port}"])
    assert f"127.0.0.1:{port}" in caught.value.what
    assert "ss -ltnp" in caught.value.hint


def test_sockets_of_another_process_are_not_taken() -> None:
    """LISTEN_FDS meant for another pid is ignored (sd_listen_fds(3))."""
    assert listeners.inherited({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}, os.getpid()) == []
    assert listeners.inherited({}, os.getpid()) == []


def test_what_is_listened_at_is_compared_with_the_wish() -> None:
    """However an address is written, it is the same one; what differs is said in words."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert listeners.missing([sock], [f"127.0.0.1:{port}"]) == []
        assert listeners.missing([sock], ["127.0.0.1:1"]) == [
            "not at 127.0.0.1:1",
            f"at 127.0.0.1:{port}, which is not in `listen`",
        ]
        assert listeners.missing([], ["[0:0::1]:5"]) == ["not at [0:0::1]:5"]


def test_a_local_socket_takes_the_place_of_another(tmp_path: Path) -> None:
    """Whoever connects reaches the one before or the one after, and nobody finds nothing."""
    path = tmp_path / "control.sock"
    with listeners.local(path) as first, socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(str(path))
        with listeners.local(path) as second:
            late.connect(str(path))
            first.accept()[0].close()
            second.accept()[0].close()
        assert [one.name for one in tmp_path.iterdir()] == ["control.sock"]
        assert path.stat().st_mode & 0o777 == 0o600


_INHERIT = """
import os, sys
from relay.errors import RelayError
from relay.serve.supervisor import listeners
os.dup2(int(sys.argv[1]), listeners.FIRST)
try:
    (sock,) = listeners.inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, os.getpid())
    print(listeners.where(sock), sock.getblocking(), os.get_inheritable(sock.fileno()))
except RelayError as error:
    print(error.what)
"""


def inherited(sock: socket.socket) -> str:
    """What a process says that finds `sock` where systemd puts the first socket."""
    done = subprocess.run(
        [sys.executable, "-c", _INHERIT, str(sock.fileno())],
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_systemds_socket_is_taken() -> None:
    """Descriptor 3 becomes a socket that neither blocks nor is passed on to workers."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert inherited(sock) == f"127.0.0.1:{sock.getsockname()[1]} False False\n"


def test_a_descriptor_that_is_no_listener_is_refused() -> None:
    """Whatever systemd passes must be a listening TCP socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert inherited(ours) == "descriptor 3 from systemd is no listening TCP socket\n"
