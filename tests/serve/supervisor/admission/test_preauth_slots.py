"""Counts of unauthenticated connections, and which connection is evicted when a limit is reached."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.serve.supervisor.admission.preauth_slots import PreauthSlots

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
