"""The walk "Moving from sshd" of the README: the relay beside sshd, then in its place; no client notices."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openssh.lan import USER, Lan, Sshd
from tests.relay_process import Relay

pytestmark = pytest.mark.system


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Sshd]:
    """The sshd that was the jump host until now, with an ECDSA host key as well, as Debian makes them."""
    directory = tmp_path / "old"
    directory.mkdir()
    ecdsa = directory / "ecdsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(ecdsa)], check=True)
    one = Sshd(directory, ("127.0.0.1",), f"HostKey {ecdsa}\n")
    try:
        yield one.start()
    finally:
        one.end()


def jump(one: Relay, host: Sshd, port: int, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Alice jumps as she always did: the old port, the old login name, her old known_hosts, no questions."""
    proxy = (
        f"ProxyCommand=ssh -F {one.ssh_options()[1]} -o StrictHostKeyChecking=yes {' '.join(options)} "
        f"-p {port} -l {USER} -W [%h]:%p relay"
    )
    return one.ssh("-o", proxy, "-p", str(host.port), "127.0.0.2", "echo through")


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa"])
def test_the_walk(old: Sshd, sshd: Sshd, tmp_path: Path, algorithm: str) -> None:
    """Host keys and persons are taken over, a colleague tries, the relay takes the port: known_hosts still fits."""
    one = Relay(tmp_path)
    try:
        (one.site / "keys" / "alice.pub").unlink()
        sshd.let_in(one.public)
        old.let_in(f'command="/usr/sbin/nologin",no-pty {one.public}')
        # before: through sshd, which the client knows by one host key only
        scanned = subprocess.run(
            ["ssh-keyscan", "-p", str(old.port), "-t", algorithm, "127.0.0.1"],
            capture_output=True,
            text=True,
        ).stdout
        assert algorithm in scanned
        (one.directory / "known_hosts").write_text(scanned)
        Lan(one, sshd)
        done = jump(one, sshd, old.port)
        assert done.stdout == b"through\n", done.stderr
        # 1 and 2: beside it, with its host keys and its people
        keys = [str(old.host_key), str(old.directory / "ecdsa")]
        one.ctl("init", str(one.site), *(word for key in keys for word in ("--host-key", key)))
        assert "alice" in one.ctl("import-keys", str(old.authorized))
        assert not (one.site / "keys" / "alice.pub").exists()
        one.ctl("import-keys", str(old.authorized), "--yes")
        one.ctl("check")
        # 3: a colleague tries the other port; HostKeyAlias, because the port is another one than before
        one.start()
        alias = f"HostKeyAlias=[127.0.0.1]:{old.port}"
        done = jump(one, sshd, one.port, "-o", alias)
        assert done.stdout == b"through\n", done.stderr
        one.stop()
        # 4 and 5: sshd moves aside and the relay takes its port
        old.end()
        one.listener.close()
        one.listener = socket.create_server(("127.0.0.1", old.port), backlog=512)
        one.port = old.port
        one.settings("")
        one.start()
        done = jump(one, sshd, old.port)
        assert done.stdout == b"through\n", done.stderr
        assert b"WARNING" not in done.stderr
        row = one.wait_row("login.succeeded", login=USER)
        assert row["person"] == "alice"
        # the way back: sshd again, and still nobody is asked anything
        one.stop()
        one.listener.close()
        old.start()
        assert jump(one, sshd, old.port).stdout == b"through\n"
    finally:
        one.end()
