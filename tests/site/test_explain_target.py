"""One answer from the rules, the keys and what is not applied yet."""

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from relay.core.keys import keyring as keyrings
from relay.core.policy.model import Reason
from relay.core.policy.target import parse_spec
from relay.errors import SiteInvalid
from relay.site import explain_target, key_files, times
from relay.site.explain_target import ExplainAnswer, ExplainRequest
from relay.site.locate import Site
from relay.site.policy import compiler

NOW = 1_764_000_000
KEYS = Path(__file__).parents[1] / "fixtures" / "keys"
POLICY = """
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*"}
hosts:
  remote: {address: 192.168.1.201, zone: office}
rules:
  - {name: ssh, allow: [alice], to: [office], ports: [22], hours: "08:00-20:00"}
"""


@pytest.fixture
def site(make_site: Callable[..., Path]) -> Site:
    path = make_site("timezone: Asia/Shanghai\n", a=POLICY)
    return Site(path, path / "state")


def ask(site: Site, target: str, *, source: str = "", at: str = "2025-11-24T12:00") -> ExplainAnswer:
    asked = ExplainRequest("alice", parse_spec(target), ip_address(source) if source else None, times.moment(at))
    return explain_target.answer(site, asked, now=NOW, own=frozenset)


def add_key(site: Site, options: str = "", name: str = "ed25519.pub") -> None:
    path = site.path / "keys" / "alice.pub"
    path.touch(mode=0o640)
    with path.open("a") as file:
        file.write(f"{options}{(KEYS / name).read_text()}")


def apply(site: Site) -> None:
    (site.state / "applied").mkdir(parents=True)
    lines = compiler.lines(compiler.load(site.path, now=NOW))
    (site.state / "applied" / "current.jsonl").write_text("\n".join(lines))
    (site.state / "applied" / "keys.jsonl").write_text("\n".join(keyrings.dump(key_files.read(site.path))))


def test_allowed(site: Site) -> None:
    """A rule that allows and a key that goes there: allowed, with the rule's place and that key."""
    add_key(site)
    found = ask(site, "remote:22")
    assert found.explanation.decision.allowed
    assert found.explanation.decision.rule is not None
    assert found.explanation.decision.rule.at == "policies/a.yaml:7"
    assert found.key is not None
    assert (found.applied, found.notes) == (False, ())


def test_at_is_in_the_sites_zone(site: Site) -> None:
    """`at` is read in the site's time zone: 20:00 in Shanghai is out of hours."""
    add_key(site)
    assert ask(site, "remote:22", at="2025-11-24T19:59").explanation.decision.allowed
    assert not ask(site, "remote:22", at="2025-11-24T20:00").explanation.decision.allowed
    assert ask(site, "remote:22", at="2025-11-24T11:59Z").explanation.decision.allowed


def test_no_key_is_noted(site: Site) -> None:
    """For a person without key the rules answer, and the note says what is missing."""
    found = ask(site, "remote:22")
    assert found.explanation.decision.allowed
    assert found.key is None
    assert "relayctl add-key alice" in found.notes[0]


@pytest.mark.parametrize(
    ("options", "source", "reason"),
    [
        ('expiry-time="20250101" ', "", Reason.KEY_EXPIRED),
        ('from="10.0.0.0/8" ', "192.0.2.7", Reason.KEY_SOURCE),
        ('from="10.0.0.0/8" ', "", Reason.KEY_SOURCE),
        ("restrict ", "", Reason.KEY_NO_FORWARDING),
        ('permitopen="remote:23" ', "", Reason.KEY_PERMITOPEN),
    ],
)
def test_key_conditions(site: Site, options: str, source: str, reason: Reason) -> None:
    """A key's own conditions deny what the rules allow; a second key without them lets it through."""
    add_key(site, options)
    denied = ask(site, "remote:22", source=source)
    assert denied.explanation.decision.reason is reason
    assert denied.explanation.changes
    add_key(site, name="ecdsa-256.pub")
    allowed = ask(site, "remote:22", source=source)
    assert allowed.explanation.decision.allowed
    assert allowed.key is not None
    assert allowed.key.algorithm == "ecdsa-sha2-nistp256"


def test_the_law_is_what_is_applied(site: Site) -> None:
    """Edited files change nothing until they are applied, and the answer says what they would."""
    add_key(site)
    apply(site)
    (site.path / "policies" / "a.yaml").write_text(POLICY.replace("[22]", "[2022]"))
    found = ask(site, "remote:22")
    assert (found.explanation.decision.allowed, found.applied) == (True, True)
    assert "would deny it" in found.notes[0]
    (site.path / "policies" / "a.yaml").write_text("rules: [")
    assert "not valid: relayctl check" in ask(site, "remote:22").notes[0]


def test_broken_site_never_applied(site: Site) -> None:
    """Without anything applied, a broken site has no answer but its faults."""
    (site.path / "policies" / "a.yaml").write_text("rules: [")
    with pytest.raises(SiteInvalid):
        ask(site, "remote:22")
