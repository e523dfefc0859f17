"""Everything that is no direct-tcpip, asked for by the real client: refused, on record, and nothing else suffers."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.openssh.lan import HERE, Lan, connect_unix, echoes, exactly, free_port
from tests.relay_process import echo_server

pytestmark = pytest.mark.system


@dataclass(frozen=True, slots=True)
class Living:
    """A connection to the relay with one open forward, which must outlive whatever is refused in it."""

    lan: Lan
    control: str
    forward: Path
    open: socket.socket
    connection: str

    def lives(self) -> None:
        """The forward that was open still is, and another one can be opened in the same connection."""
        assert echoes(self.open)
        with connect_unix(self.forward) as another:
            assert echoes(another)
        assert not [row for row in self.lan.relay.rows("connection.closed") if row["connection"] == self.connection]

    def refused(self, kind: str, name: str) -> dict[str, object]:
        """The row that says that this connection asked for it."""
        return self.lan.relay.wait_row("request.refused", connection=self.connection, kind=kind, type=name)


@pytest.fixture(scope="module")
def living(lan: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    """One such connection for all tests of this module."""
    sock = tmp_path_factory.mktemp("living") / "l"
    with (
        echo_server() as port,
        lan.master("-L", f"{sock}:remote:{port}") as control,
        connect_unix(sock) as through,
    ):
        assert echoes(through)
        connection = lan.relay.wait_row("forward.opened", asked=f"remote:{port}")["connection"]
        yield Living(lan, control, sock, through, connection)


@pytest.mark.parametrize(
    "asked",
    [
        ["relay"],
        ["relay", "id"],
        ["-tt", "relay"],
        ["-s", "relay", "sftp"],
        ["-A", "relay", "ssh-add -l"],
        ["-o", "SetEnv=LANG=C", "relay", "env"],
    ],
    ids=["shell", "exec", "pty", "subsystem", "agent", "env"],
)
def test_no_session_of_any_kind(living: Living, asked: list[str]) -> None:
    """Shell, command, terminal, subsystem, agent and environment: no session is opened to ask for them in."""
    done = living.lan.ssh("-S", living.control, *asked)
    assert (done.returncode, done.stdout) == (255, b"")
    living.refused("channel", "session")
    living.lives()


@pytest.mark.parametrize("more", [["-A"], ["-X", "-o", "ForwardX11Timeout=0"], ["-tt"]], ids=["agent", "x11", "pty"])
def test_what_rides_on_a_session_is_refused_with_it(lan: Lan, more: list[str]) -> None:
    """A fresh connection that wants agent, X11 or a terminal beside its shell gets the one refusal, and no more."""
    login = f"name-{len(more)}{more[0][1]}"  # any login name will do, so this connection's rows can be told by it
    assert lan.ssh(*more, "-l", login, "relay").returncode == 255
    connection = lan.relay.wait_row("connection.closed", login=login)["connection"]
    rows = [row for row in lan.relay.rows("request.refused") if row["connection"] == connection]
    assert [(row["kind"], row["type"]) for row in rows] == [("channel", "session")]


def test_no_sftp_and_no_scp_to_the_relay_itself(lan: Lan, tmp_path: Path) -> None:
    """sftp and scp to the relay end with the refusal; nothing is listed or written."""
    assert lan.run("sftp", "-b", "-", "relay", stdin=b"ls\n").returncode == 255
    (tmp_path / "a").write_text("a")
    done = lan.run("scp", str(tmp_path / "a"), f"relay:{tmp_path / 'b'}")
    assert done.returncode != 0
    assert b"only passes connections on" in done.stderr
    assert not (tmp_path / "b").exists()


def test_no_remote_forward(living: Living) -> None:
    """`-R` opens no listener on the relay, neither a port nor a socket; the client says that it failed."""
    port = free_port()
    done = living.lan.ssh("-S", living.control, "-O", "forward", "-R", f"127.0.0.1:{port}:{HERE}:22", "relay")
    assert done.returncode == 255
    assert b"remote port forwarding failed" in done.stderr + living.lan.said().encode()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    living.refused("global", "tcpip-forward")
    living.lives()


def test_no_remote_forward_of_a_unix_socket(living: Living, tmp_path: Path) -> None:
    """`-R` of a Unix socket makes no socket on the relay."""
    path = tmp_path / "remote"
    done = living.lan.ssh("-S", living.control, "-O", "forward", "-R", f"{path}:{HERE}:22", "relay")
    assert done.returncode == 255
    assert not path.exists()
    living.refused("global", "streamlocal-forward@openssh.com")
    living.lives()


def test_remote_forward_with_exit_on_failure(lan: Lan) -> None:
    """`ssh -N -R` with ExitOnForwardFailure ends at once with 255, as at any server that refuses."""
    done = lan.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{free_port()}:{HERE}:22", "relay")
    assert done.returncode == 255
    assert b"remote port forwarding failed" in done.stderr


def test_no_unix_socket_on_the_relay_is_reached(living: Living, tmp_path: Path) -> None:
    """`-L` to a Unix socket of the relay's machine (direct-streamlocal) never touches that socket."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(inside))
        listener.listen()
        listener.settimeout(0)
        done = living.lan.ssh("-S", living.control, "-O", "forward", "-L", f"{outside}:{inside}", "relay")
        assert done.returncode == 0, done.stderr
        with connect_unix(outside) as through:
            assert exactly(through, 1) == b""
        with pytest.raises(BlockingIOError):
            listener.accept()
    living.refused("channel", "direct-streamlocal@openssh.com")
    living.lives()


def test_equal_refusals_are_one_row_and_a_count(lan: Lan, tmp_path: Path) -> None:
    """A client that asks for the same thing again and again leaves one row at once and one for the rest."""
    control = str(tmp_path / "m")
    with echo_server() as port:
        first = tmp_path / "l"
        ready = Path(control).exists
        with (
            lan.background("-N", "-M", "-S", control, "-L", f"{first}:remote:{port}", "relay", ready=ready),
            connect_unix(first) as through,
        ):
            assert echoes(through)
            for _ in range(3):
                asked = f"127.0.0.1:{free_port()}:{HERE}:22"
                assert lan.ssh("-S", control, "-O", "forward", "-R", asked, "relay").returncode == 255
            connection = lan.relay.wait_row("forward.opened", asked=f"remote:{port}")["connection"]
    lan.relay.wait_row("connection.closed", connection=connection)
    rows = [row for row in lan.relay.rows("request.refused") if row["connection"] == connection]
    assert [row["count"] for row in rows] == [1, 2]


def test_no_tunnel_device(lan: Lan) -> None:
    """`-w` (a network tunnel) is refused by its channel type; asked with a packet, as the client needs a device."""
    import paramiko

    with socket.create_connection(("127.0.0.1", lan.relay.port), 10) as sock:
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=10)
        transport.auth_publickey("alice", paramiko.Ed25519Key.from_private_key_file(str(lan.relay.key)))
        with pytest.raises(paramiko.ChannelException) as refused:
            transport.open_channel("tun@openssh.com")
        assert refused.value.code == paramiko.common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        assert transport.is_active()
        transport.close()
        transport.join(10)
    lan.relay.wait_row("request.refused", type="tun@openssh.com")


def test_the_relay_runs_no_program(living: Living) -> None:
    """After all of the above the relay's processes have no children but its workers."""
    assert living.lan.relay.process is not None
    for asked in (["relay", "sleep 60"], ["-tt", "relay"]):
        living.lan.ssh("-S", living.control, *asked)
    workers = living.lan.relay.worker_pids()
    for pid in workers:
        children = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True).stdout
        assert children.split() == []
