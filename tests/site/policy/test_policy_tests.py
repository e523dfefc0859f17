"""Expectations are judged as with a good key, and never depend on the day on which they are judged."""

import pytest

from relay.site.policy import compiler

SITE = """
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*"}
hosts:
  remote: {address: 192.168.1.201, zone: office}
rules:
  - {name: ssh, allow: [alice], to: [office], ports: [22]}
  - {name: recorder, deny: [everyone], except: [bob], to: [192.168.1.50]}
  - {name: web, allow: [alice], to: [office], ports: [443], days: mon-fri, hours: "09:00-18:00"}
  - {name: contractor, allow: [carol], to: [remote], ports: [22], from: [203.0.113.0/24], until: 2026-12-31}
  - {name: old, allow: [dave], to: [remote], ports: [22], until: 2020-12-31}
  - {name: nights, deny: [alice], to: [remote], ports: [22], hours: "00:00-04:00"}
expect:
  - """
TIMES = (1_764_000_000, 1_764_050_000, 1_764_500_000, 1_900_000_000)  # a Monday, a Tuesday, a Sunday, after 2026


def failing(expectation: str, now: int) -> list[str]:
    found = compiler.compile_documents({"policies/a.yaml": f"{SITE}{{{expectation}}}\n".encode()}, frozenset(), now=now)
    assert not found.faults
    assert (found.compiled is None) == bool(found.failures)
    return [str(failure.fault()) for failure in found.failures]


@pytest.mark.parametrize("now", TIMES)
@pytest.mark.parametrize(
    "expectation",
    [
        "who: alice, to: 'remote:22', verdict: allow",
        "who: alice, to: 'remote.office:22', verdict: allow",
        "who: alice, to: '192.168.1.7.office:22', verdict: allow",
        "who: alice, to: 'remote:23', verdict: deny",
        "who: alice, to: '192.168.1.50:22', verdict: deny",
        "who: alice, to: 'nowhere:22', verdict: deny",
        "who: mallory, to: 'remote:22', verdict: deny",
        "who: alice, to: 'remote:443', verdict: allow",  # at some time
        "who: alice, to: 'remote:443', verdict: allow, at: 2025-11-24T12:00",
        "who: alice, to: 'remote:443', verdict: deny, at: 2025-11-24T18:00",
        "who: alice, to: 'remote:443', verdict: deny, at: 2025-11-23T12:00",
        "who: alice, to: 'remote:22', verdict: deny, at: 2025-11-24T03:59",
        "who: alice, to: 'remote:22', verdict: allow, at: 2025-11-24T04:00",
        "who: carol, to: 'remote:22', verdict: deny",  # from nowhere in particular
        "who: carol, to: 'remote:22', verdict: allow, from: 203.0.113.9",
        "who: carol, to: 'remote:22', verdict: deny, from: 203.0.114.9",
        "who: carol, to: 'remote:22', verdict: allow, from: 203.0.113.9, at: 2026-12-31T23:59",
        "who: carol, to: 'remote:22', verdict: deny, from: 203.0.113.9, at: 2027-01-01T00:00",
        "who: dave, to: 'remote:22', verdict: deny",  # it lapsed for good
    ],
)
def test_holds(expectation: str, now: int) -> None:
    """What the rules say holds, on whatever day and at whatever hour it is judged."""
    assert failing(expectation, now) == []


@pytest.mark.parametrize("now", TIMES)
@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        ("who: alice, to: 'remote:22', verdict: deny", "'ssh' (policies/a.yaml:7)"),
        ("who: alice, to: '192.168.1.50:22', verdict: allow", "'recorder' (policies/a.yaml:8)"),
        ("who: alice, to: 'remote:443', verdict: deny", "'web' (policies/a.yaml:9)"),
        ("who: bob, to: 'remote:22', verdict: allow", "no rule allows bob"),
        ("who: alice, to: 'nowhere:22', verdict: allow", "nowhere is not a host"),
        ("who: carol, to: 'remote:22', verdict: allow", "from"),
    ],
)
def test_fails(expectation: str, words: str, now: int) -> None:
    """A failing expectation names its own place and the rule that decided with file and line."""
    (failure,) = failing(expectation, now)
    assert failure.startswith("policies/a.yaml:14: expected ")
    assert words in failure
