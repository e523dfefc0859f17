"""relay.people.key_import: whose are the keys of an authorized_keys file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy.target import name_fault
from relay.errors import InputRejected
from relay.people import key_import
from relay.people.key_import import ImportPlan
from relay.site import key_files


def plan(site: Path, text: str, chosen: dict[str, str] | None = None, groups: tuple[str, ...] = ()) -> ImportPlan:
    return key_import.plan(text.encode(), "ak", key_files.read(site), site / "keys", chosen=chosen or {}, groups=groups)


def named(line: str, comment: str, options: str = "") -> str:
    return f"{options}{' '.join(line.split()[:2])} {comment}\n"


@pytest.mark.parametrize(
    ("comment", "person"),
    [
        ("alice@laptop", "alice"),
        ("Alice.W@example.com", "alice.w"),
        ("bob", "bob"),
        ("bob's old key", "bob-s-old-key"),
        ("  carol  ", "carol"),
        ("_dave_@x", "dave"),
        ("x" * 40, "x" * 32),
        ("@home", ""),
        ("", ""),
        ("李雷@电脑", ""),
        ("root@server", ""),
        ("ubuntu", ""),
        ("!!!", ""),
    ],
)
def test_a_comment_suggests_a_name(comment: str, person: str) -> None:
    """The name is the part before the @, normalised; shared accounts and empty comments suggest none."""
    assert key_import.person_of(comment) == person


@given(st.text(max_size=50))
def test_any_comment_gives_a_name_or_none(comment: str) -> None:
    """Whatever the comment, the name fits the grammar or is empty."""
    person = key_import.person_of(comment)
    assert person == "" or name_fault(person) is None


def test_a_file_is_split_into_persons(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """Options go along; nothing is written until it is asked for; then each person has a file."""
    text = (
        "# jump account\n"
        + named(lines["ed25519"], "alice@laptop", 'command="/usr/sbin/nologin",no-pty ')
        + named(lines["rsa-3072"], "alice@desk")
        + named(lines["ecdsa-256"], "Bob@x")
    )
    planned = plan(site, text)
    assert [(entry.person, entry.key.line) for entry in planned.entries] == [("alice", 2), ("alice", 3), ("bob", 4)]
    assert planned.rejected == ()
    assert list((site / "keys").iterdir()) == []
    done = key_import.write(site / "keys", planned, key_files.read(site))
    assert [(one.person, len(one.added)) for one in done] == [("alice", 2), ("bob", 1)]
    found = key_files.read(site)
    assert {key.person for key in found.keys.values()} == {"alice", "bob"}
    assert found.keys[prints["ed25519"]].without_effect == ("command=/usr/sbin/nologin", "no-pty")
    again = plan(site, text)
    assert [entry.already for entry in again.entries] == [True, True, True]


def test_each_rejected_key_has_its_reason(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """What cannot be taken over is listed with line, reason and cure; the rest is taken."""
    (site / "keys" / "bob.pub").write_text(lines["ecdsa-256"])
    (site / "keys" / "erin.pub").write_text("restrict " + lines["ecdsa-521"])
    (site / "keys" / "revoked").write_text(prints["rsa-2048"])
    text = (
        named(lines["dsa"], "alice")
        + named(lines["rsa-2048"], "alice")
        + named(lines["ecdsa-256"], "alice")
        + named(lines["ecdsa-384"], "root@host")
        + named(lines["sk-ecdsa"], "ops@host")
        + named(lines["ed25519"], "alice")
        + named(lines["ed25519"], "carol")
        + named(lines["sk-ed25519"], "alice", "cert-authority ")
        + named(lines["rsa-3072"], "")
        + named(lines["ecdsa-521"], "erin")
        + "rubbish\n"
    )
    planned = plan(site, text, groups=("ops",))
    assert [entry.key.line for entry in planned.entries] == [6]
    words = ["DSA", "revoked", "bob's already", "names no person", "group", "same key", "not supported"]
    words += ["no comment", "other options", "no public key"]
    assert [one.line for one in planned.rejected] == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    for one, word in zip(planned.rejected, words, strict=True):
        assert word in one.what
        assert one.cure


def test_a_map_says_whose_is_which(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """The map is by fingerprint or comment and overrides the comment; unused entries are reported."""
    chosen = key_import.names(
        f"# map\n{prints['ed25519'][7:]} alice\nroot@old host  bob\nnobody-has-this zed\n".encode()
    )
    assert chosen == {prints["ed25519"]: "alice", "root@old host": "bob", "nobody-has-this": "zed"}
    planned = plan(site, named(lines["ed25519"], "root@x") + named(lines["rsa-3072"], "root@old host"), chosen)
    assert [entry.person for entry in planned.entries] == ["alice", "bob"]
    assert planned.unused == ("nobody-has-this",)


@pytest.mark.parametrize("text", ["alice", "x Alice", "x ../etc", "x a\nx b", "x" * (1 << 20) + "x y"])
def test_maps_that_are_none(text: str) -> None:
    """A line without a name, a name that is none, and a second name are refused, with the cure."""
    with pytest.raises(InputRejected) as caught:
        key_import.names(text.encode())
    assert caught.value.hint


@given(st.binary(max_size=200))
def test_any_bytes_are_a_map_or_refused(data: bytes) -> None:
    """Any bytes give names that fit the grammar, or InputRejected."""
    try:
        found = key_import.names(data)
    except InputRejected:
        return
    assert all(name_fault(name) is None for name in found.values())
