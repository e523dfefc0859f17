"""Penalty points of sources: growing, running out, forgiven, forgotten."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import PenaltySettings as Rules
from relay.serve.supervisor.admission.source_penalties import SourcePenalties, counted_as, exempt

RULES = Rules(failed=5, silent=1, timeout=10, junk=5, begin=15, most=60, lately=100, sources=4, exempt=())
A, B = "192.0.2.1", "198.51.100.2"


def fail(
    penalties: SourcePenalties, source: str, times: int, now: float, why: str = "failed", *, rules: Rules = RULES
) -> bool:
    """That many failures of a source; whether a penalty began with one of them."""
    return sum(penalties.failed(source, source, why, rules, now) is not None for _ in range(times)) > 0


def test_it_begins_with_the_third_failure_and_runs_out() -> None:
    """Three connections without a known key within seconds: penalised, until all fifteen seconds have passed."""
    penalties = SourcePenalties()
    assert not fail(penalties, A, 2, 0.0)
    assert penalties.remaining(A, 0.0) == 0
    assert fail(penalties, A, 1, 0.0)
    assert penalties.remaining(A, 0.0) == 15
    assert penalties.remaining(A, 10.0) == 5  # below `begin`, and still penalised
    assert penalties.remaining(A, 15.0) == 0
    assert penalties.remaining(B, 0.0) == 0
    assert [one.source for one in penalties.lapsed(15.0)] == [A]
    assert len(penalties) == 0


def test_it_grows_to_its_most() -> None:
    """Further failures extend a penalty, never beyond `most` after the last failure."""
    penalties = SourcePenalties()
    fail(penalties, A, 100, 0.0)
    assert penalties.remaining(A, 0.0) == 60
    assert not fail(penalties, A, 1, 30.0)
    assert penalties.remaining(A, 30.0) == 35


def test_failures_far_apart_never_add_up() -> None:
    """A failure that has run out counts no more."""
    penalties = SourcePenalties()
    assert not any(fail(penalties, A, 1, 6.0 * turn) for turn in range(50))


def test_each_kind_has_its_own_weight() -> None:
    """A timeout counts as much as ten silent connections; an end without fault of the client counts nothing."""
    penalties = SourcePenalties()
    assert not fail(penalties, A, 14, 0.0, "silent")
    assert fail(penalties, A, 1, 0.0, "silent")
    assert fail(penalties, B, 2, 0.0, "timeout")
    assert not fail(penalties, "203.0.113.9", 100, 0.0, "")
    assert not fail(penalties, "203.0.113.9", 100, 0.0, "something of a newer worker")


def test_a_proven_key_forgives_and_protects() -> None:
    """One log-in ends the penalty of its source, which gets no points for `lately` seconds."""
    penalties = SourcePenalties()
    fail(penalties, A, 5, 0.0)
    ended = penalties.proven(A, RULES, 1.0)
    assert ended is not None
    assert ended.failures == 5
    assert not fail(penalties, A, 100, 90.0)
    assert penalties.proven(A, RULES, 91.0) is None
    assert not fail(penalties, A, 100, 190.0)
    assert fail(penalties, A, 3, 192.0)


def test_exempt_networks() -> None:
    """An exempt address gets no points, mapped into IPv6 or not; the next address does."""
    networks = ("192.0.2.0/25", "2001:db8::/32")
    assert exempt("192.0.2.1", networks)
    assert exempt("::ffff:192.0.2.1", networks)
    assert exempt("2001:db8::1", networks)
    assert not exempt("192.0.2.128", networks)
    assert not exempt("2001:db9::1", networks)
    assert not exempt("192.0.2.1", ())
    assert not fail(SourcePenalties(), "127.0.0.1", 100, 0.0, rules=Rules())


def test_an_exempt_address_is_a_source_of_its_own() -> None:
    """An exempt IPv6 address is not affected by a penalty of its /64; all other addresses of the /64 are."""
    assert counted_as("2001:db8::7", ("2001:db8::7/128",)) == "2001:db8::7"
    assert counted_as("2001:db8::8", ("2001:db8::7/128",)) == "2001:db8::/64"
    assert counted_as("192.0.2.7", ("192.0.2.0/24",)) == counted_as("192.0.2.7", ()) == "192.0.2.7"


def test_the_table_is_bounded() -> None:
    """The source whose last failure is oldest is forgotten first, and the caller gets penalties lost that way."""
    penalties = SourcePenalties()
    fail(penalties, "192.0.2.0", 3, 0.0)
    for number in range(1, 6):
        fail(penalties, f"192.0.2.{number}", 1, 1.0)
    assert len(penalties) == 4
    assert penalties.of("192.0.2.1") is None
    assert [one.source for one in penalties.lapsed(1.0)] == ["192.0.2.0"]
    assert penalties.lapsed(1.0) == []
    for number in range(50):
        penalties.proven(f"198.51.100.{number}", RULES, 1.0)
    assert not penalties.recently_proven("198.51.100.45", RULES, 1.0)
    assert penalties.recently_proven("198.51.100.46", RULES, 1.0)


def test_a_lifted_penalty_counts_anew() -> None:
    """A lifted penalty leaves no points."""
    penalties = SourcePenalties()
    fail(penalties, A, 100, 0.0)
    assert penalties.lift(A) is not None
    assert penalties.lift(A) is None
    assert not fail(penalties, A, 2, 0.0)


def test_a_successor_knows_the_same() -> None:
    """Penalties, their remaining time and recent log-ins pass through JSON to another clock."""
    penalties, successor = SourcePenalties(), SourcePenalties()
    fail(penalties, A, 4, 100.0)
    fail(penalties, B, 1, 100.0)
    penalties.proven("203.0.113.1", RULES, 100.0)
    successor.remember(json.loads(json.dumps(penalties.memory(110.0))), RULES, 7.0)
    assert successor.remaining(A, 7.0) == 10
    assert successor.remaining(B, 7.0) == 0
    assert successor.recently_proven("203.0.113.1", RULES, 96.0)
    assert not successor.recently_proven("203.0.113.1", RULES, 98.0)


def test_a_successor_keeps_to_its_own_rules() -> None:
    """With fewer sources and shorter penalties in the settings the oldest are forgotten, and their ends returned."""
    penalties, successor = SourcePenalties(), SourcePenalties()
    for number in range(4):
        fail(penalties, f"192.0.2.{number}", 100, float(number))
        penalties.proven(f"198.51.100.{number}", RULES, float(number))
    memory = json.loads(json.dumps(penalties.memory(4.0)))
    memory["penalties"][-1][1] = float("nan")
    successor.remember(memory, replace(RULES, sources=2, most=9), 0.0)
    assert [one.source for one in successor.active(0.0)] == ["192.0.2.2", "192.0.2.3"]
    assert [successor.remaining(f"192.0.2.{number}", 0.0) for number in range(4)] == [0, 0, 9, 9]
    assert [one.source for one in successor.lapsed(0.0)] == ["192.0.2.0", "192.0.2.1"]
    assert [number for number in range(4) if successor.recently_proven(f"198.51.100.{number}", RULES, 0.0)] == [2, 3]


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 20), st.sampled_from(["failed", "timeout", "in"]))))
def test_the_bounds_hold_whatever_comes(steps: list[tuple[int, float, str]]) -> None:
    """No order of events makes a penalty longer than `most`, the table longer than `sources`, or forgets an end."""
    penalties, now, open_ones = SourcePenalties(), 0.0, set()
    for number, pause, what in steps:
        now += pause
        source = f"192.0.2.{number}"
        open_ones -= {one.source for one in penalties.lapsed(now)}
        if what == "in":
            ended = penalties.proven(source, RULES, now)
            assert (ended is not None) == (source in open_ones)
            open_ones.discard(source)
        elif fail(penalties, source, 1, now, what):
            assert source not in open_ones
            open_ones.add(source)
        open_ones -= {one.source for one in penalties.lapsed(now)}
        assert {one.source for one in penalties.active(now)} == open_ones
        assert len(penalties) <= 4
        assert all(penalties.remaining(one, now) <= 60 for one in open_ones)
