"""relay.people.key_listing: which keys are there, and does each get in now."""

from pathlib import Path

from relay.core.keys.keyring import Keyring
from relay.people import key_listing
from relay.site import key_files

SHANGHAI = ((0, 28_800),)


def test_each_key_with_owner_limits_and_state(site: Path, lines: dict[str, str], prints: dict[str, str]) -> None:
    """In the order of persons; limits in words on the site's clocks; whether it is in force, waits or is over."""
    keys = site / "keys"
    options = 'from="10.0.0.0/8,!10.0.0.1",expiry-time="20301231",permitopen="remote:22",no-pty'
    (keys / "bob.pub").write_text(f"{options} {lines['ed25519']}")
    (keys / "alice.pub").write_text(
        f'restrict,expiry-time="20200101Z" {lines["rsa-2048"]}verify-required {lines["sk-ed25519"]}'
    )
    found = key_files.read(site, offsets=SHANGHAI)
    rows = key_listing.rows(
        found, Keyring(keys={prints["sk-ed25519"]: found.keys[prints["sk-ed25519"]]}), 1_795_428_000
    )
    assert [(row.person, row.type, row.bits, row.state) for row in rows] == [
        ("alice", "RSA", 2048, key_listing.EXPIRED),
        ("alice", "ED25519-SK", 256, key_listing.IN_FORCE),
        ("bob", "ED25519", 256, key_listing.WAITING),
    ]
    assert [key_listing.limits(row, SHANGHAI) for row in rows] == [
        "until 2020-01-01 08:00; no forwarding",
        "user verification",
        "from 10.0.0.0/8, !10.0.0.1; until 2030-12-31 00:00; to remote:22",
    ]
    assert rows[2].without_effect == ("no-pty",)
    assert rows[2].until == "2030-12-30T16:00:00Z"
    assert len(rows[0].warnings) == 2


def test_nothing_applied_yet_waits_for_nothing(site: Path, lines: dict[str, str]) -> None:
    """Before the first start the files are what will be in force."""
    (site / "keys" / "alice.pub").write_text(lines["ed25519"])
    assert key_listing.rows(key_files.read(site), None, 0)[0].state == key_listing.IN_FORCE


def test_revoked_keys_come_last_with_who_when_and_why(
    site: Path, lines: dict[str, str], prints: dict[str, str]
) -> None:
    """A revoked key is listed once, as revoked."""
    (site / "keys" / "alice.pub").write_text(lines["ed25519"] + lines["rsa-3072"])
    (site / "keys" / "revoked").write_text(f"{prints['ed25519']} 2026-11-23T10:00:00Z root alice: stolen\n")
    rows = key_listing.rows(key_files.read(site), None, 0)
    assert [row.fingerprint for row in rows] == [prints["rsa-3072"], prints["ed25519"]]
    assert (rows[1].state, rows[1].revoked_by, rows[1].revoked_why) == ("revoked", "root", "alice: stolen")


def test_times_beyond_the_calendar_are_shown(site: Path, lines: dict[str, str]) -> None:
    """The last moment that can be written is no reason to fail."""
    (site / "keys" / "alice.pub").write_text(f'expiry-time="99991231235959Z" {lines["ed25519"]}')
    row = key_listing.rows(key_files.read(site), None, 0)[0]
    assert key_listing.limits(row, SHANGHAI) == "until 9999-12-31 23:59"


def test_json_has_everything(site: Path, lines: dict[str, str]) -> None:
    """Keys, faults and warnings as plain values."""
    (site / "keys" / "alice.pub").write_text(lines["rsa-2048"] + "rubbish\n")
    found = key_files.read(site)
    value = key_listing.as_json(found, key_listing.rows(found, None, 0))
    assert value["keys"][0]["person"] == "alice"
    assert value["faults"][0]["file"] == "keys/alice.pub"
    assert value["warnings"][0]["line"] == 1
    assert value["nobody_gets_in"] is False
