"""relay.people.add: all lines given are written, or none."""

import os
from pathlib import Path

import pytest

from relay.errors import InputRejected, NotPermitted, RelayError, SiteInvalid
from relay.people import add as adding
from relay.people.add import Addition
from relay.site import key_files


def add(site: Path, person: str, text: str, groups: tuple[str, ...] = ()) -> Addition:
    return adding.add(site / "keys", person, text.encode(), key_files.read(site), source="given", groups=groups)


def files(site: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (site / "keys").iterdir() if path.name != ".reserve"}


def test_a_key_gets_in(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """The line stands in PERSON.pub as it was given, readable by the directory's group, and the keyring has it."""
    done = add(site, "alice", "restrict,port-forwarding " + lines["ed25519"])
    assert [(key.fingerprint, key.place) for key in done.added] == [(prints["ed25519"], "keys/alice.pub:1")]
    path = site / "keys" / "alice.pub"
    assert path.read_text() == "restrict,port-forwarding " + lines["ed25519"]
    found, directory = path.stat(), (site / "keys").stat()
    assert (found.st_mode & 0o777, found.st_gid, found.st_uid) == (0o640, directory.st_gid, directory.st_uid)
    assert key_files.read(site).of("alice")[0].fingerprint == prints["ed25519"]
    assert (site / "keys" / ".reserve").stat().st_blocks > 0


def test_more_keys_come_behind_the_old_ones(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """Old lines stay as they are, also one without a line feed; several keys are added at once."""
    (site / "keys" / "alice.pub").write_text("# mine\n" + lines["ed25519"].rstrip("\n"))
    done = add(site, "alice", lines["rsa-3072"] + lines["ed25519"] + lines["ecdsa-256"])
    assert [key.line for key in done.added] == [3, 4]
    assert [key.fingerprint for key in done.already] == [prints["ed25519"]]
    for key in done.added:
        assert key_files.read(site).keys[key.fingerprint].place == key.place


def test_the_same_again_changes_nothing(site: Path, lines: dict[str, str]) -> None:
    """A key that the person has is `already` there."""
    add(site, "alice", lines["ed25519"])
    before = files(site)
    done = add(site, "alice", lines["ed25519"].split(" ed", maxsplit=1)[0])
    assert (done.added, len(done.already), files(site)) == ((), 1, before)


def test_advice_comes_with_the_place(site: Path, lines: dict[str, str]) -> None:
    """A short RSA key is taken with a warning about its line."""
    assert str(add(site, "bob", lines["rsa-2048"]).warnings[0]).startswith("keys/bob.pub:1: an RSA key of 2048 bits")


@pytest.mark.parametrize("person", ["", "Alice", "a b", "../x", "everyone", "ops", "-x", "a" * 33, "x\n", "é"])
def test_names_that_no_person_can_have(site: Path, lines: dict[str, str], person: str) -> None:
    """Malformed names, `everyone` and names of groups are refused, and nothing is written."""
    with pytest.raises(InputRejected) as caught:
        add(site, person, lines["ed25519"], groups=("ops",))
    assert caught.value.hint
    assert files(site) == {}


def test_one_bad_line_and_none_is_written(site: Path, lines: dict[str, str]) -> None:
    """All the faults of several lines are named at once."""
    with pytest.raises(SiteInvalid) as caught:
        add(site, "alice", lines["ed25519"] + lines["dsa"] + "no-touch-required " + lines["sk-ed25519"])
    assert [(fault.file, fault.line) for fault in caught.value.faults] == [("given", 2), ("given", 3)]
    with pytest.raises(InputRejected, match="given:2: DSA"):
        add(site, "alice", lines["ed25519"] + lines["dsa"])
    assert files(site) == {}


def test_a_key_of_another_person_is_refused(site: Path, lines: dict[str, str]) -> None:
    """Also when the other's line, or another line of their file, is broken."""
    (site / "keys" / "bob.pub").write_text("rubbish\nsome-option " + lines["ed25519"])
    with pytest.raises(InputRejected, match=r"is bob's already \(keys/bob.pub:2\)"):
        add(site, "alice", lines["ed25519"])


def test_a_key_with_other_options_is_not_added_twice(site: Path, lines: dict[str, str]) -> None:
    """The person's own line is named, for it must be edited; a line with a fault too."""
    add(site, "alice", lines["ed25519"])
    with pytest.raises(InputRejected, match=r"is already in keys/alice.pub:1, with other options"):
        add(site, "alice", "restrict " + lines["ed25519"])
    (site / "keys" / "alice.pub").write_text("oops " + lines["ed25519"])
    with pytest.raises(InputRejected, match=r"is already in keys/alice.pub:1, in a line with a fault"):
        add(site, "alice", lines["ed25519"])


def test_a_revoked_key_never_comes_back(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """The error names the line of keys/revoked with author, time and reason."""
    (site / "keys" / "revoked").write_text(f"# gone\n{prints['ed25519']} 2026-11-23T10:00:00Z root stolen\n")
    with pytest.raises(InputRejected, match=r"keys/revoked:2 \(2026-11-23T10:00:00Z root stolen\)"):
        add(site, "alice", lines["ed25519"])
    (site / "keys" / "revoked").unlink()
    (site / "keys" / "revoked").mkdir()
    with pytest.raises(RelayError, match="the revocations cannot be read"):
        add(site, "alice", lines["ed25519"])


def test_what_cannot_be_written_changes_nothing(
    site: Path, lines: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a foreign directory leaves the old file and no temporary one, with an error."""
    add(site, "alice", lines["ed25519"])
    before = set(os.listdir(site / "keys")), files(site)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RelayError, match="No space left") as caught:
        add(site, "alice", lines["rsa-3072"])
    assert "free some space" in caught.value.hint

    def denied(_descriptor: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "fsync", denied)
    with pytest.raises(NotPermitted, match="Permission denied"):
        add(site, "alice", lines["rsa-3072"])
    assert (set(os.listdir(site / "keys")), files(site)) == before


def test_a_link_stays_a_link(site: Path, lines: dict[str, str]) -> None:
    """A person's file may be a link to where it is looked after; what it points to is changed."""
    (site / "elsewhere").write_text(lines["ed25519"])
    (site / "keys" / "alice.pub").symlink_to(site / "elsewhere")
    add(site, "alice", lines["rsa-3072"])
    assert (site / "keys" / "alice.pub").is_symlink()
    assert (site / "elsewhere").read_text() == lines["ed25519"] + lines["rsa-3072"]
