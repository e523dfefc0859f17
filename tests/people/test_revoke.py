"""Revocation works in any state of the site."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.core.keys.keyring import Keyring
from relay.errors import InputRejected, NotPermitted, RelayError
from relay.people import key_file
from relay.people import revoke as revoking
from relay.people.revoke import Revoked
from relay.site import key_files

NOW = 1_795_428_000  # 2026-11-23T10:00:00Z


def revoke(site: Path, what: str, why: str = "", rings: tuple[Keyring, ...] = ()) -> Revoked:
    files = key_files.read(site)
    keys = revoking.find(site / "keys", what, (files, *rings))
    return revoking.revoke(site / "keys", keys, files.revocations, now=NOW, who="root", why=why)


def put(site: Path, name: str, text: str) -> None:
    (site / "keys" / f"{name}.pub").write_text(text)


def test_a_person_is_out_with_all_keys(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """Each revoked key is listed with time, author and reason, readable for the service; other lines stay."""
    put(site, "alice", lines["ed25519"] + lines["rsa-3072"])
    put(site, "bob", lines["ecdsa-256"])
    done = revoke(site, "alice", "laptop\nstolen ")
    assert {key.fingerprint for key in done.keys} == {prints["ed25519"], prints["rsa-3072"]}
    path = site / "keys" / "revoked"
    assert path.read_text().splitlines() == [
        f"{fingerprint} 2026-11-23T10:00:00Z root alice: laptop stolen"
        for fingerprint in sorted((prints["ed25519"], prints["rsa-3072"]))
    ]
    assert path.stat().st_mode & 0o777 == 0o640
    assert [key.person for key in key_files.read(site).keys.values()] == ["bob"]


def test_one_key_by_its_fingerprint(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """With or without SHA256: in front; the owner is named, the other key stays."""
    put(site, "alice", lines["ed25519"] + lines["rsa-3072"])
    done = revoke(site, prints["ed25519"].removeprefix("SHA256:"))
    assert [(key.fingerprint, key.person) for key in done.keys] == [(prints["ed25519"], "alice")]
    assert set(key_files.read(site).keys) == {prints["rsa-3072"]}


def test_an_unknown_fingerprint_is_accepted(site: Path, prints: dict[str, str]) -> None:
    """It is shut out should it ever come."""
    done = revoke(site, prints["ed25519"], "seen on a stolen disk")
    assert done.keys[0].person == ""
    assert key_files.read(site).revocations[prints["ed25519"]].why == "seen on a stolen disk"


def test_twice_is_once(site: Path, lines: dict[str, str]) -> None:
    """Revoking again names the line and writes nothing."""
    put(site, "alice", lines["ed25519"])
    revoke(site, "alice")
    before = (site / "keys" / "revoked").read_text()
    done = revoke(site, "alice")
    assert (done.keys, done.already[0].line) == ((), 1)
    assert (site / "keys" / "revoked").read_text() == before


def test_an_unknown_name_is_refused(site: Path, lines: dict[str, str]) -> None:
    """For an unknown name the nearest one is proposed; a file without a key grants nothing."""
    put(site, "alice", lines["ed25519"])
    with pytest.raises(InputRejected, match="is neither a person nor a fingerprint") as caught:
        revoke(site, "alcie")
    assert "alice" in caught.value.hint
    put(site, "carol", "rubbish")
    with pytest.raises(InputRejected, match="contains no recognisable key") as caught:
        revoke(site, "carol")
    assert caught.value.hint == f"remove it: rm {site}/keys/carol.pub"


@pytest.mark.parametrize("damage", ["faulty line", "neighbour", "clash", "bytes", "policy", "writable", "old lines"])
def test_broken_files_stop_no_revocation(
    site: Path, lines: dict[str, str], prints: dict[str, str], damage: str
) -> None:
    """Invalid lines, other invalid files, policies and revocations do not prevent a revocation."""
    put(site, "alice", lines["ed25519"])
    if damage == "faulty line":
        put(site, "alice", 'unknown="x, ' + lines["ed25519"])
    elif damage == "neighbour":
        put(site, "bob", "rubbish\n" * 1000)
        os.mkfifo(site / "keys" / "carol.pub")
        (site / "keys" / "dave.pub").mkdir()
    elif damage == "clash":
        put(site, "bob", lines["ed25519"])
    elif damage == "bytes":
        (site / "keys" / "alice.pub").write_bytes(b"\xff\xfe\0\n\xef\xbb\xbf" + lines["ed25519"].encode())
    elif damage == "policy":
        (site / "policies" / "main.yaml").write_text("{{{{")
    elif damage == "writable":
        (site / "keys" / "alice.pub").chmod(0o666)
    else:
        (site / "keys" / "revoked").write_text("rubbish without an end")
    assert [key.fingerprint for key in revoke(site, "alice").keys] == [prints["ed25519"]]
    assert prints["ed25519"] in key_files.read(site).revoked


def test_keys_that_are_applied_but_gone_from_the_files(
    site: Path, lines: dict[str, str], prints: dict[str, str]
) -> None:
    """What was applied is known as well: its person can be revoked without a file."""
    put(site, "alice", lines["ed25519"])
    applied = key_files.read(site)
    (site / "keys" / "alice.pub").unlink()
    assert revoke(site, "alice", rings=(applied,)).keys[0].fingerprint == prints["ed25519"]


def failing(error: int, times: int) -> Callable[[int, bytes], int]:
    """os.write that fails so often and then works, having written a piece before it fails."""
    real, left = os.write, [times]

    def write(descriptor: int, data: bytes) -> int:
        if left[0] > 0:
            left[0] -= 1
            real(descriptor, data[:7])
            raise OSError(error, os.strerror(error))
        return real(descriptor, data)

    return write


def test_on_a_full_disk_the_reserve_is_given_back(
    site: Path, lines: dict[str, str], prints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is listed in the room of keys/.reserve; no half line stays behind."""
    put(site, "alice", lines["ed25519"])
    key_file.make_reserve(site / "keys")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(errno.ENOSPC, 1))
        done = revoke(site, "alice")
    assert ".reserve" in done.means
    assert not (site / "keys" / ".reserve").exists()
    assert (site / "keys" / "revoked").read_text().count("\n") == 1
    assert prints["ed25519"] in key_files.read(site).revoked


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_without_any_room_the_line_becomes_a_comment(
    site: Path, lines: dict[str, str], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Of the same length, in place, wherever the key stands; a later revocation lists it."""
    text = f"# mine\n{lines['rsa-3072']}\trestrict {lines['ed25519']}"
    put(site, "alice", text)
    put(site, "bob", lines["ecdsa-256"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(error, 9))
        done = revoke(site, "alice")
    assert [(seen.file, seen.line) for seen in done.commented] == [("keys/alice.pub", 2), ("keys/alice.pub", 3)]
    assert (site / "keys" / "alice.pub").read_text() == f"# mine\n#{lines['rsa-3072'][1:]}#restrict {lines['ed25519']}"
    found = key_files.read(site)
    assert ([key.person for key in found.keys.values()], found.faults) == (["bob"], ())


def test_a_fingerprint_without_a_line_needs_room(
    site: Path, prints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be done at all is an error that says what to do."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(errno.ENOSPC, 9))
        with pytest.raises(RelayError, match="disk is full") as caught:
            revoke(site, prints["ed25519"])
    assert "free some space" in caught.value.hint


@pytest.mark.parametrize(("error", "kind"), [(errno.EACCES, NotPermitted), (errno.EIO, RelayError)])
def test_what_may_not_be_written_is_an_error(
    site: Path, lines: dict[str, str], monkeypatch: pytest.MonkeyPatch, error: int, kind: type[RelayError]
) -> None:
    """Without the right, or with a broken disk, nothing is claimed to be done."""
    put(site, "alice", lines["ed25519"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(error, 9))
        with pytest.raises(kind, match="nothing was revoked") as caught:
            revoke(site, "alice")
    assert caught.value.hint
    assert key_files.read(site).of("alice")


def test_a_pipe_in_the_place_of_revoked(site: Path, lines: dict[str, str]) -> None:
    """Nothing blocks and nothing is written into it."""
    put(site, "alice", lines["ed25519"])
    os.mkfifo(site / "keys" / "revoked")
    with pytest.raises(RelayError, match="not a file"):
        revoke(site, "alice")


def test_policy_lines_that_name_a_person_are_found(site: Path) -> None:
    """Found as text: in broken files too, not in comments, not as a part of another name."""
    (site / "policies" / "a.yaml").write_text(
        "groups:\n  ops: [alice, bob]  # alice\n# alice\n  x: [alice2, al.alice]\n"
    )
    (site / "policies" / "b.yaml").write_bytes(b"{{{ \xff\n - {allow: [alice], \x1b[2J}\n")
    (site / "policies" / "c.yaml").mkdir()
    found = revoking.mentions(site, "alice")
    assert [(one.file, one.line) for one in found] == [("policies/a.yaml", 2), ("policies/b.yaml", 2)]
    assert "\x1b" not in found[1].text


ON_A_REAL_FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
from relay.people import key_file, revoke
from relay.site import key_files
site = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0750", "none", site], check=True)
directory = site / "keys"
directory.mkdir(mode=0o750)
for number, line in enumerate(sys.argv[2:4]):
    (directory / f"p{number}.pub").write_text(line)
key_file.make_reserve(directory)

def fill():
    with (site / "ballast").open("ab", buffering=0) as file:
        try:
            while file.write(b"x" * 512):
                pass
        except OSError:
            pass

for number in range(2):
    fill()
    files = key_files.read(site)
    keys = revoke.find(directory, f"p{number}", (files,))
    done = revoke.revoke(directory, keys, files.revocations, now=1, who="root")
    print(bool(done.means), len(done.commented), [key.person for key in key_files.read(site).keys.values()])
    if not number:
        # take what the first one left of its page
        with (directory / "revoked").open("a") as file:
            file.write("#" * (4096 - file.tell() - 1) + chr(10))
        key_file.free_reserve(directory)
"""


@pytest.mark.system
def test_on_a_disk_that_is_really_full(site: Path, lines: dict[str, str]) -> None:
    """On a full tmpfs the first revocation uses the reserve, the second one comments the line out."""
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-P", "-c", ON_A_REAL_FULL_DISK, site, lines["ed25519"], lines["rsa-3072"]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["True 0 ['p1']", "True 1 []"], done.stdout + done.stderr
