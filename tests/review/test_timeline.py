"""The story behind an id."""

import json

import pytest

from relay.core import ids
from relay.review.timeline import build_timeline, snapshot_texts
from relay.store.preauth_counters import AttemptCount

POLICY = """\
rules:
  # comment
  - name: first
    allow: [ops]
  - {name: ops reach the office by ssh, allow: [ops],
     to: [office],
     ports: [22]}

  - {name: the last, deny: [everyone]}
"""


def kept(version):
    """The history of a relay that keeps one version."""
    if version != "3f2a9c01b7de":
        return None
    text = "# one\n# two\n" + POLICY  # so that the rule stands in line 7, as the rows say
    return snapshot_texts(
        [json.dumps(["settings", {}]), json.dumps(["text", "policies/main.yaml", text]), '["text", broken']
    )


def test_a_connection_is_told_whole(writer, reader, relay):
    """Log-in, forwards, refusals and end, in order, with the rules that decided as they stood then."""
    day = relay.day()
    writer.append(day)
    told = build_timeline(reader, day[3].fields["connection"], kept)
    assert [row.event for row in told.rows] == [day[n] for n in (3, 4, 7, 8, 9, 10)]
    assert told.chosen == ()
    (rule,) = told.rules
    assert (rule.version, rule.rule) == ("3f2a9c01b7de", "ops reach the office by ssh")


@pytest.mark.parametrize("number", [4, 7, 8])
def test_a_forward_or_a_refusal_is_told_in_its_connection(writer, reader, relay, number):
    """The id in a refused person's error text, or a forward's, marks its rows in the story of the connection."""
    day = relay.day()
    writer.append(day)
    told = build_timeline(reader, day[number].id.upper(), kept)
    assert [row.event for row in told.rows] == [day[n] for n in (3, 4, 7, 8, 9, 10)]
    assert told.chosen == ((5, 10) if number == 4 else (number + 1,))


def test_the_rule_stands_as_it_was(writer, reader, relay):
    """The rule's own lines, from the version in force, without what surrounds it."""
    writer.append(day := relay.day())
    (rule,) = build_timeline(reader, day[4].id, kept).rules
    assert rule.at == "policies/main.yaml:7"
    assert rule.text == "- {name: ops reach the office by ssh, allow: [ops],\n   to: [office],\n   ports: [22]}"


@pytest.mark.parametrize("texts", [lambda version: None, lambda version: snapshot_texts([])])
def test_a_forgotten_policy_is_no_fault(writer, reader, relay, texts):
    """Without the files of that version rule and place are still told."""
    writer.append(day := relay.day())
    (rule,) = build_timeline(reader, day[4].id, texts).rules
    assert (rule.rule, rule.at, rule.text) == ("ops reach the office by ssh", "policies/main.yaml:7", "")


def test_an_event_outside_any_connection(writer, reader, relay):
    """A key added, a site applied: its own row is the story."""
    day = relay.day()
    writer.append(day)
    told = build_timeline(reader, day[2].id, kept)
    assert [row.event for row in told.rows] == [day[2]]
    assert told.chosen == (3,)


def test_a_strangers_reference(writer, reader, relay):
    """The last id of a count is told exactly; another one of that minute gets the minute's counts."""
    first, second = relay.id(), relay.id()
    minute = ids.made_at(second) // 60_000_000
    count = AttemptCount(minute, "203.0.113.0/24", "unknown-key", 2, second, "SHA256:x", "4/00000000")
    writer.strangers([count])
    assert build_timeline(reader, second, kept).exact == count
    assert build_timeline(reader, second.upper().replace("0", "O"), kept).exact == count
    told = build_timeline(reader, first, kept)
    assert (told.exact, told.minute) == (None, (count,))


@pytest.mark.parametrize("id", ["", "nonsense", "00000000000", "zzzzzzzzzzz", "\x00", "x" * 200, "' OR 1=1 --"])
def test_nothing_is_known_of_anything_else(writer, reader, relay, id):
    """An id that never was has no story."""
    writer.append(relay.day())
    assert build_timeline(reader, id, kept) is None
