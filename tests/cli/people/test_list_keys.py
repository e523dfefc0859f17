"""relayctl list-keys."""

import json
from pathlib import Path

from tests.cli.people.command import ED25519, ctl


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
