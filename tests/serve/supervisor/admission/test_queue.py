"""Who waits at the door and whose turn is next (relay/serve/supervisor/admission/queue.py): turns, standings, who
goes when it is full."""

import itertools
import random
import socket
from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.serve.supervisor.admission.queue import AdmissionQueue, QueuedSocket, SourceHistory


class Waiters:
    """A line and the guests that joined it."""

    def __init__(self, draw: Callable[[int], int] = lambda below: 0, **limits: int) -> None:
        self.standing: dict[str, SourceHistory] = {}
        self.line = AdmissionQueue(draw, lambda source: self.standing.get(source, SourceHistory.PLAIN))
        self.limits = Limits(**limits)  # type: ignore[arg-type]  # the limits of these tests are whole numbers

    def join(self, address: str, port: int, *, spoke: bool = True) -> int | None:
        """The port of who has to go, if somebody has to."""
        out = self.line.join(QueuedSocket(socket.socket(), address, port, float(port), spoke), self.limits)
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
    waiters.standing["192.0.2.1"] = SourceHistory.PROVEN
    for port in (201, 202, 203):
        waiters.join("192.0.2.1", port)
    assert [waiters.next() for _ in range(7)] == [201, 0, 202, 1, 203, 2, 3]
    waiters.late(1e9)


def test_the_penalised_come_last_and_by_lot() -> None:
    """A penalised source is next only when nobody else is, and which of its own is drawn."""
    waiters = Waiters(draw=lambda below: below - 1)
    waiters.standing["192.0.2.1"] = SourceHistory.PENALISED
    for port in (1, 2, 3):
        waiters.join("192.0.2.1", port)
    waiters.join("192.0.2.2", 4)
    assert [waiters.next() for _ in range(4)] == [4, 3, 2, 1]


def test_a_flood_does_not_close_the_slow_lane() -> None:
    """However many strange sources come, every tenth turn is one of the penalised, and a full line keeps its place."""
    waiters = Waiters(unauthenticated=20)
    waiters.standing["192.0.2.1"] = SourceHistory.PENALISED
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
    waiters.standing["192.0.2.1"] = SourceHistory.PENALISED
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
    waiters.standing["192.0.2.1"] = SourceHistory.PROVEN
    for port in (1, 2, 3):
        waiters.join("192.0.2.1", port)
    waiters.join("198.51.100.1", 4)
    assert waiters.join("192.0.2.1", 5) == 4
    assert waiters.join("198.51.100.2", 6) == 6  # nobody but the known is left
    waiters.standing["192.0.2.1"] = SourceHistory.PENALISED
    waiters.line.judge_again("192.0.2.1")
    assert waiters.join("198.51.100.2", 7) == 1
    waiters.late(1e9)


def test_who_has_said_nothing_waits_behind_who_has() -> None:
    """Silent ones come last, and stand with the rest once they speak; silent for a second, they are the first to go."""
    waiters = Waiters(draw=lambda below: below - 1, unauthenticated=4)
    for port in (1, 2, 3):
        waiters.join(f"10.0.0.{port}", port, spoke=False)
    waiters.join("192.0.2.1", 4)
    assert waiters.join("192.0.2.2", 5) == 1  # the time is the port: it has been here for four seconds
    (third,) = [guest for guest in waiters.line.guests() if guest.port == 3]
    waiters.line.spoke(third)
    assert [waiters.next() for _ in range(4)] == [4, 5, 3, 2]


def test_of_one_source_who_has_spoken_comes_first() -> None:
    """An office's silent monitoring does not hold up its people."""
    waiters = Waiters()
    for port in (1, 2):
        waiters.join("192.0.2.1", port, spoke=False)
    waiters.join("192.0.2.1", 3)
    assert [waiters.next() for _ in range(3)] == [3, 1, 2]


def test_whose_last_connection_failed_waits_behind_who_is_new() -> None:
    """A hundred addresses that failed lately are passed by a new one, and give way to it in a full line."""
    waiters = Waiters(unauthenticated=100)
    for port in range(100):
        waiters.standing[f"10.0.0.{port}"] = SourceHistory.FAILED
        waiters.join(f"10.0.0.{port}", port)
    assert waiters.join("192.0.2.1", 200) in range(100)
    assert waiters.next() == 200
    waiters.late(1e9)


def test_the_lower_standings_have_every_tenth_turn_each() -> None:
    """However many new addresses come, who failed, who is silent and who is penalised each wait nine turns at most."""
    waiters = Waiters()
    waiters.standing |= {"10.0.0.1": SourceHistory.FAILED, "10.0.0.2": SourceHistory.PENALISED}
    for port in range(400):
        waiters.join(f"198.51.{port // 250}.{port % 250}", port)
    for port in range(1000, 1060, 3):
        waiters.join("10.0.0.1", port)
        waiters.join("10.0.0.3", port + 1, spoke=False)
        if port < 1030:  # it has ten places
            waiters.join("10.0.0.2", port + 2)
    turns = [waiters.next() or 0 for _ in range(100)]
    for kind in range(3):
        theirs = [at for at, port in enumerate(turns) if port >= 1000 and (port - 1000) % 3 == kind]
        assert max(after - before for before, after in itertools.pairwise([-1, *theirs])) <= 12
    assert sum(port < 1000 for port in turns) >= 65
    waiters.late(1e9)


def test_among_too_many_sources_with_one_place_each_the_lot_decides() -> None:
    """Twenty places and sixty new addresses a turn: who came late is next, and who goes, as often as who came early."""
    dice = random.Random(1)
    waiters = Waiters(dice.randrange, unauthenticated=20)
    ages, port = [], 0
    for _ in range(300):
        for _ in range(60):
            port += 1
            waiters.join(f"10.{port >> 16}.{(port >> 8) & 255}.{port & 255}", port)
        ages.append(port - (waiters.next() or 0))
    # a place is given up after 20 newcomers on average, so who is next is that old too; in turn it would be nobody new
    assert min(ages) == 0
    assert 12 < sum(ages) / len(ages) < 28
    waiters.late(1e9)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["join", "next", "stand", "speak", "late"]), st.integers(0, 4))
    )
)
def test_the_line_loses_nobody(steps: list[tuple[int, str, int]]) -> None:
    """Whatever comes, goes and changes its standing: in the line is who came and did not leave."""
    waiters, inside, port = Waiters(unauthenticated=6), {}, 0
    for number, what, kind in steps:
        source = f"192.0.2.{number}"
        if what == "stand":
            waiters.standing[source] = list(SourceHistory)[kind]
            waiters.line.judge_again(source)
        elif what == "speak":
            for guest in waiters.line.guests()[:kind]:
                waiters.line.spoke(guest)
        elif what == "join":
            port += 1
            inside[port] = source
            out = waiters.join(source, port, spoke=bool(kind))
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
