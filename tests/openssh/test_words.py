"""What a person at the real client is told: the words arrive, once, and lead the operator to the rows."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.openssh.lan import Lan
from tests.relay_process import make_key

pytestmark = pytest.mark.system

# a person at a terminal, as far as ssh can tell, but nobody there who could answer a prompt
TALKATIVE = ("-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1")


def stranger(lan: Lan, name: str, *arguments: str) -> str:
    """What ssh says to somebody who offers only the key of that name; it has no terminal to ask on."""
    if not (lan.relay.directory / name).exists():
        make_key(lan.relay.directory / name)
    done = subprocess.run(
        ["ssh", *lan.relay.ssh_options(name), *TALKATIVE, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name not in ("DISPLAY", "SSH_ASKPASS")},
    )
    assert done.returncode == 255
    return done.stderr


def fingerprint(key: Path) -> str:
    """As ssh-keygen says it."""
    return subprocess.run(["ssh-keygen", "-lf", str(key)], capture_output=True, text=True).stdout.split()[1]


def test_who_is_not_known_is_told_once(lan: Lan) -> None:
    """With no known key: the fingerprint offered and a reference id, once; the same id stands in the relay's log."""
    said = stranger(lan, "mallory", "-W", "remote:2222", "relay")
    assert said.count("This relay knows none of the keys that were offered") == 1
    assert fingerprint(lan.relay.directory / "mallory") in said
    number = re.search(r"with the id ([0-9a-z]+)\.", said)
    assert number is not None, said
    assert "Permission denied" in said
    assert number[1] in lan.relay.log()


def test_who_is_not_known_is_told_through_a_jump_too(lan: Lan) -> None:
    """`ssh -J` with an unknown key ends cleanly too; BatchMode (here from the configuration file) asks for silence."""
    said = stranger(lan, "mallory", "-J", "relay", "remote", "true")
    assert "Permission denied" in said
    assert "bug of ours" not in lan.relay.log()


def test_many_unknown_keys_in_an_agent(lan: Lan, tmp_path: Path) -> None:
    """Twenty unknown keys are offered without penalty, and the known one after them lets alice in."""
    more: list[str] = []
    for number in range(19):
        make_key(tmp_path / f"k{number}")
        more += ["-i", str(tmp_path / f"k{number}")]
    config = Path(lan.relay.ssh_options()[1]).read_text().replace(f"  IdentityFile {lan.relay.key}\n", "")
    (tmp_path / "config").write_text(config)
    done = subprocess.run(
        ["ssh", "-F", str(tmp_path / "config"), *more, "-i", str(lan.relay.key), "-W", "remote:1", "relay"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    assert b"you may not reach that" in done.stderr
    assert b"Permission denied" not in done.stderr


def test_too_many_unknown_keys(lan: Lan, tmp_path: Path) -> None:
    """More unknown keys than that end the connection, and the client shows what to type instead."""
    more: list[str] = []
    for number in range(25):
        make_key(tmp_path / f"k{number}")
        more += ["-i", str(tmp_path / f"k{number}")]
    said = stranger(lan, "mallory", *more, "-W", "remote:1", "relay")
    assert "too many unknown keys were offered" in said
    assert "IdentitiesOnly=yes" in said


def test_ssh_to_the_relay_says_what_it_is(lan: Lan) -> None:
    """`ssh relay` shows what this host is, the person, the key's end, the reachable targets and the line to type."""
    done = lan.ssh("relay")
    said = done.stderr.decode().replace("\r", "")
    assert (done.returncode, done.stdout) == (255, b"")
    for words in (
        "this is a jump relay: it opens no shell",
        "you are logged in as alice; your key does not expire",
        "you may reach: remote:",
        "ssh -J ",
    ):
        assert words in said
    number = re.search(r"\(id ([0-9a-z]+)\)", said)
    assert number is not None
    row = lan.relay.wait_row("request.refused", id=number[1])
    assert (row["person"], row["type"]) == ("alice", "session")


def test_an_expired_key_is_told_so(lan: Lan) -> None:
    """Somebody whose known key has expired learns that, and not that the key is unknown."""
    lan.relay.person("carol", 'expiry-time="20200101Z"')
    lan.relay.ctl("reload")
    said = stranger(lan, "carol", "-W", "remote:1", "relay")
    assert "knows your key, but it has expired (id " in said


def test_a_key_from_elsewhere_is_told_so(lan: Lan) -> None:
    """A key that is only good from another address says that, to the one who holds it."""
    lan.relay.person("dave", 'from="192.0.2.0/24"')
    lan.relay.ctl("reload")
    said = stranger(lan, "dave", "-W", "remote:1", "relay")
    assert "knows your key, but it is not accepted from this address (id " in said


def test_the_reason_of_a_revocation_arrives(lan: Lan, tmp_path: Path) -> None:
    """A connection whose key is revoked is ended within seconds, and the client shows why."""
    lan.relay.person("erin")
    lan.relay.ctl("reload")
    erin = lan.relay.ssh_options("erin")
    client = subprocess.Popen(
        ["ssh", *erin, "-N", "relay"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    lan.relay.wait_row("login.succeeded", person="erin")
    (lan.relay.site / "keys" / "erin.pub").unlink()
    _, said = client.communicate(timeout=20)
    assert client.returncode == 255
    assert b"your key is no longer accepted" in said
    assert lan.relay.wait_row("connection.closed", person="erin")["reason"].startswith("key-")


def test_old_login_names_work(lan: Lan) -> None:
    """The login name is recorded and decides nothing: the one used with the old sshd goes on working."""
    config = lan.relay.ssh_options()[1]
    done = lan.ssh("-o", f"ProxyCommand=ssh -F {config} -l nologin_user -W [%h]:%p relay", "remote", "echo in")
    assert done.stdout == b"in\n", done.stderr
    row = lan.relay.wait_row("login.succeeded", login="nologin_user")
    assert row["person"] == "alice"
