"""Models of policies/*.yaml."""

from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from relay.site.field_types import EXPLICIT_NULL
from relay.site.policy.policy_models import ENTRIES, PolicyFile, RuleEntry

RULE = {"name": "ssh", "allow": ["alice"], "to": ["office"], "ports": [22]}


def test_single_values_need_no_brackets() -> None:
    """`to: office` is the same as `to: [office]`."""
    rule = RuleEntry.model_validate(
        {"name": "ssh", "allow": "alice", "to": "office", "ports": 22, "from": "10.0.0.0/8"}
    )
    assert (rule.allow, rule.to, rule.ports, rule.from_) == (
        ["alice"],
        ["office"],
        [(22, 22)],
        [ip_network("10.0.0.0/8")],
    )


@pytest.mark.parametrize("key", ["allow", "to", "ports", "from", "until", "days", "hours", "except"])
def test_an_explicit_null_is_refused(key: str) -> None:
    """A key without a value must not mean the same as an absent key, which is wider."""
    with pytest.raises(ValidationError, match="there is no value"):
        RuleEntry.model_validate({**RULE, key: EXPLICIT_NULL})


@pytest.mark.parametrize("key", ["allow", "deny", "to", "ports", "from", "days", "hours"])
def test_an_empty_list_is_refused(key: str) -> None:
    """An empty condition would match everything."""
    with pytest.raises(ValidationError):
        RuleEntry.model_validate({**RULE, key: []})


def test_unknown_keys_are_refused() -> None:
    """A misspelt condition must not be ignored."""
    with pytest.raises(ValidationError, match="untill"):
        RuleEntry.model_validate({**RULE, "untill": "2026-12-31"})


def test_an_empty_file_is_valid() -> None:
    """It has no zones and allows nothing."""
    assert PolicyFile.model_validate({}).rules == []
    assert set(ENTRIES) < set(PolicyFile.model_fields)
