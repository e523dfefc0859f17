"""relayctl revoke-key."""

from pathlib import Path

from relay.store.writer import FILE, AuditWriter
from tests.cli.people.command import ED25519, FIXTURES, PRINT, ctl, rows
from tests.relay_process import Relay


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
    """Invalid settings, policies and key files, and a locked audit database, do not prevent a revocation."""
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


def test_revoking_works_on_a_world_writable_site(tmp_path: Path) -> None:
    """A site whose modes refuse every other command still takes a revocation."""
    one = Relay(tmp_path)
    try:
        one.site.chmod(0o777)
        assert "chmod go-w" in one.ctl("add-key", "alice", status=1)
        one.ctl("revoke-key", "alice")
        assert "SHA256:" in (one.site / "keys" / "revoked").read_text()
    finally:
        one.end()


def test_a_person_without_a_key_is_found_in_the_rules(tmp_path: Path) -> None:
    """Revoking a person without a key fails, and lists every rule that names the person."""
    one = Relay(tmp_path, policy="rules:\n  - {name: r, allow: [dave], to: [remote], ports: [22]}\n")
    try:
        assert "is named: policies/main.yaml:2" in one.ctl("revoke-key", "dave", status=1)
    finally:
        one.end()
