"""Counts of unauthenticated connections, and which connection is evicted when a limit is reached."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.serve.supervisor.admission.preauth_slots import PreauthSlots

LIMITS = Limits(unauthenticated=5, unauthenticated_per_source=3)


def test_one_source_is_bounded_and_others_are_not_touched() -> None:
    """The fourth connection of a source is refused while another source still gets in."""
    slots = PreauthSlots()
    assert [slots.enter(str(n), "198.51.100.1", LIMITS)[0] for n in range(4)] == [True, True, True, False]
    assert slots.enter("other", "198.51.100.2", LIMITS) == (True, None)


def test_at_the_total_limit_the_oldest_of_the_fullest_source_is_evicted() -> None:
    """Unauthenticated clients of one source cannot keep out a newcomer from another one."""
    slots = PreauthSlots()
    for number in ("a1", "a2", "a3"):
        slots.enter(number, "192.0.2.1", LIMITS)
    for number in ("b1", "b2"):
        slots.enter(number, "198.51.100.2", LIMITS)
    assert slots.enter("c1", "203.0.113.3", LIMITS) == (True, "a1")
    assert len(slots) == 5


def test_a_freed_slot_can_be_taken_again() -> None:
    """A slot is free again after a log-in or an end, and freeing it twice frees one slot."""
    slots = PreauthSlots()
    for number in ("1", "2", "3"):
        slots.enter(number, "192.0.2.1", LIMITS)
    slots.leave("2")
    slots.leave("2")
    assert slots.enter("4", "192.0.2.1", LIMITS) == (True, None)
    assert slots.enter("5", "192.0.2.1", LIMITS) == (False, None)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans()), max_size=80))
def test_the_limits_hold_in_any_order_of_events(steps: list[tuple[int, int, bool]]) -> None:
    """No order of arrivals and departures exceeds the limits or loses a connection."""
    slots, inside = PreauthSlots(), {}
    for number, (index, source, comes) in enumerate(steps):
        if comes:
            name = f"{number}"
            stays, evicted = slots.enter(name, f"192.0.{source}.1", LIMITS)
            if evicted is not None:
                del inside[evicted]
            if stays:
                inside[name] = source
        elif inside:
            name = sorted(inside)[index % len(inside)]
            del inside[name]
            slots.leave(name)
        assert len(slots) == len(inside) <= 5
        assert max(Counter(inside.values()).values(), default=0) <= 3


def test_the_idle_connection_of_a_source_is_its_oldest() -> None:
    """Only a connection of that source that is older than the given time loses its slot."""
    slots = PreauthSlots()
    slots.enter("1", "192.0.2.1", LIMITS, 10.0)
    slots.enter("2", "192.0.2.1", LIMITS, 11.0)
    slots.enter("3", "198.51.100.2", LIMITS, 1.0)
    full = Limits(unauthenticated_per_source=2)
    assert slots.idle_connection("192.0.2.1", full, 10.0) is None
    assert slots.idle_connection("192.0.2.1", full, 10.5) == "1"
    assert slots.idle_connection("203.0.113.3", full, 99.0) is None


def test_a_network_is_bounded_and_its_fullest_source_gives_way() -> None:
    """A /24 has its own limit; when it is reached, the oldest of its fullest source gives way to another source."""
    slots = PreauthSlots()
    limits = Limits(unauthenticated_per_source=3, unauthenticated_per_network=4)
    for number in range(3):
        assert slots.enter(f"a{number}", "192.0.2.1", limits, float(number))[0]
    assert slots.enter("b", "192.0.2.2", limits, 9.0)[0]
    assert slots.enter("c", "192.0.2.3", limits, 10.0) == (False, None)
    assert slots.enter("d", "192.0.3.3", limits, 10.0) == (True, None)
    assert slots.idle_connection("192.0.2.3", limits, 8.0) == "a0"
    slots.leave("a0")
    assert slots.enter("c", "192.0.2.3", limits, 10.0) == (True, None)
    assert slots.fullest() == (("192.0.2.1", 2), ("192.0.2.0/24", 4))
