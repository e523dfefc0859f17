"""relayctl add-key."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.people.command import ED25519, FIXTURES, PRINT, ctl, rows


def test_add_key_shows_what_it_did_and_leaves_a_row(site: Path) -> None:
    """It prints site, fingerprint and targets; the row names the administrator, without a running relay."""
    out, err = ctl(site, "add-key", "alice", FIXTURES / "ed25519.pub")
    assert err.splitlines()[0] == f"site {site}"
    assert f"added: alice {PRINT} ED25519 256 ed25519-256@fixture" in out
    assert "alice may reach now:\n  remote:22\n" in out
    assert "no relay is running" in err
    (row,) = rows(site)
    assert (row["name"], row["person"], row["fingerprint"], row["file"]) == (
        "key.added",
        "alice",
        PRINT,
        "keys/alice.pub",
    )
    assert isinstance(row["by_uid"], int)
    out, _ = ctl(site, "add-key", "alice", "-", stdin=ED25519)
    assert "already there" in out
    assert len(rows(site)) == 1


def test_add_key_takes_standard_input_and_a_pasted_key(site: Path) -> None:
    """`-`, nothing, and the key itself in the place of the file."""
    ctl(site, "add-key", "alice", stdin=(FIXTURES / "rsa-2048.rfc4716").read_text())
    out, _ = ctl(site, "add-key", "bob", ED25519.strip())
    assert f"added: bob {PRINT}" in out
    assert "bob may reach nothing yet" in out
    ctl(site, "revoke-key", PRINT)
    _, err = ctl(site, "add-key", "carol", f'from="192.0.2.1" {ED25519.strip()}', status=1)
    assert "was revoked" in err  # the key with its options was read, not looked for as a file


@pytest.mark.parametrize(
    ("person", "file", "words"),
    [
        ("ops", "ed25519.pub", "is a group"),
        ("Alice", "ed25519.pub", "capital"),
        ("alice", "dsa.pub", "DSA"),
        ("alice", "ed25519-cert.pub", "certificate"),
        ("alice", "nothing.pub", "No such file"),
        ("alice", "fingerprints.txt", "not known"),
    ],
)
def test_add_key_refuses_with_a_cure(site: Path, person: str, file: str, words: str) -> None:
    """Exit status 1, what is wrong and what to do; nothing is on disk."""
    out, err = ctl(site, "add-key", person, FIXTURES / file, status=1)
    assert out == ""
    assert words in err
    assert list((site / "keys").iterdir()) == []


@pytest.mark.system
def test_fingerprints_are_those_of_a_live_ssh_keygen(site: Path, tmp_path: Path) -> None:
    """Keys made now by ssh-keygen are listed as `ssh-keygen -l` lists them."""
    for kind in (["-t", "ed25519"], ["-t", "ecdsa", "-b", "521"], ["-t", "rsa", "-b", "3072"]):
        name = kind[1]
        subprocess.run(["ssh-keygen", "-q", *kind, "-N", "", "-C", f"{name} key", "-f", tmp_path / name], check=True)
        said = subprocess.check_output(["ssh-keygen", "-l", "-f", tmp_path / f"{name}.pub"], text=True).split()
        out, _ = ctl(site, "add-key", name, tmp_path / f"{name}.pub")
        assert f"added: {name} {said[1]} {said[-1].strip('()')} {said[0]} {name} key" in out
        block = subprocess.check_output(["ssh-keygen", "-e", "-f", tmp_path / f"{name}.pub"], text=True)
        assert said[1] in ctl(site, "add-key", name, "-", stdin=block)[0]
        _, err = ctl(site, "add-key", name, tmp_path / name, status=1)
        assert "is a private key" in err
