"""Where clients connect: systemd's sockets or our own."""

import os
import socket

import pytest

from relay.errors import RelayError
from relay.serve import listeners


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
