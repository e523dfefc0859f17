"""Who may wait at the door, and who holds how many forwards."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.serve.supervisor.admission.preauth_slots import (
    ForwardSlot,
    ForwardSlots,
    PreauthSlots,
    SessionCounts,
    network_of,
    source_of,
)

LIMITS = Limits(unauthenticated=5, unauthenticated_per_source=3)


def test_one_source_is_bounded_and_others_are_not_touched() -> None:
    """The fourth connection of a source is refused while another source still gets in."""
    door = PreauthSlots()
    assert [door.enter(str(n), "198.51.100.1", LIMITS)[0] for n in range(4)] == [True, True, True, False]
    assert door.enter("other", "198.51.100.2", LIMITS) == (True, None)


def test_a_full_house_lets_the_newcomer_in_and_the_oldest_of_the_fullest_source_go() -> None:
    """Strangers of one source cannot keep a newcomer of another one out."""
    door = PreauthSlots()
    for number in ("a1", "a2", "a3"):
        door.enter(number, "192.0.2.1", LIMITS)
    for number in ("b1", "b2"):
        door.enter(number, "198.51.100.2", LIMITS)
    assert door.enter("c1", "203.0.113.3", LIMITS) == (True, "a1")
    assert len(door) == 5


def test_who_leaves_makes_room() -> None:
    """A place is free again after a log-in or an end, and leaving twice frees one place."""
    door = PreauthSlots()
    for number in ("1", "2", "3"):
        door.enter(number, "192.0.2.1", LIMITS)
    door.leave("2")
    door.leave("2")
    assert door.enter("4", "192.0.2.1", LIMITS) == (True, None)
    assert door.enter("5", "192.0.2.1", LIMITS) == (False, None)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans()), max_size=80))
def test_the_bounds_hold_whatever_comes(steps: list[tuple[int, int, bool]]) -> None:
    """No order of coming and going ever exceeds the bounds or forgets somebody."""
    door, inside = PreauthSlots(), {}
    for number, (who, source, comes) in enumerate(steps):
        if comes:
            name = f"{number}"
            stays, evicted = door.enter(name, f"192.0.{source}.1", LIMITS)
            if evicted is not None:
                del inside[evicted]
            if stays:
                inside[name] = source
        elif inside:
            name = sorted(inside)[who % len(inside)]
            del inside[name]
            door.leave(name)
        assert len(door) == len(inside) <= 5
        assert max(Counter(inside.values()).values(), default=0) <= 3


def test_a_source_is_an_address_or_a_64() -> None:
    """IPv4 is counted by address, mapped or not; IPv6 by /64, because one machine has all of it."""
    assert source_of("192.0.2.7") == source_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:1") != source_of("2001:db8:0:1::1")


def test_the_idlest_of_a_source_is_the_oldest() -> None:
    """Only who came before the given time gives its place, and only one of that source."""
    door = PreauthSlots()
    door.enter("1", "192.0.2.1", LIMITS, 10.0)
    door.enter("2", "192.0.2.1", LIMITS, 11.0)
    door.enter("3", "198.51.100.2", LIMITS, 1.0)
    full = Limits(unauthenticated_per_source=2)
    assert door.idler("192.0.2.1", full, 10.0) is None
    assert door.idler("192.0.2.1", full, 10.5) == "1"
    assert door.idler("203.0.113.3", full, 99.0) is None


def test_a_network_is_bounded_and_its_fullest_source_makes_room() -> None:
    """A /24 has its own bound; where it is full, the oldest of its fullest source gives way to a neighbour."""
    door = PreauthSlots()
    limits = Limits(unauthenticated_per_source=3, unauthenticated_per_network=4)
    for number in range(3):
        assert door.enter(f"a{number}", "192.0.2.1", limits, float(number))[0]
    assert door.enter("b", "192.0.2.2", limits, 9.0)[0]
    assert door.enter("c", "192.0.2.3", limits, 10.0) == (False, None)
    assert door.enter("d", "192.0.3.3", limits, 10.0) == (True, None)
    assert door.idler("192.0.2.3", limits, 8.0) == "a0"
    door.leave("a0")
    assert door.enter("c", "192.0.2.3", limits, 10.0) == (True, None)
    assert door.fullest() == (("192.0.2.1", 2), ("192.0.2.0/24", 4))


def test_a_network_is_a_24_or_a_48() -> None:
    """The network of a source, whether that is an address or a /64."""
    assert network_of("192.0.2.7") == "192.0.2.0/24"
    assert network_of(source_of("2001:db8:1:2::3")) == "2001:db8:1::/48"


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
