"""What a site holds, with the lines that take each thing of it away."""

import pytest

from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.site.policy import compiler
from relay.site.site_items import holdings

POLICY = """\
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*"}
hosts:
  remote: {address: 192.168.1.201, zone: office}
  two:
    address: 192.168.1.202
    zone: office

  # a remark
rules:
  - {name: ssh, allow: [alice], to: [office], ports: [22]}
  - name: off limits
    deny: [everyone]
    to: [
      192.168.1.50,
      192.168.1.51
    ]
  - {name: folded, allow: [bob], to: [two],
     ports: [22], until: 2030-01-01}
"""
CROWDED = "hosts: {x: {address: 192.168.1.9, zone: office}, y: {address: 192.168.1.8, zone: office}}\n"


@pytest.fixture(scope="module")
def held():
    """By kind and name, what the two files above hold."""
    texts = {"policies/a.yaml": POLICY, "policies/b.yaml": CROWDED}
    found = compiler.compile_documents(
        {name: text.encode() for name, text in texts.items()}, frozenset(["alice"]), now=0
    )
    assert found.compiled is not None, found.faults
    keys = [
        Key("SHA256:1", "ssh-ed25519", 256, "", b"", "alice", (), 99, file="keys/alice.pub", line=1),
        Key("SHA256:2", "ssh-ed25519", 256, "", b"", "alice", file="keys/alice.pub", line=4),
    ]
    keyring = Keyring({key.fingerprint: key for key in keys})
    return {(one.kind, one.name): one for one in holdings(texts, found.compiled.policy, keyring)}


@pytest.mark.parametrize(
    ("kind", "name", "place", "shared"),
    [
        ("person", "alice", "keys/alice.pub", False),
        ("key", "SHA256:1", "keys/alice.pub:1", False),
        ("key", "SHA256:2", "keys/alice.pub:4", False),
        ("host", "remote", "policies/a.yaml:4", False),
        ("host", "two", "policies/a.yaml:5-7", False),
        ("host", "x", "policies/b.yaml:1", True),
        ("host", "y", "policies/b.yaml:1", True),
        ("rule", "ssh", "policies/a.yaml:11", False),
        ("deny rule", "off limits", "policies/a.yaml:12-17", False),
        ("rule", "folded", "policies/a.yaml:18-19", False),
    ],
)
def test_every_thing_has_its_lines(held, kind, name, place, shared):
    """From its first line to its last, closing brackets too; `shared` where another thing stands there as well."""
    assert (held[kind, name].place, held[kind, name].shared) == (place, shared)


def test_nothing_else_is_held(held):
    """Zones and groups are no leftovers: they are of use without being named in a row."""
    assert len(held) == 10


def test_ends_are_known(held):
    """Of keys and rules; a host has its zone and address."""
    assert held["key", "SHA256:1"].until == 99
    assert held["rule", "folded"].until == 1893542400  # the day after, UTC
    assert (held["host", "two"].zone, held["host", "two"].address) == ("office", "192.168.1.202")


def test_deleting_the_lines_from_below_takes_exactly_that_away(held):
    """What the report says to type leaves a valid site without the thing."""
    lines = POLICY.splitlines()
    for one in sorted(
        (held["rule", "ssh"], held["rule", "folded"], held["host", "remote"]), key=lambda one: -one.first
    ):
        del lines[one.first - 1 : one.last]
    found = compiler.compile_documents({"policies/a.yaml": "\n".join(lines).encode()}, frozenset(["alice"]), now=0)
    assert found.compiled is not None, found.faults
    assert [rule.name for rule in found.compiled.policy.rules()] == ["off limits"]
    assert list(found.compiled.policy.inventory.hosts) == ["two.office"]
