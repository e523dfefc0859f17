"""bench/decision.py: the benchmark runs, and its large policy decides like the reference implementation."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from bench import decision
from relay.core.policy import target
from relay.core.policy.model import Destination
from tests.core import reference


def test_it_prints_a_row_per_number_of_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """The program prints one row for each number of rules."""
    assert decision.main(["--rules", "10,50", "--decisions", "100"]) == 0
    assert [line.split("|")[0].strip() for line in capsys.readouterr().out.splitlines()[2:]] == ["10", "50"]


def test_a_large_site_decides_as_the_reference_does() -> None:
    """With 500 rules, 1,000 people and 1,000 hosts, every decision equals that of the reference."""
    compiled = decision.site(500)
    rules = list(compiled.rules())
    source = ip_address("203.0.113.9")
    at = datetime.fromtimestamp(decision.NOW, UTC) + timedelta(hours=8)
    # the site's clock is eight hours ahead; `until` is a moment and moves along
    moved = [replace(rule, until=rule.until and rule.until + 8 * 3600) for rule in rules]
    allowed = 0
    for number in range(0, decision.HOSTS, 7):
        person = f"person{number * 13 % decision.PEOPLE}"
        to = compiled.resolve(target.parse_target(f"host{number}", 22))
        assert isinstance(to, Destination)
        verdict = compiled.decide_by_rules(person, source, to, decision.NOW)
        expected = reference.decide(moved, person, source, to, at)
        assert (verdict.rule and verdict.rule.name) == (expected and expected.name)
        allowed += verdict.allowed
    assert allowed
