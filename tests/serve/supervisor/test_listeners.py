"""Where clients connect: systemd's sockets or our own."""

import os
import socket
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


def test_a_predecessors_sockets_are_kept_where_they_are_still_wanted() -> None:
    """What is listened at already goes on, what is new is bound, what is not wanted any more is closed."""
    kept, dropped = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    with socket.create_server(("127.0.0.3", 0)) as probe:
        fresh = f"127.0.0.3:{probe.getsockname()[1]}"
    at = listeners.where(kept)
    with kept, dropped:
        first, second = listeners.adopt([kept, dropped], [fresh, at])
        with second:
            assert first is kept
            assert listeners.where(second) == fresh
            assert dropped.fileno() == -1


def test_an_address_that_cannot_be_had_ends_the_adoption() -> None:
    """The successor does not start, and the predecessor goes on: the address is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RelayError, match="cannot listen at"):
        listeners.adopt([], [listeners.where(taken)])


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


def test_a_descriptor_that_is_no_listener_is_refused() -> None:
    """Whatever is handed over: it must be a listening TCP socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(RelayError, match="no listening TCP socket"):
        listeners.given(os.dup(ours.fileno()), "somebody")
