"""`ssh -J relay remote` and its kin, with the real client and a real sshd behind the relay."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.openssh.lan import BEYOND, HERE, Lan, connect_unix, echoes, exactly
from tests.relay_process import echo_server

pytestmark = [pytest.mark.system, pytest.mark.other_python]


def test_jump_runs_a_command_on_the_host_behind(lan: Lan) -> None:
    """`ssh -J relay remote` gives output, error output and exit status of the host's command, and two rows."""
    done = lan.ssh("-J", "relay", "remote", "cat; echo $SSH_CONNECTION; echo oops >&2; exit 7", stdin=b"through\n")
    assert done.returncode == 7
    assert b"oops\n" in done.stderr
    first, second = done.stdout.decode().splitlines()
    assert first == "through"
    assert second.split()[2:] == [HERE, str(lan.sshd.port)]
    opened = lan.relay.wait_row("forward.opened", asked=f"remote:{lan.sshd.port}")
    assert (opened["person"], opened["address"], opened["rule"]) == ("alice", HERE, "alice reaches remote")
    assert str(opened["client_version"]).startswith("SSH-2.0-OpenSSH")
    closed = lan.relay.wait_row("forward.closed", forward=opened["forward"])
    assert min(closed["sent"], closed["received"]) > 1000


def test_two_hops(lan: Lan) -> None:
    """`-J relay,remote` reaches through the host what the relay itself does not allow."""
    done = lan.ssh("-J", "relay,remote", "beyond", "echo $SSH_CONNECTION")
    assert done.stdout.split()[2:] == [BEYOND.encode(), str(lan.sshd.port).encode()], done.stderr
    assert lan.ssh("-J", "relay", "beyond", "true").returncode == 255
    lan.relay.wait_row("forward.denied", asked=f"{BEYOND}:{lan.sshd.port}")


def test_stdio_forward(lan: Lan) -> None:
    """`ssh -W` gives the target's bytes unchanged and ends with 0 when both sides have ended."""
    data = os.urandom(300_000)
    with echo_server(greeting=b"220 ready\r\n") as port:
        done = lan.ssh("-W", f"remote:{port}", "relay", stdin=data)
    assert (done.returncode, done.stdout) == (0, b"220 ready\r\n" + data), done.stderr
    closed = lan.relay.wait_row("forward.closed", asked=f"remote:{port}")
    assert (closed["sent"], closed["received"]) == (len(data), len(data) + 11)


def test_a_refused_target_says_so(lan: Lan) -> None:
    """`ssh -J` to what is not allowed ends with 255, the reason and the id under which the operator finds it."""
    done = lan.ssh("-J", "relay", "nowhere", "true")
    assert done.returncode == 255
    row = lan.relay.wait_row("forward.denied", asked="nowhere:22")
    assert f"no such host behind this relay (id {row['id']})".encode() in done.stderr
    closed_port = lan.ssh("-W", "remote:1024", "relay")
    assert b"nothing listens on that port" in closed_port.stderr
    assert lan.relay.wait_row("forward.closed", asked="remote:1024")["reason"] == "target-refused"


def test_control_master_shares_one_connection(lan: Lan) -> None:
    """Several jumps over one ControlMaster connection are several forwards of one connection, each on record."""
    before = len(lan.relay.rows("login.succeeded"))
    with lan.master() as path:
        jump = ["-o", f"ProxyCommand=ssh -S {path} -W %h:%p relay"]
        several = [
            subprocess.Popen(
                ["ssh", *lan.relay.ssh_options(), *jump, "remote", f"echo {number}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number in range(4)
        ]
        for number, process in enumerate(several):
            out, error = process.communicate(timeout=30)
            assert out == f"{number}\n".encode(), error
    logins = lan.relay.rows("login.succeeded")[before:]
    assert len(logins) == 1
    lan.relay.wait_row("connection.closed", connection=logins[0]["connection"], forwards=4)


def test_no_command_stays_and_ends_when_asked(lan: Lan, tmp_path: Path) -> None:
    """`ssh -N` opens no channel of its own, stays, forwards, and its end is on record as the client's own."""
    sock = tmp_path / "l"
    with echo_server() as port:
        with (
            lan.background("-N", "-L", f"{sock}:remote:{port}", "relay", ready=sock.exists),
            connect_unix(sock) as through,
        ):
            assert echoes(through)
            opened = lan.relay.wait_row("forward.opened", asked=f"remote:{port}")
        row = lan.relay.wait_row("connection.closed", connection=opened["connection"])
        assert (row["reason"], row["forwards"]) == ("client-closed", 1)
    assert not [row for row in lan.relay.rows("request.refused") if row["connection"] == opened["connection"]]


def test_scp_both_ways(lan: Lan, tmp_path: Path) -> None:
    """scp through the relay brings a file there and back unchanged."""
    (tmp_path / "a").write_bytes(os.urandom(500_000))
    there, back = tmp_path / "b", tmp_path / "c"
    for arguments in ((str(tmp_path / "a"), f"remote:{there}"), (f"remote:{there}", str(back))):
        done = lan.run("scp", "-o", "ProxyJump=relay", *arguments)
        assert done.returncode == 0, done.stderr
    assert back.read_bytes() == (tmp_path / "a").read_bytes()


def test_sftp(lan: Lan, tmp_path: Path) -> None:
    """An sftp session through the relay lists, puts and gets."""
    (tmp_path / "a").write_bytes(os.urandom(200_000))
    batch = f"put {tmp_path / 'a'} {tmp_path / 'b'}\nls -l {tmp_path}\nget {tmp_path / 'b'} {tmp_path / 'c'}\n"
    done = lan.run("sftp", "-b", "-", "-J", "relay", "remote", stdin=batch.encode())
    assert done.returncode == 0, done.stderr
    assert b"200000" in done.stdout
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


def test_rsync(lan: Lan, tmp_path: Path) -> None:
    """rsync through the relay, both ways, many files: both ends speak at once, and nothing hangs."""
    source = tmp_path / "source"
    for number in range(150):
        path = source / str(number % 7) / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 37))
    for arguments in (
        (f"{source}/", f"remote:{tmp_path / 'there'}/"),
        (f"remote:{tmp_path / 'there'}/", f"{tmp_path / 'back'}/"),
    ):
        done = lan.run("rsync", "-a", "-e", lan.command, *arguments)
        assert done.returncode == 0, done.stderr
    assert _tree(tmp_path / "back") == _tree(source)


def test_git(lan: Lan, tmp_path: Path) -> None:
    """git clone and push over ssh through the relay."""
    plain = {
        "GIT_SSH_COMMAND": lan.command,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.com",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.com",
    }
    bare, work = tmp_path / "bare.git", tmp_path / "work"

    def git(*arguments: str) -> bytes:
        done = lan.run("git", *arguments, environ=plain)
        assert done.returncode == 0, done.stderr
        return done.stdout

    git("init", "-q", "--bare", "-b", "main", str(bare))
    git("clone", "-q", f"ssh://remote{bare}", str(work))
    (work / "file").write_bytes(os.urandom(100_000))
    git("-C", str(work), "add", "file")
    git("-C", str(work), "commit", "-q", "-m", "one")
    git("-C", str(work), "push", "-q", "origin", "HEAD:main")
    assert git("--git-dir", str(bare), "rev-parse", "main") == git("-C", str(work), "rev-parse", "HEAD")


def test_a_stock_client_needs_no_option_for_the_algorithms(lan: Lan) -> None:
    """The exchange agreed is the best one both know, the cipher is AES (never chacha20), the host key is Ed25519."""
    done = lan.ssh("-v", "-W", "nowhere:1", "relay")
    said = done.stderr.decode()
    assert "kex: host key algorithm: ssh-ed25519" in said
    assert re.search(r"server->client cipher: aes128-gcm@openssh.com", said)
    known = subprocess.run(["ssh", "-Q", "kex"], capture_output=True, text=True).stdout
    best = "mlkem768x25519-sha256" if "mlkem768x25519-sha256" in known else "curve25519-sha256"
    assert f"kex: algorithm: {best}" in said


def test_checksums_through_a_pipe_of_programs(lan: Lan) -> None:
    """What a command on the host writes arrives whole: 20 MB, by checksum."""
    seed = shlex.quote("import sys,random;random.seed(1);sys.stdout.buffer.write(random.randbytes(20_000_000))")
    python = shutil.which("python3")
    lan.ssh("-J", "relay", "remote", "true")  # who is first to see a host's key is told so on stderr
    done = lan.ssh("-J", "relay", "remote", f"{python} -c {seed} | tee /dev/stderr | sha256sum")
    assert hashlib.sha256(done.stderr).hexdigest() == done.stdout.split()[0].decode()


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_half_closed_by_the_client_first(lan: Lan) -> None:
    """A client that has sent everything still gets all of the answer (`-W` with stdin at its end)."""
    with echo_server() as port:
        done = lan.ssh("-W", f"remote:{port}", "relay", stdin=b"x" * 2_000_000)
    assert len(done.stdout) == 2_000_000


def test_data_sent_before_the_confirmation_arrives(lan: Lan, tmp_path: Path) -> None:
    """What a program writes into a forward before the channel is confirmed is not lost, and neither is a banner."""
    sock = tmp_path / "l"
    with (
        echo_server(greeting=b"SSH-2.0-banner\r\n") as port,
        lan.background("-N", "-L", f"{sock}:remote:{port}", "relay", ready=sock.exists),
    ):
        for number in range(20):
            with connect_unix(sock) as through:
                early = f"early {number}".encode()
                through.sendall(early)
                assert exactly(through, 16 + len(early)) == b"SSH-2.0-banner\r\n" + early


@pytest.mark.parametrize("ciphers", ["aes128-ctr,aes256-ctr", "chacha20-poly1305@openssh.com"])
def test_who_may_speak_one_kind_of_cipher_only_is_not_locked_out(lan: Lan, ciphers: str) -> None:
    """A line `Ciphers` in somebody's ssh_config that leaves out what the relay likes best: it works all the same."""
    with echo_server() as port:
        done = lan.relay.ssh("-c", ciphers, "-W", f"remote:{port}", "relay", stdin=b"x")
    assert (done.returncode, done.stdout) == (0, b"x"), done.stderr
