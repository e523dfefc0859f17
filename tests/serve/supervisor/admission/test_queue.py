"""The admission queue: turns of the sources, and which socket is evicted when the queue is full."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.serve.supervisor.admission.queue import (
    QUEUED_PER_PENALISED_SOURCE,
    QUEUED_PER_SOURCE,
    AdmissionQueue,
    QueuedSocket,
    SourceHistory,
)

SOCKET = socket.socket()  # the queue keeps sockets and never uses them


class Sources:
    """A queue whose sockets are named by their port, and the standing of their sources."""

    def __init__(self, **limits: int) -> None:
        self.proven: set[str] = set()
        self.failed: set[str] = set()
        self.penalised: set[str] = set()
        self.queue = AdmissionQueue(self.history, self.penalised.__contains__)
        self.limits = Limits(**limits)  # type: ignore[arg-type]  # the limits of these tests are whole numbers

    def history(self, source: str) -> SourceHistory:
        """How the source has behaved."""
        if source in self.proven:
            return SourceHistory.PROVEN
        return SourceHistory.FAILED if source in self.failed else SourceHistory.NEW

    def join(self, source: str, port: int) -> int | None:
        """Queue a socket; the port of the one that is evicted for it."""
        evicted = self.queue.join(QueuedSocket(SOCKET, source, port, source, float(port)), self.limits)
        return evicted.port if evicted is not None else None

    def next(self, *full: str) -> int | None:
        """The port of the socket whose turn it is, when these sources have no free slot."""
        queued = self.queue.next(lambda source: source not in full)
        return queued.port if queued is not None else None


@pytest.fixture
def sources() -> Iterator[Sources]:
    """An empty queue."""
    yield Sources()


def test_sources_take_turns(sources: Sources) -> None:
    """Five sockets of one source and one of another: the other is second, and of one source the oldest comes first."""
    for port in (1, 2, 3, 4, 5):
        sources.join("192.0.2.1", port)
    sources.join("192.0.2.2", 6)
    assert [sources.next() for _ in range(7)] == [1, 6, 2, 3, 4, 5, None]
    assert len(sources.queue) == 0


def test_a_source_without_a_free_slot_holds_up_no_other(sources: Sources) -> None:
    """A source that may not enter is passed over and keeps its sockets."""
    for port in (1, 2, 3):
        sources.join(f"192.0.2.{port % 2}", port)
    assert sources.next("192.0.2.0", "192.0.2.1") is None
    assert sources.next("192.0.2.1") == 2
    assert sources.queue.waiting("192.0.2.1") == 2


def test_proven_sources_come_first_and_others_have_every_fourth_turn(sources: Sources) -> None:
    """A hundred unknown sources do not delay a known office, and a busy office does not keep unknown sources out."""
    for port in range(100):
        sources.join(f"198.51.100.{port}", port)
    sources.proven.add("192.0.2.1")
    for port in range(201, 207):
        sources.join("192.0.2.1", port)
    assert [sources.next() for _ in range(9)] == [201, 202, 203, 0, 204, 205, 206, 1, 2]


def test_a_new_source_passes_those_that_failed_lately(sources: Sources) -> None:
    """Behind a hundred failed sources a new one is next, and in a full queue one of them is evicted, not it."""
    sources.limits = Limits(unauthenticated=100)
    for port in range(100):
        sources.failed.add(f"198.51.100.{port}")
        sources.join(f"198.51.100.{port}", port)
    assert sources.join("192.0.2.1", 200) == 0
    assert sources.next() == 200


def test_failed_sources_have_a_turn_in_sixteen(sources: Sources) -> None:
    """However many new and proven sources are queued, a failed one is not kept out."""
    sources.proven.add("192.0.2.1")
    sources.failed.add("192.0.2.2")
    for port in range(40):
        sources.join("192.0.2.1", port)
        sources.join(f"198.51.100.{port}", 100 + port)
    sources.join("192.0.2.2", 200)
    assert [sources.next() for _ in range(16)][-1] == 200


def test_one_source_cannot_fill_the_queue(sources: Sources) -> None:
    """Beyond its bound a source loses its oldest socket for its newest; a penalised source has a lower bound."""
    sources.penalised.add("192.0.2.2")
    for source, most in (("192.0.2.1", QUEUED_PER_SOURCE), ("192.0.2.2", QUEUED_PER_PENALISED_SOURCE)):
        assert [sources.join(source, port) for port in range(most)] == [None] * most
        assert [sources.join(source, most + more) for more in range(3)] == [0, 1, 2]
        assert sources.queue.waiting(source) == most


def test_a_full_queue_evicts_the_oldest_of_the_fullest_source() -> None:
    """The source with the most sockets loses its oldest; only where all have one, the first in turn is evicted."""
    sources = Sources(unauthenticated=4)
    for source, port in (("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.2", 3), ("192.0.2.2", 4)):
        assert sources.join(source, port) is None
    assert sources.join("192.0.2.3", 5) == 2
    assert sources.join("192.0.2.4", 6) == 3
    assert sources.join("192.0.2.5", 7) == 1  # all have one: the first in turn


def test_proven_sources_are_evicted_last() -> None:
    """While other sources are queued, a source where a key was proven loses no socket to the bound of the queue."""
    sources = Sources(unauthenticated=3)
    sources.proven.add("192.0.2.1")
    for port in (1, 2, 3):
        sources.join("192.0.2.1", port)
    assert sources.join("198.51.100.1", 4) == 4
    assert sources.join("192.0.2.1", 5) == 1


def test_late_sockets_are_taken_out(sources: Sources) -> None:
    """Sockets from before their source's deadline leave the queue, the others stay in order."""
    for port in (1, 2, 3, 4):
        sources.join(f"192.0.2.{port % 2}", port)
    late = sources.queue.late(lambda source: 3.5 if source == "192.0.2.1" else 0.0)
    assert [queued.port for queued in late] == [1, 3]
    assert list(sources.queue.sources()) == ["192.0.2.0"]
    assert [queued.port for queued in sources.queue.clear()] == [2, 4]
    assert len(sources.queue) == 0


@given(st.lists(st.tuples(st.sampled_from(["join", "next", "late"]), st.integers(0, 5), st.booleans()), max_size=200))
def test_no_socket_is_lost_or_given_twice(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever comes in which order, each socket leaves the queue once, and the queue stays within its bound."""
    sources = Sources(unauthenticated=12)
    joined: set[int] = set()
    left: list[int] = []
    for port, (step, number, is_proven) in enumerate(steps):
        source = f"192.0.2.{number}"
        (sources.proven.add if is_proven else sources.proven.discard)(source)
        if step == "join":
            joined.add(port)
            evicted = sources.join(source, port)
            left += [evicted] if evicted is not None else []
        elif step == "next":
            taken = sources.next(source)
            left += [taken] if taken is not None else []
        else:
            left += [queued.port for queued in sources.queue.late(lambda _, deadline=port - 20: float(deadline))]
        assert len(sources.queue) == len(sources.queue.sockets()) <= 12
    left += [queued.port for queued in sources.queue.clear()]
    assert sorted(left) == sorted(joined)
