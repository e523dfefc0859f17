"""relay.site.key_files: what the files below keys/ let in."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys import public_key
from relay.site import key_files

FIXTURES = Path(__file__).parent.parent / "fixtures" / "keys"
LINES = {path.stem: path.read_text() for path in FIXTURES.glob("*.pub")}
PRINTS = {
    name: answer.split()[1]
    for name, _, answer in (
        line.partition("\t") for line in (FIXTURES / "fingerprints.txt").read_text().splitlines() if line[0] != "#"
    )
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    return tmp_path


def put(site: Path, name: str, text: str) -> Path:
    path = site / "keys" / name
    path.write_text(text)
    return path


def persons(found: key_files.Keyring) -> list[str]:
    return sorted(key.person for key in found.keys.values())


def test_one_file_per_person(site: Path) -> None:
    """Each NAME.pub gives that person's keys; other files, hidden and temporary ones among them, are not read."""
    put(site, "alice.pub", LINES["ed25519"] + LINES["rsa-3072"])
    put(site, "bob.pub", LINES["ecdsa-256"])
    for name in ("README", ".carol.pub", "carol.pub~", ".reserve", "authorized_keys"):
        put(site, name, LINES["ecdsa-384"])
    found = key_files.read(site)
    assert persons(found) == ["alice", "alice", "bob"]
    assert set(found.keys) == {PRINTS["ed25519"], PRINTS["rsa-3072"], PRINTS["ecdsa-256"]}
    assert (found.faults, found.warnings, found.shut) == ((), (), False)


def test_no_keys_at_all(tmp_path: Path) -> None:
    """A site without keys/ has an empty keyring and no fault."""
    found = key_files.read(tmp_path)
    assert (dict(found.keys), found.faults) == ({}, ())


@pytest.mark.parametrize(
    "name", ["Alice.pub", "al ice.pub", ".pub", "everyone.pub", "-x.pub", "a" * 33 + ".pub", "é.pub"]
)
def test_files_that_name_no_person(site: Path, name: str) -> None:
    """A file whose name is no person is a fault, and its keys are not accepted."""
    put(site, name, LINES["ed25519"])
    found = key_files.read(site)
    assert not found.keys
    assert name == ".pub" or "alice.pub" in found.faults[0].cure


def test_an_invalid_file_disables_no_other_key(site: Path) -> None:
    """Invalid lines, unreadable files, pipes and directories are faults; other keys are accepted."""
    put(site, "alice.pub", LINES["ed25519"])
    put(site, "bob.pub", "rubbish\n" + LINES["ecdsa-256"])
    (site / "keys" / "carol.pub").mkdir()
    os.mkfifo(site / "keys" / "dave.pub")
    put(site, "erin.pub", "x" * (key_files.FILE_BYTES_MOST + 1))
    (site / "keys" / "frank.pub").symlink_to("nowhere")
    (site / "keys" / "grace.pub").write_bytes(b"\xff\xfe" + LINES["ecdsa-384"].encode("utf-16-le"))
    found = key_files.read(site)
    assert persons(found) == ["alice", "bob"]
    assert [fault.file for fault in found.faults] == [
        f"keys/{name}.pub" for name in ("bob", "carol", "dave", "erin", "frank", "grace", "grace")
    ]
    assert all(fault.cure for fault in found.faults)


def test_keys_that_others_may_write_are_not_accepted(site: Path) -> None:
    """A world-writable key file is not accepted; if keys/revoked or keys/ is, no key is accepted."""
    put(site, "alice.pub", LINES["ed25519"])
    put(site, "bob.pub", LINES["ecdsa-256"]).chmod(0o646)
    found = key_files.read(site)
    assert (persons(found), [fault.file for fault in found.faults]) == (["alice"], ["keys/bob.pub"])
    revoked = put(site, "revoked", "")
    revoked.chmod(0o646)
    assert key_files.read(site).shut
    revoked.unlink()
    (site / "keys").chmod(0o757)
    found = key_files.read(site)
    assert (found.shut, dict(found.keys)) == (True, {})


def test_one_key_one_person(site: Path) -> None:
    """A key in three files is a fault of all three lines and is out; the persons' other keys stay."""
    put(site, "alice.pub", LINES["ed25519"] + LINES["rsa-3072"])
    put(site, "bob.pub", LINES["ecdsa-256"] + LINES["ed25519"])
    put(site, "carol.pub", LINES["ed25519"])
    found = key_files.read(site)
    assert set(found.keys) == {PRINTS["rsa-3072"], PRINTS["ecdsa-256"]}
    assert [str(fault) for fault in found.faults] == [
        "keys/alice.pub:1: the key of keys/bob.pub:2, keys/carol.pub:1 again: one key, one person; keep one of them",
        "keys/bob.pub:2: the key of keys/alice.pub:1, keys/carol.pub:1 again: one key, one person; keep one of them",
        "keys/carol.pub:1: the key of keys/alice.pub:1, keys/bob.pub:2 again: one key, one person; keep one of them",
    ]


def test_revoked_keys_are_out_whatever_the_files_say(site: Path) -> None:
    """A fingerprint, or a whole key with or without options, in keys/revoked shuts that key out; a warning says so."""
    put(site, "alice.pub", LINES["ed25519"] + LINES["rsa-3072"])
    put(site, "bob.pub", LINES["ecdsa-256"])
    put(
        site,
        "revoked",
        f"# gone\n{PRINTS['ed25519']} 2026-11-23T10:00:00Z root(0) laptop stolen, on the train\n"
        f'restrict,command="a b" {LINES["ecdsa-256"]}{LINES["dsa"]}',
    )
    found = key_files.read(site)
    assert set(found.keys) == {PRINTS["rsa-3072"]}
    assert found.revoked == {PRINTS["ed25519"], PRINTS["ecdsa-256"], PRINTS["dsa"]}
    gone = found.revocations[PRINTS["ed25519"]]
    assert (gone.when, gone.who, gone.why) == ("2026-11-23T10:00:00Z", "root(0)", "laptop stolen, on the train")
    assert [str(warning) for warning in found.warnings] == [
        "keys/alice.pub:1: revoked by keys/revoked:2; the line can be removed",
        "keys/bob.pub:1: revoked by keys/revoked:3; the line can be removed",
    ]
    assert not found.faults


def test_a_broken_line_in_revoked_takes_no_other_line_away(site: Path) -> None:
    """Broken lines are faults, and every other revocation holds; the same one twice is no fault."""
    put(site, "alice.pub", LINES["ed25519"])
    print_ = PRINTS["ed25519"]
    put(
        site,
        "revoked",
        f"oops\n{print_[:-1]}\nssh-ed25519 AA\n{LINES['ed25519-cert']}\ufeff\n{print_}=\n{print_} again",
    )
    found = key_files.read(site)
    assert not found.keys
    assert not found.shut
    assert [fault.line for fault in found.faults] == [1, 2, 3, 4, 5]
    assert found.revocations[print_].line == 6


@pytest.mark.parametrize("how", ["directory", "pipe", "too large", "loop"])
def test_unreadable_revocations_disable_all_keys(site: Path, how: str) -> None:
    """If the revocations are unreadable, no key of the files is accepted, and the fault says so."""
    put(site, "alice.pub", LINES["ed25519"])
    path = site / "keys" / "revoked"
    if how == "directory":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "loop":
        path.symlink_to("revoked")
    else:
        with path.open("wb") as file:
            file.truncate(key_files.REVOKED_BYTES_MOST + 1)
    for found in (key_files.read(site), key_files.read(site, key_files.read(site))):
        assert (found.shut, dict(found.keys)) == (True, {})
        assert "no key of the files is accepted" in found.faults[0].what


def test_unchanged_files_are_not_parsed_again(site: Path) -> None:
    """A second reading gives the very same keys without parsing; a change, a new zone or a new file is seen."""
    path = put(site, "alice.pub", 'expiry-time="20300101" ' + LINES["ed25519"])
    put(site, "bob.pub", LINES["ecdsa-256"])
    deadline = time.monotonic() + 5
    first = key_files.read(site)
    second = key_files.read(site, first)
    while not all(second.keys[name] is first.keys[name] for name in first.keys):  # until the files have settled
        assert time.monotonic() < deadline
        first, second = second, key_files.read(site, second)
    fingerprint = PRINTS["ed25519"]
    assert (
        key_files.read(site, second, offsets=((0, 3600),)).keys[fingerprint].expires != first.keys[fingerprint].expires
    )
    path.write_text('expiry-time="20300102" ' + LINES["ed25519"])  # same size
    third = key_files.read(site, second)
    assert third.keys[fingerprint].expires == (first.keys[fingerprint].expires or 0) + 86_400
    assert third.keys[PRINTS["ecdsa-256"]] is first.keys[PRINTS["ecdsa-256"]]
    path.unlink()
    assert persons(key_files.read(site, third)) == ["bob"]


def test_what_has_changed_is_seen_without_reading(site: Path) -> None:
    """Few and settled files are known to be unchanged; any change of any of them, or many files, are not."""
    put(site, "alice.pub", LINES["ed25519"])
    bob = put(site, "bob.pub", LINES["ecdsa-256"])
    deadline = time.monotonic() + 5
    found = key_files.read(site)
    while not key_files.unchanged(site, found):  # until the files have settled
        assert time.monotonic() < deadline
        found = key_files.read(site, found)
    keys = site / "keys"
    changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: put(site, "carol.pub", ""), (keys / "carol.pub").unlink),
        (lambda: put(site, "revoked", ""), (keys / "revoked").unlink),
        (lambda: keys.chmod(0o777), lambda: keys.chmod(0o700)),
        (lambda: keys.rename(site / "moved"), lambda: (site / "moved").rename(keys)),
    ]
    for change, undo in changes:
        change()
        assert not key_files.unchanged(site, found)
        undo()
        assert key_files.unchanged(site, found)
    bob.write_text(LINES["ecdsa-256"].replace("A", "B"))
    assert not key_files.unchanged(site, found)
    assert not key_files.unchanged(site, None)
    for number in range(key_files.FEW):
        put(site, f"p{number}.pub", "")
    assert not key_files.unchanged(site, key_files.read(site))


def test_a_file_rewritten_within_one_tick_is_seen(site: Path) -> None:
    """Two changes of equal size right after each other are both seen, though the clock of the files is coarse."""
    found = None
    for _ in range(50):
        for name in ("sk-ed25519", "ed25519"):
            text = LINES[name].strip().ljust(400)
            put(site, "alice.pub", text)
            found = key_files.read(site, found)
            assert list(found.keys) == [PRINTS[name]]


@given(
    st.text(max_size=200) | st.lists(st.sampled_from([*LINES.values(), *PRINTS.values(), " ", "#", "x"])).map("".join)
)
def test_any_text_in_revoked_is_read(text: str) -> None:
    """Any text gives revocations and faults, nothing else."""
    found, faults = key_files.parse_revoked(text, "keys/revoked")
    assert len(found) + len(faults) <= text.count("\n") + 1
    assert all(len(one.fingerprint) == len(public_key.fingerprint(b"")) for one in found)
    assert all(fault.cure for fault in faults)
