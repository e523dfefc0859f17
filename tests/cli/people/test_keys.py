"""relayctl add-key, import-keys, list-keys, revoke-key: as an administrator types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.relay_process import Relay

FIXTURES = Path(__file__).parents[2] / "fixtures" / "keys"
ED25519 = (FIXTURES / "ed25519.pub").read_text()
PRINT = "SHA256:vEcMzYgo8WhTjTZok9jEg0pRWbxfGGdI9pCSV0cQ5Go"
POLICY = """\
zones: {office: {networks: [192.168.1.0/24], interface: "zt*"}}
hosts: {remote: {address: 192.168.1.201, zone: office}}
groups: {ops: [alice]}
rules:
  - {name: ops, allow: [ops], to: [remote], ports: [22]}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site"
    for part in (path, path / "keys", path / "policies", path / "state"):
        part.mkdir(mode=0o750)
    (path / "relay.yaml").write_text("")
    (path / "policies" / "main.yaml").write_text(POLICY)
    return path


def ctl(site: Path, *arguments: object, status: int = 0, stdin: str = "") -> tuple[str, str]:
    """Run relayctl; what it printed on stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "relay", "--site", site, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def rows(site: Path) -> list[dict[str, object]]:
    found = AuditReader(site / "state" / FILE).after(0, 100)
    return [{**row.event.fields, "name": row.event.name} for row in found]


def test_add_key_shows_what_it_did_and_leaves_a_row(site: Path) -> None:
    """Site, fingerprint and what the person may reach; the row says who did it, though no relay runs."""
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


def test_import_keys_previews_then_writes(site: Path, tmp_path: Path) -> None:
    """Without --yes nothing is written; each rejected line has its reason; a map names the nameless."""
    given = tmp_path / "authorized_keys"
    text = ED25519.replace("ed25519-256@fixture", "root@box") + (FIXTURES / "rsa-3072.pub").read_text()
    given.write_text(text + (FIXTURES / "dsa.pub").read_text())
    out, err = ctl(site, "import-keys", given)
    assert "rsa-3072" in out
    assert f"{given}:1: not imported: the comment names no person" in err
    assert f"{given}:3: not imported: DSA" in err
    assert "nothing was written" in err
    assert list((site / "keys").iterdir()) == []
    names = tmp_path / "names"
    names.write_text("root@box alice\nrsa-3072@fixture bob\n")
    ctl(site, "import-keys", given, "--names", names, "--yes")
    assert sorted(path.name for path in (site / "keys").glob("*.pub")) == ["alice.pub", "bob.pub"]
    assert [row["person"] for row in rows(site)] == ["alice", "bob"]
    value = json.loads(ctl(site, "import-keys", given, "--names", names, "--json")[0])
    assert [one["already"] for one in value["keys"]] == [True, True]
    assert value["written"] is False
    given.write_text("rubbish\n")
    ctl(site, "import-keys", given, status=1)


def test_list_keys(site: Path) -> None:
    """Keys, limits, what is without effect, faults and revocations; the same as JSON."""
    assert "there is no valid key" in ctl(site, "list-keys")[1]
    (site / "keys" / "alice.pub").write_text(f'no-pty,from="10.0.0.0/8" {ED25519}oops\n')
    (site / "keys" / "revoked").write_text("SHA256:" + "A" * 43 + " 2026-11-23T10:00:00Z root \x1b[2J stolen\n")
    out, err = ctl(site, "list-keys")
    assert "in force" in out
    assert "from 10.0.0.0/8" in out
    assert "stolen" in out
    assert "\x1b" not in out
    assert "keys/alice.pub:1: without effect here: no-pty" in err
    assert "a key is not accepted: keys/alice.pub:2:" in err
    value = json.loads(ctl(site, "list-keys", "--json")[0])
    assert [key["state"] for key in value["keys"]] == ["in force", "revoked"]


def test_revoke_key_says_what_is_left_to_do(site: Path) -> None:
    """Who still names the person, what to do on the LAN hosts and in ZeroTier; the row has the reason."""
    ctl(site, "add-key", "alice", FIXTURES / "ed25519.pub")
    out, err = ctl(site, "revoke-key", "alice", "--reason", "left")
    assert err.splitlines()[0] == f"site {site}"
    assert f"revoked: {PRINT} of alice" in out
    assert "the policy still names alice: policies/main.yaml:3: groups: {ops: [alice]}" in out
    assert f"sed -i '\\|{ED25519.split()[1]}|d' ~/.ssh/authorized_keys" in out
    assert "ZeroTier" in out
    row = rows(site)[-1]
    assert (row["name"], row["person"], row["why"], row["file"]) == ("key.revoked", "alice", "left", "keys/revoked")
    assert "already revoked" in ctl(site, "revoke-key", PRINT)[0]
    out, err = ctl(site, "add-key", "bob", FIXTURES / "ed25519.pub", status=1)
    assert "keys/revoked:1" in err
    assert "did you mean alice?" in ctl(site, "revoke-key", "alcie", status=1)[1]


def test_revoke_key_works_on_a_broken_site(site: Path) -> None:
    """Broken settings, policy and neighbours, and an audit database that somebody else holds, stop nothing."""
    (site / "keys" / "alice.pub").write_text("oops " + ED25519)
    (site / "keys" / "bob.pub").mkdir()
    (site / "relay.yaml").write_text("{{{{")
    (site / "policies" / "main.yaml").write_bytes(b"\xff{{ alice\n")
    writer = AuditWriter(site / "state" / FILE, "relay")
    try:
        out, err = ctl(site, "revoke-key", "alice")
    finally:
        writer.close()
    assert f"revoked: {PRINT} of alice" in out
    assert "the audit row is not written" in err
    assert (site / "keys" / "revoked").read_text().startswith(PRINT)
    assert "policies/main.yaml:1" in out


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


def test_revoking_works_on_a_site_that_everybody_can_write(tmp_path: Path) -> None:
    """A site whose modes refuse every other command still takes a revocation."""
    one = Relay(tmp_path)
    try:
        one.site.chmod(0o777)
        assert "chmod go-w" in one.ctl("add-key", "alice", status=1)
        one.ctl("revoke-key", "alice")
        assert "SHA256:" in (one.site / "keys" / "revoked").read_text()
    finally:
        one.end()


def test_somebody_without_a_key_is_still_found_in_the_rules(tmp_path: Path) -> None:
    """Revoking a person who has no key is answered no, with every rule that names the person."""
    one = Relay(tmp_path, policy="rules:\n  - {name: r, allow: [dave], to: [remote], ports: [22]}\n")
    try:
        assert "is named: policies/main.yaml:2" in one.ctl("revoke-key", "dave", status=1)
    finally:
        one.end()
