"""Who may wait at the door, and who holds how many forwards."""

import socket
from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.serve.admission import Door, Guest, Guests, Line, Slot, Slots, Standing, network_of, source_of

LIMITS = Limits(unauthenticated=5, unauthenticated_per_source=3)


def test_one_source_is_bounded_and_others_are_not_touched() -> None:
    """The fourth connection of a source is refused while another source still gets in."""
    door = Door()
    assert [door.enter(str(n), "198.51.100.1", LIMITS)[0] for n in range(4)] == [True, True, True, False]
    assert door.enter("other", "198.51.100.2", LIMITS) == (True, None)


def test_a_full_house_lets_the_newcomer_in_and_the_oldest_of_the_fullest_source_go() -> None:
    """Strangers of one source cannot keep a newcomer of another one out."""
    door = Door()
    for number in ("a1", "a2", "a3"):
        door.enter(number, "192.0.2.1", LIMITS)
    for number in ("b1", "b2"):
        door.enter(number, "198.51.100.2", LIMITS)
    assert door.enter("c1", "203.0.113.3", LIMITS) == (True, "a1")
    assert len(door) == 5


def test_who_leaves_makes_room() -> None:
    """A place is free again after a log-in or an end, and leaving twice frees one place."""
    door = Door()
    for number in ("1", "2", "3"):
        door.enter(number, "192.0.2.1", LIMITS)
    door.leave("2")
    door.leave("2")
    assert door.enter("4", "192.0.2.1", LIMITS) == (True, None)
    assert door.enter("5", "192.0.2.1", LIMITS) == (False, None)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans()), max_size=80))
def test_the_bounds_hold_whatever_comes(steps: list[tuple[int, int, bool]]) -> None:
    """No order of coming and going ever exceeds the bounds or forgets somebody."""
    door, inside = Door(), {}
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
    door = Door()
    door.enter("1", "192.0.2.1", LIMITS, 10.0)
    door.enter("2", "192.0.2.1", LIMITS, 11.0)
    door.enter("3", "198.51.100.2", LIMITS, 1.0)
    full = Limits(unauthenticated_per_source=2)
    assert door.idler("192.0.2.1", full, 10.0) is None
    assert door.idler("192.0.2.1", full, 10.5) == "1"
    assert door.idler("203.0.113.3", full, 99.0) is None


def test_a_network_is_bounded_and_its_fullest_source_makes_room() -> None:
    """A /24 has its own bound; where it is full, the oldest of its fullest source gives way to a neighbour."""
    door = Door()
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


class Waiters:
    """A line and the guests that joined it."""

    def __init__(self, draw: Callable[[int], int] = lambda below: 0, **limits: int) -> None:
        self.standing: dict[str, Standing] = {}
        self.line = Line(draw, lambda source: self.standing.get(source, Standing.PLAIN))
        self.limits = Limits(**limits)  # type: ignore[arg-type]  # the limits of these tests are whole numbers

    def join(self, address: str, port: int) -> int | None:
        """The port of who has to go, if somebody has to."""
        out = self.line.join(Guest(socket.socket(), address, port, float(port)), self.limits)
        if out is not None:
            out.sock.close()
        return out.port if out is not None else None

    def next(self, *full: str) -> int | None:
        """The port of who is next, when these sources have no room."""
        guest = self.line.next(lambda source: source not in full)
        if guest is None:
            return None
        guest.sock.close()
        return guest.port

    def late(self, before: float) -> list[int]:
        """The ports of those that came before that time."""
        gone = self.line.late(lambda source: before)
        for guest in gone:
            guest.sock.close()
        return [guest.port for guest in gone]


def test_sources_take_turns() -> None:
    """Five of one source and one of another: the other is second, and within a source the first come is first."""
    waiters = Waiters()
    for port in (1, 2, 3, 4, 5):
        waiters.join("192.0.2.1", port)
    waiters.join("192.0.2.2", 6)
    assert [waiters.next() for _ in range(7)] == [1, 6, 2, 3, 4, 5, None]
    assert len(waiters.line) == 0


def test_who_has_no_room_is_passed_over() -> None:
    """A full source waits and does not hold up the others; who has waited too long is taken out."""
    waiters = Waiters()
    for port in (1, 2, 3):
        waiters.join(f"192.0.2.{port % 2}", port)
    assert waiters.next("192.0.2.0", "192.0.2.1") is None
    assert waiters.next("192.0.2.1") == 2
    assert waiters.late(2.0) == [1]
    assert list(waiters.line.sources()) == ["192.0.2.1"]
    assert waiters.late(99.0) == [3]
    assert len(waiters.line) == 0


def test_where_a_key_was_proven_every_second_turn_is_theirs() -> None:
    """A hundred strange sources delay a known office by one turn each, and the office does not shut them out."""
    waiters = Waiters()
    for port in range(100):
        waiters.join(f"198.51.100.{port}", port)
    waiters.standing["192.0.2.1"] = Standing.PROVEN
    for port in (201, 202, 203):
        waiters.join("192.0.2.1", port)
    assert [waiters.next() for _ in range(7)] == [201, 0, 202, 1, 203, 2, 3]
    waiters.late(1e9)


def test_the_penalised_come_last_and_by_lot() -> None:
    """A penalised source is next only when nobody else is, and which of its own is drawn."""
    waiters = Waiters(draw=lambda below: below - 1)
    waiters.standing["192.0.2.1"] = Standing.PENALISED
    for port in (1, 2, 3):
        waiters.join("192.0.2.1", port)
    waiters.join("192.0.2.2", 4)
    assert [waiters.next() for _ in range(4)] == [4, 3, 2, 1]


def test_a_flood_does_not_close_the_slow_lane() -> None:
    """However many strange sources come, every tenth turn is one of the penalised, and a full line keeps its place."""
    waiters = Waiters(unauthenticated=20)
    waiters.standing["192.0.2.1"] = Standing.PENALISED
    waiters.join("192.0.2.1", 0)
    turns = []
    for port in range(1, 60, 3):
        for more in range(3):
            waiters.join(f"10.0.0.{port + more}", port + more)
        turns.append(waiters.next())
    assert turns.index(0) < 10
    waiters.late(1e9)


def test_a_penalised_source_has_ten_places_that_are_drawn_for() -> None:
    """The eleventh takes the place of a random one of them, or is itself the one that goes."""
    drawn = iter([3, 10])
    waiters = Waiters(draw=lambda below: next(drawn))
    waiters.standing["192.0.2.1"] = Standing.PENALISED
    assert [waiters.join("192.0.2.1", port) for port in range(10)] == [None] * 10
    assert waiters.join("192.0.2.1", 10) == 3
    assert waiters.join("192.0.2.1", 11) == 11
    assert waiters.line.waiting("192.0.2.1") == 10
    waiters.late(99.0)


def test_one_source_cannot_fill_the_line() -> None:
    """After 200 of one source its oldest goes for the next, never the newcomer; another source costs nobody a place."""
    waiters = Waiters()
    for port in range(200):
        assert waiters.join("192.0.2.1", port) is None
    assert waiters.join("192.0.2.1", 200) == 0
    assert waiters.join("192.0.2.1", 201) == 1
    assert waiters.join("192.0.2.2", 202) is None
    assert len(waiters.late(1e9)) == 201
    assert waiters.join("192.0.2.1", 1) is None
    waiters.late(1e9)


def test_a_full_line_lets_the_oldest_of_the_fullest_source_go() -> None:
    """A newcomer of another source is never the one that goes."""
    waiters = Waiters(unauthenticated=4)
    for port in (1, 2, 3):
        waiters.join("192.0.2.1", port)
    assert waiters.join("192.0.2.2", 4) is None
    assert waiters.join("192.0.2.3", 5) == 1
    assert waiters.join("192.0.2.2", 6) in (2, 4)
    waiters.late(1e9)


def test_known_sources_are_the_last_to_go() -> None:
    """In a full line strangers give way, however few each source has, before anybody where a key was proven."""
    waiters = Waiters(unauthenticated=4)
    waiters.standing["192.0.2.1"] = Standing.PROVEN
    for port in (1, 2, 3):
        waiters.join("192.0.2.1", port)
    waiters.join("198.51.100.1", 4)
    assert waiters.join("192.0.2.1", 5) == 4
    assert waiters.join("198.51.100.2", 6) == 6  # nobody but the known is left
    waiters.standing["192.0.2.1"] = Standing.PENALISED
    waiters.line.judge_again("192.0.2.1")
    assert waiters.join("198.51.100.2", 7) == 1
    waiters.late(1e9)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["join", "next", "stand", "late"]), st.integers(0, 2))))
def test_the_line_loses_nobody(steps: list[tuple[int, str, int]]) -> None:
    """Whatever comes, goes and changes its standing: in the line is who came and did not leave."""
    waiters, inside, port = Waiters(unauthenticated=6), {}, 0
    for number, what, kind in steps:
        source = f"192.0.2.{number}"
        if what == "stand":
            waiters.standing[source] = list(Standing)[kind]
            waiters.line.judge_again(source)
        elif what == "join":
            port += 1
            inside[port] = source
            out = waiters.join(source, port)
            if out is not None:
                del inside[out]
        else:
            gone = [waiters.next()] if what == "next" else waiters.late(port - 5)
            for one in gone:
                if one is not None:
                    del inside[one]
        assert len(waiters.line) == len(inside) <= 6
        assert sorted(waiters.line.sources()) == sorted(set(inside.values()))
        assert Counter(guest.source for guest in waiters.line.guests()) == Counter(inside.values())
    waiters.late(1e9)


def test_connections_are_exact_for_person_and_key() -> None:
    """The limit of each is reached exactly, named in the answer, and free again after an end; some stay in any case."""
    guests = Guests()
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
    slots = Slots()
    limits = Limits(forwards_per_person=2, forwards_per_key=9, forwards_per_target=3)
    assert slots.take("1", Slot("w", "c", "alice", "k", "t"), limits) == ""
    assert slots.take("2", Slot("w", "c", "alice", "k", "t"), limits) == ""
    assert "person alice has 2" in slots.take("3", Slot("w", "c", "alice", "k", "u"), limits)
    assert slots.take("4", Slot("w", "c", "bob", "l", "t"), limits) == ""
    assert "target t has 3" in slots.take("5", Slot("w", "c", "carol", "m", "t"), limits)
    slots.free("1")
    slots.free("1")
    assert slots.take("6", Slot("w", "c", "alice", "k", "t"), limits) == ""
    assert "person alice" in slots.take("7", Slot("w", "c", "alice", "k", "z"), limits)


def test_a_slot_that_lives_on_is_taken_in_any_case() -> None:
    """What a worker holds after a change of supervisors counts, even over the limit, and once."""
    slots = Slots()
    for _ in range(2):
        for number in range(3):
            assert slots.take(str(number), Slot("w", "c", "alice", "k", "t"), None) == ""
    assert len(slots.held) == 3
    assert slots.take("new", Slot("w", "c", "alice", "k", "t"), Limits(forwards_per_person=3)) != ""
