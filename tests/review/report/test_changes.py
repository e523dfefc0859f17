"""The sections about new and unused items, outages, changes and the log."""

from dataclasses import replace

from relay.core.policy.site_item import SiteItem
from relay.review.digest import DigestItem
from relay.review.report import changes
from relay.review.report.blocks import Facts, News, Paragraph, Table
from tests.audit_rows import Relay
from tests.review.report.test_page import report_data


def one_table(blocks):
    """The rows of the only table."""
    (found,) = (block for block in blocks if isinstance(block, Table))
    return found.rows


def test_nothing_is_new_in_a_log_that_begins_in_the_window():
    """There is nothing to compare with."""
    data = replace(report_data(Relay().day()), is_log_new=True)
    (paragraph,) = changes.new(data)
    assert paragraph.text.sentence.startswith("The log begins in this window")


def test_an_unused_item_has_the_command_that_removes_it():
    """And its last use, or never."""
    held = [SiteItem("host", "fax", "policies/a.yaml", 4, 4, zone="office", address="192.168.1.250")]
    (row,) = one_table(changes.unused(report_data(Relay().day(), holdings=held)))
    assert [row[1].text, row[3].text.sentence] == ["fax", "never"]
    assert row[-1].text == "sed -i 4d /etc/relay/policies/a.yaml"


def test_an_outage_that_lasts_says_so():
    """It counts up to the end of the window."""
    relay = Relay()
    (row,) = one_table(changes.outages(report_data([relay.event("zone.down", zone="office", reason="route-missing")])))
    assert row[3].text.sentence == "{reason} (still down)"
    assert row[2].value > 0


def test_changes_are_listed_newest_first():
    """With the administrator."""
    rows = one_table(changes.changes(report_data(Relay().day())))
    assert [row[1].text for row in rows] == ["key.added", "site.applied", "server.started"]
    assert rows[0][4].text == "carol"


def test_a_log_that_was_not_verified_says_so():
    """With a verification its results are listed instead."""
    data = report_data(Relay().day())
    texts = [block.text.sentence for block in changes.log(data) if isinstance(block, Paragraph)]
    assert "The log was not verified for this page." in texts
    verified = changes.log(replace(data, verification=[DigestItem("verdict", "ok")]))
    assert [block.items[0].sentence for block in verified if isinstance(block, News)] == ["ok"]
    (facts,) = (block for block in verified if isinstance(block, Facts))
    assert ("rows in this window", "11") in facts.pairs
