"""The values of a policy."""

from ipaddress import ip_address

from relay.core.policy.model import Decision, Destination, Reason, RuleName, TimeWindow


def test_the_zero_value_of_a_decision_denies() -> None:
    """An empty decision allows nothing."""
    assert (Decision().allowed, Decision().reason) == (False, Reason.NO_POLICY)


def test_a_destination_shows_ipv6_in_brackets() -> None:
    """The text of a destination is unambiguous."""
    assert str(Destination("office", ip_address("192.168.1.201"), 22)) == "192.168.1.201:22 in office"
    assert str(Destination("office", ip_address("fd00::1"), 22)) == "[fd00::1]:22 in office"


def test_a_rule_is_named_with_its_place() -> None:
    """An operator finds the rule by file and line."""
    assert str(RuleName("ssh", "policies/a.yaml", 7)) == "'ssh' (policies/a.yaml:7)"


def test_a_time_window_is_always_by_default() -> None:
    """Without days and hours a window covers the whole week."""
    assert (TimeWindow().days, TimeWindow().start, TimeWindow().end) == (frozenset(range(7)), 0, 1440)


def test_reasons_are_stable_words() -> None:
    """The audit log records reasons, so each is lower case with hyphens."""
    assert all(reason.value == reason.name.lower().replace("_", "-") for reason in Reason)
