"""The order of the report."""

from relay.review.report.sections import sections
from tests.audit_rows import Relay
from tests.review.report.test_page import report_data


def test_the_sections_are_in_the_order_of_a_review():
    """What needs attention is first, the state of the log itself is last; each id is there once."""
    ids = [section.id for section in sections(report_data(Relay().day()))]
    assert ids == [
        *("news", "flow", "matrix", "hours", "people", "denials", "tops", "new", "unused", "outages", "changes", "log"),
    ]


def test_every_section_has_a_block_in_an_empty_window():
    """A heading without a word below it would look like a fault."""
    assert all(section.blocks for section in sections(report_data([Relay().event("server.started", version="1")])))
