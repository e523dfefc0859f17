"""Exact counts of authenticated connections and of forwards."""

from relay.core.settings import Limits
from relay.serve.supervisor.limits.session_slots import ForwardSlot, ForwardSlots, SessionCounts

LIMITS = Limits(unauthenticated=5, unauthenticated_per_source=3)


def test_connections_are_exact_for_person_and_key() -> None:
    """The limit of each is reached exactly, named in the answer, and free again after an end; some stay in any case."""
    guests = SessionCounts()
    limits = Limits(connections_per_person=2, connections_per_key=1)
    assert guests.enter("1", "alice", "k", limits) == ""
    assert guests.enter("1", "alice", "k", limits) == ""
    assert "key k has 1 connections" in guests.enter("2", "alice", "k", limits)
    assert guests.enter("3", "alice", "l", limits) == ""
    assert "person alice has 2" in guests.enter("4", "alice", "m", limits)
    assert guests.enter("5", "alice", "m", None) == ""
    assert guests.most("person") == ("alice", 3)
    for number in ("1", "1", "3", "5"):
        guests.leave(number)
    assert len(guests) == 0
    assert guests.most("key") == ("", 0)


def test_slots_are_exact_for_person_key_and_target() -> None:
    """The limit of each is reached exactly, named in the answer, and free again after an end."""
    slots = ForwardSlots()
    limits = Limits(forwards_per_person=2, forwards_per_key=9, forwards_per_target=3)
    assert slots.take("1", ForwardSlot("w", "c", "alice", "k", "t"), limits) == ""
    assert slots.take("2", ForwardSlot("w", "c", "alice", "k", "t"), limits) == ""
    assert "person alice has 2" in slots.take("3", ForwardSlot("w", "c", "alice", "k", "u"), limits)
    assert slots.take("4", ForwardSlot("w", "c", "bob", "l", "t"), limits) == ""
    assert "target t has 3" in slots.take("5", ForwardSlot("w", "c", "carol", "m", "t"), limits)
    slots.free("1")
    slots.free("1")
    assert slots.take("6", ForwardSlot("w", "c", "alice", "k", "t"), limits) == ""
    assert "person alice" in slots.take("7", ForwardSlot("w", "c", "alice", "k", "z"), limits)


def test_a_slot_that_lives_on_is_taken_in_any_case() -> None:
    """What a worker holds after a change of supervisors counts, even over the limit, and once."""
    slots = ForwardSlots()
    for _ in range(2):
        for number in range(3):
            assert slots.take(str(number), ForwardSlot("w", "c", "alice", "k", "t"), None) == ""
    assert len(slots.held) == 3
    assert slots.take("new", ForwardSlot("w", "c", "alice", "k", "t"), Limits(forwards_per_person=3)) != ""
