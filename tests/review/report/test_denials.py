"""The section about denials."""

from relay.review.report.blocks import Paragraph, Table
from relay.review.report.denials import denials
from relay.store.preauth_counters import AttemptCount
from tests.audit_rows import Relay
from tests.review.report.test_page import report_data


def tables(data):
    """The tables of the section by their captions."""
    return {block.caption: block.rows for block in denials(data) if isinstance(block, Table)}


def test_denials_are_grouped_by_reason_and_by_network():
    """The most frequent first, with the last id."""
    relay = Relay()
    alice, bob = relay.connect(), relay.connect("bob", "198.51.100.9")
    events = [relay.denied(alice), relay.denied(alice), relay.denied(bob, reason="no-rule")]
    found = tables(report_data(events))
    assert [(row[0].text, row[1].value) for row in found["By reason"]] == [("deny-rule", 2), ("no-rule", 1)]
    assert [row[0].text for row in found["By the client's network"]] == ["203.0.113.0/24", "198.51.100.0/24"]
    assert found["By reason"][0][-1].text == events[1].id


def test_failed_log_ins_are_counted_by_prefix():
    """They are no forwards: without a denial the section still says that there is none."""
    data = report_data([], [AttemptCount(1, "192.0.2.0/24", "no-key", 5)])
    (rows,) = tables(data).values()
    assert [cell.text for cell in rows[0]] == ["192.0.2.0/24", "no-key", "5"]
    (paragraph,) = (block for block in denials(data) if isinstance(block, Paragraph))
    assert paragraph.text.sentence == "No forward was denied."
