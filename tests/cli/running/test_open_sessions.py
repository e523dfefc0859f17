"""Open connections and forwards, as fetched and printed."""

import pytest

from relay.cli.running.open_sessions import OpenSessions, client, many, silent_worker_lines, summary, target

FORWARD = {"f": "f1", "c": "c1", "state": "open", "zone": "office", "address": "192.168.1.201", "port": 22}
ALICE = {"c": "c1", "state": "open", "person": "alice", "key": "SHA256:a", "forwards": [FORWARD]}
BOB = {"c": "c2", "state": "open", "person": "bob", "key": "SHA256:b", "forwards": []}
BEFORE = {"c": "c3", "state": "log-in", "person": "", "key": "", "forwards": []}
ALL = OpenSessions((ALICE, BOB, BEFORE), (), {})


@pytest.mark.parametrize("name", ["alice", "SHA256:a", "c1", "f1"])
def test_a_connection_is_found_by_person_key_and_both_ids(name):
    """And no other connection with it."""
    assert ALL.of(name).connections == (ALICE,)


def test_names_are_those_that_kill_takes():
    """Without the empty names of a connection before log-in."""
    assert ALL.names() == {"alice", "bob", "SHA256:a", "SHA256:b", "c1", "c2", "c3", "f1"}


def test_connections_before_log_in_are_counted_apart():
    """They have no person yet."""
    assert summary(ALL) == "2 connections, 1 forward; 1 more before log-in"


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("remote:22", "remote:22 (192.168.1.201 in office)"),
        ("192.168.1.201:22", "192.168.1.201:22 (in office)"),
        (None, "192.168.1.201:22 (in office)"),
    ],
)
def test_a_target_is_shown_as_requested_and_as_dialled(asked, shown):
    """The address only once."""
    assert target({**FORWARD, "asked": asked}) == shown


def test_an_ipv6_client_is_in_brackets():
    """So that its port can be told from it; a connection without a known client shows nothing."""
    assert client({"client": "2001:db8::7", "port": 7}) == "[2001:db8::7]:7"
    assert client({"client": "192.0.2.1", "port": 7}) == "192.0.2.1:7"
    assert client({}) == ""


def test_a_silent_worker_is_named_with_the_command_that_ends_it():
    """One that has not joined yet has no process id to name."""
    hung, fresh = silent_worker_lines([{"name": "w1", "pid": 812}, {"name": "w2"}])
    assert hung.startswith("worker w1 did not answer within 2 s")
    assert hung.endswith("kill 812")
    assert fresh.startswith("worker w2 has not joined the supervisor yet")


def test_counts_have_their_noun():
    """Singular for one only."""
    assert [many(count, "forward") for count in (0, 1, 2)] == ["0 forwards", "1 forward", "2 forwards"]
