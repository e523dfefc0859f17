"""Counters of the supervisor: known words only, whatever workers say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.event import NAMES, Event
from relay.core.prometheus_text import MetricFamily, render
from relay.serve.supervisor.counters import MAX_ZONE_LABELS, OTHER, OTHER_ZONES, Counters, LabelledCounter
from relay.serve.worker.forward.dial import DialFailed
from relay.serve.worker.statistics import MAX_ZONES, WorkerStatistics
from tests.prometheus import parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
FIELDS = ("sent", "received", "denied", "refused", "dials", "lag")


class Flow:
    """A forward through which so many bytes have gone since it was last asked."""

    def __init__(self, sent: int, received: int) -> None:
        self.now = sent, received

    def take_delta(self) -> tuple[int, int]:
        """Once."""
        flowed, self.now = self.now, (0, 0)
        return flowed


def test_what_a_worker_counts_arrives_once() -> None:
    """Two messages of a worker are what it counted, no more and no less."""
    figures, counts = WorkerStatistics(), Counters()
    forward = Flow(5, 7)
    figures.denied("no-rule")
    figures.refused("channel")
    figures.count_bytes(forward)
    with figures.dialling("office"):
        pass
    counts.add_worker(figures.take())
    figures.denied("no-rule")
    figures.count_bytes(forward)
    with pytest.raises(DialFailed), figures.dialling("office"):
        raise DialFailed("target-refused", "ECONNREFUSED")
    for _ in range(2):
        counts.add_worker(figures.take())
    assert (counts.sent, counts.received) == (5, 7)
    assert dict(counts.denied.items())["no-rule"] == 2
    assert dict(counts.refused.items())["channel"] == 1
    assert {key: one.cumulative()[-1] for key, one in counts.dials.items()} == {
        ("office", "connected"): 1,
        ("office", "failed"): 1,
    }


def test_a_dial_that_is_given_up_is_not_counted() -> None:
    """A dial that the client cancelled is not counted."""
    figures = WorkerStatistics()
    with pytest.raises(KeyboardInterrupt), figures.dialling("office"):
        raise KeyboardInterrupt
    assert figures.take()["dials"] == []


def test_zones_are_bounded_on_both_sides() -> None:
    """The number of zones in a message and on the page is bounded, and no dial is lost."""
    figures, counts = WorkerStatistics(), Counters()
    for number in range(MAX_ZONES * 3):
        with figures.dialling(f"zone{number}"):
            pass
    counts.add_worker(figures.take())
    for number in range(MAX_ZONE_LABELS * 3):
        counts.add_worker({"dials": [[f"z{number}", "failed", [[1] + [0] * 13, 0.1]]]})
    assert len(counts.dials) <= 2 * MAX_ZONE_LABELS + 2
    assert sum(one.cumulative()[-1] for one in counts.dials.values()) == MAX_ZONES * 3 + MAX_ZONE_LABELS * 3
    assert counts.dials[OTHER_ZONES, "failed"].cumulative()[-1] > MAX_ZONE_LABELS


def test_other_words_are_one() -> None:
    """Unknown values are counted together, so that a faulty worker creates no label."""
    words = LabelledCounter(("a", "b"), also=("c",))
    for word in ("a", "c", "d", "e", None, 7, ["a"]):
        words.add(word)
    words.add("b", -1)
    words.add("b", True)
    words.add("b", 1 << 70)
    assert dict(words.items()) == {"a": 1, "b": 0, "c": 1, OTHER: 5}


def test_rows_are_counted_by_event_and_forwards_by_their_end() -> None:
    """Each event has a counter from the start, also at zero."""
    counts = Counters()
    counts.written([Event("1", 1, "forward.closed", {"reason": "worker-lost"}), Event("2", 1, "zone.down", {})])
    rows = dict(counts.rows.items())
    assert set(rows) == {*NAMES, OTHER}
    assert (rows["forward.closed"], rows["zone.down"], rows["zone.up"]) == (1, 1, 0)
    assert dict(counts.closings.items())["worker-lost"] == 1


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON)
    | st.fixed_dictionaries({"dials": st.lists(st.lists(JSON, max_size=3))})
)
def test_nonsense_is_passed_over(message: dict[str, Any]) -> None:
    """Whatever a worker sends, the page can be rendered."""
    counts = Counters()
    counts.add_worker(message)
    assert counts.sent >= 0
    family = MetricFamily("x", "counter", "")
    for words in (counts.denied, counts.refused):
        for word, count in words.items():
            assert type(count) is int
            family.put(count, word=word)
        family.samples.clear()
    dials = MetricFamily("y", "histogram", "")
    for (zone, result), histogram in counts.dials.items():
        dials.spread(histogram, zone=zone, result=result)
    parse(render([dials]))
