"""Validation entry by entry: a faulty entry hides no other fault."""

import pytest

from relay.site.policy import validation
from relay.site.policy.validation import PolicyEntries
from relay.site.yaml import yaml_document


def policy(text: str) -> PolicyEntries:
    """The entries of one policy file."""
    entries = PolicyEntries()
    validation.policy(yaml_document.read("p.yaml", text.encode()), entries)
    return entries


def test_a_faulty_entry_is_left_out_and_the_others_stay() -> None:
    """Every faulty entry is reported with its line; valid ones are kept with theirs."""
    entries = policy(
        """\
hosts:
  good: {address: 192.168.1.1, zone: office}
  bad: {address: 192.168.1.256, zone: office}
rules:
  - {name: first, allow: [alice], to: [good], ports: [0]}
  - {name: second, allow: [alice], to: [good], ports: [22]}
"""
    )
    assert [name for name, _, _ in entries.hosts] == ["good"]
    assert [(rule.name, place.line) for rule, place, _ in entries.rules] == [("second", 6)]
    assert [fault.line for fault in entries.faults] == [3, 5]
    assert entries.broken == {"bad"}


@pytest.mark.parametrize(
    ("text", "what", "cure"),
    [
        ("rule: []", "unknown key 'rule' in the file", "did you mean 'rules'?"),
        ("listen: x", "unknown key 'listen' in the file", "it belongs in relay.yaml"),
        ("hosts: {a: {zone: office}}", "the host has no `address`", "add `address: 192.168.1.201`"),
        (
            "zones: []",
            "zones: a list where `key: value` pairs are expected",
            "write them in lines below it, or { } for none",
        ),
    ],
)
def test_a_fault_says_what_is_wrong_and_what_to_write(text: str, what: str, cure: str) -> None:
    """pydantic's errors are put into the words of the file."""
    (fault,) = policy(text).faults
    assert (fault.what, fault.cure) == (what, cure)


def test_a_faulty_setting_has_its_default() -> None:
    """The other settings are still checked."""
    text = "workers: 0\nnode: fra1\nlimits: {dials: 0}\n"
    model, faults = validation.settings(yaml_document.read("relay.yaml", text.encode()))
    assert (model.node, model.workers) == ("fra1", 0)
    assert [fault.line for fault in faults] == [1, 3]


def test_an_unreadable_file_makes_the_entries_incomplete() -> None:
    """Names that such a file may define are not reported as unknown."""
    assert policy("hosts: {").whole is False
    assert policy("hosts: {}").whole is True
