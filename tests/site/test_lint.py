"""Is everything about a site as it should be, and is it applied?"""

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.core.keys import keyring as keyrings
from relay.errors import RelayError
from relay.site import diff, key_files, lint
from relay.site.locate import Site
from relay.site.policy import compiler

NOW = 1_764_000_000
KEYS = Path(__file__).parents[1] / "fixtures" / "keys"
POLICY = """
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*"}
rules:
  - {name: ssh, allow: [alice], to: [office], ports: [22]}
"""


def apply(site: Site) -> None:
    """Keep the site as applied, as the supervisor does."""
    applied = site.state / "applied"
    applied.mkdir(parents=True, exist_ok=True)
    (applied / "current.jsonl").write_text("\n".join(compiler.lines(compiler.load(site.path, now=NOW))))
    (applied / "keys.jsonl").write_text("\n".join(keyrings.dump(key_files.read(site.path))))


def add_key(site: Path, person: str, name: str, options: str = "") -> None:
    path = site / "keys" / f"{person}.pub"
    path.write_text(f"{options}{(KEYS / name).read_text()}")
    path.chmod(0o640)


@pytest.fixture
def site(make_site: Callable[..., Path]) -> Site:
    path = make_site("timezone: Asia/Shanghai\n", a=POLICY)
    add_key(path, "alice", "ed25519.pub")
    return Site(path, path / "state")


def test_never_applied(site: Site) -> None:
    """A good site of which nothing was applied is good, and says so."""
    found = lint.check_site(site, now=NOW)
    assert (found.good, found.warnings, found.note) == (True, (), lint.NOTHING_APPLIED)
    assert {key.person for key in found.keys.keys.values()} == {"alice"}


def test_as_applied(site: Site) -> None:
    """Right after applying there is no difference."""
    apply(site)
    found = lint.check_site(site, now=NOW)
    assert (found.differences, found.note) == ((), "")


def test_differences(site: Site) -> None:
    """Changed, new and missing files and keys are named with what changed."""
    apply(site)
    (site.path / "relay.yaml").unlink()
    (site.path / "policies" / "a.yaml").write_text(POLICY.replace("[22]", "[22, 80]"))
    (site.path / "policies" / "b.yaml").touch(mode=0o640)
    add_key(site.path, "alice", "ed25519.pub", 'from="10.0.0.1" ')
    add_key(site.path, "bob", "ecdsa-256.pub")
    differences = [str(different) for different in lint.check_site(site, now=NOW).differences]
    assert differences[:3] == [
        "policies/a.yaml: changed: 1 lines added, 1 removed",
        "policies/b.yaml: not applied yet",
        "relay.yaml: removed, but still applied",
    ]
    assert len(differences) == 5
    assert any("alice" in line and "its options or owner changed" in line for line in differences[3:])
    assert any("bob" in line and "not applied yet" in line for line in differences[3:])


def test_broken_key_is_a_fault(site: Site) -> None:
    """A broken line of a key file is a fault with its place, and the rest of the site is still judged."""
    (site.path / "keys" / "bob.pub").write_text("ssh-ed25519 AAAA\n")
    (site.path / "keys" / "bob.pub").chmod(0o640)
    found = lint.check_site(site, now=NOW)
    assert not found.good
    assert [(fault.file, fault.line) for fault in found.faults] == [("keys/bob.pub", 1)]
    assert found.examination.compiled is not None


@pytest.mark.parametrize(
    ("expiry", "words"),
    [
        ("20251123", "expired at 2025-11-23 00:00 CST"),
        ("20251201", "expires in 6 days, at 2025-12-01 00:00 CST"),
        ("20260101", ""),
    ],
)
def test_expiring_keys(site: Site, expiry: str, words: str) -> None:
    """A key that expires within 14 days, or did, is a warning in the site's time zone."""
    add_key(site.path, "alice", "ed25519.pub", f'expiry-time="{expiry}" ')
    found = lint.check_site(site, now=NOW)
    assert found.good
    assert [words in warning.what for warning in found.warnings] == ([True] if words else [])


def test_damaged_snapshot(site: Site) -> None:
    """A damaged applied snapshot is a note and no crash; the files are judged all the same."""
    apply(site)
    (site.state / "applied" / "current.jsonl").write_bytes(b'["text"\xff')
    found = lint.check_site(site, now=NOW)
    assert found.good
    assert "is damaged" in found.note
    with pytest.raises(RelayError):
        diff.read(site.state)


def test_applied_policy_decides(site: Site) -> None:
    """What was kept as applied is a whole policy again."""
    apply(site)
    applied = diff.read(site.state)
    assert applied is not None
    assert applied.policy().version == applied.version == compiler.load(site.path, now=NOW).version
