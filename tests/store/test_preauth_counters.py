"""Counters of failed attempts: a flood stays small, and a password typed as a login name is not stored."""

import random
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.store import preauth_counters
from relay.store.preauth_counters import OTHER, AttemptCount, AttemptTally, prefix_of, veiled
from relay.store.reader import AuditReader
from tests.audit_rows import NOON

MINUTE = NOON // 60_000_000


@pytest.mark.parametrize(
    ("address", "prefix"),
    [("203.0.113.7", "203.0.113.0/24"), ("203.0.114.0", "203.0.114.0/24"), ("2001:db8:1:2::7", "2001:db8:1::/48")],
)
def test_a_source_counts_for_its_network(address, prefix):
    """/24 of IPv4 and /48 of IPv6 stand for a source."""
    assert prefix_of(ip_address(address)) == prefix


def test_equal_attempts_are_one_count_with_the_last_as_sample():
    """Three attempts in one minute from neighbours are one count; reference, key and name are the last one's."""
    tally = AttemptTally(b"salt")
    for number in range(3):
        tally.add(
            NOON + number,
            IPv4Address(f"203.0.113.{number}"),
            "unknown-key",
            reference=f"ref{number}",
            fingerprint=f"SHA256:{number}",
            login="root",
        )
    tally.add(NOON, IPv4Address("203.0.113.9"), "unknown-key")
    (count,) = tally.take()
    assert count == AttemptCount(
        MINUTE, "203.0.113.0/24", "unknown-key", 4, "ref2", "SHA256:2", veiled("root", b"salt")
    )
    assert tally.take() == ()


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300)))
def test_a_name_is_kept_as_length_and_hash_only(name):
    """A name is its length in bytes and 32 bits; another database (another salt) gives another hash."""
    length, _, digest = veiled(name, b"salt").partition("/")
    assert int(length) == len(name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name)
    assert len(digest) == 8
    assert int(digest, 16) >= 0


def test_another_salt_is_another_hash():
    """The same name in two databases cannot be compared."""
    assert veiled("hunter2", b"one") != veiled("hunter2", b"two")
    assert "hunter2" not in veiled("hunter2", b"one")


def test_the_salt_is_the_databases_own(writer, path, tmp_path):
    """Each database makes its salt once and keeps it."""
    assert len(writer.salt) == 16
    assert writer.salt == writer.salt
    other = type(writer)(tmp_path / "other.db", "relay")
    assert other.salt != writer.salt
    other.close()


@pytest.mark.slow
def test_a_wide_flood_is_bounded_in_memory_and_keeps_its_sum():
    """100,000 attempts of as many networks and kinds in one minute: few counts, and not one attempt uncounted."""
    tally = AttemptTally(b"salt")
    for number in range(100_000):
        tally.add(NOON, IPv4Address(0x01000000 + number * 256), f"kind-{number % 40}", login=str(number))
    counts = tally.take()
    assert len(counts) <= 64 + 16 * 10
    assert sum(count.count for count in counts) == 100_000


@pytest.mark.slow
def test_junk_costs_next_to_nothing_on_disk(writer, path):
    """10^5 attempts from everywhere, over ten minutes and every second stored: well under 1 MB more on disk."""
    chance, tally, before = random.Random(1), AttemptTally(writer.salt), size(path)
    for number in range(100_000):
        address = IPv6Address(chance.getrandbits(128)) if number % 2 else IPv4Address(chance.getrandbits(32))
        at = NOON + number * 6_000
        tally.add(at, address, chance.choice(("junk", "no-key", "unknown-key")), reference=f"{number:011}", login="x")
        if number % 167 == 0:
            writer.strangers(tally.take())
    writer.strangers(tally.take())
    assert size(path) - before < 700_000
    with AuditReader(path) as reader:
        counts = reader.strangers(0, 2**40)
        assert sum(count.count for count in counts) == 100_000
        assert any(count.prefix == OTHER for count in counts)
        assert reader.head() == 0
    writer.close()
    assert size(path) - before < 400_000


def size(path):
    """Bytes of database and log."""
    return sum(file.stat().st_size for file in path.parent.iterdir() if not file.name.endswith("-shm"))


def test_counts_of_a_minute_add_up(writer, path):
    """Storing twice within a minute adds to the same row; an empty sample does not wipe the last one."""
    first = AttemptCount(MINUTE, "203.0.113.0/24", "unknown-key", 2, "ref1", "SHA256:1", "4/00000000")
    writer.strangers([first])
    writer.strangers([AttemptCount(MINUTE, "203.0.113.0/24", "unknown-key", 3)])
    with AuditReader(path) as reader:
        (count,) = reader.strangers(MINUTE, MINUTE)
        assert (count.count, count.reference, count.fingerprint) == (5, "ref1", "SHA256:1")
        assert reader.stranger("ref1") == count
        assert reader.stranger("ref2") is None


def test_a_minute_has_so_many_rows_and_no_more(writer, path):
    """Beyond 64 rows a minute new networks are "other", beyond 80 new kinds too."""
    writer.strangers(AttemptCount(MINUTE, f"10.{n}.0.0/24", f"kind{n}", 1) for n in range(500))
    with AuditReader(path) as reader:
        counts = reader.strangers(MINUTE, MINUTE)
    assert len(counts) == 64 + 16 + 1
    assert sum(count.count for count in counts) == 500
    assert next(count for count in counts if (count.prefix, count.kind) == (OTHER, OTHER)).count == 420


def test_in_all_the_oldest_minutes_give_way(writer, path, monkeypatch):
    """Over the bound in all, whole minutes go, oldest first; the newest always stay."""
    monkeypatch.setattr(preauth_counters, "ROWS", 100)
    for minute in range(10):
        writer.strangers(AttemptCount(MINUTE + minute, f"10.{n}.0.0/24", "junk", 1) for n in range(30))
    with AuditReader(path) as reader:
        minutes = {count.minute for count in reader.strangers(0, 2**40)}
    assert minutes == {MINUTE + 6, MINUTE + 7, MINUTE + 8, MINUTE + 9}


def test_old_counts_are_pruned(writer, path):
    """Counts older than the days given go, younger ones and all rows of the chain stay."""
    writer.strangers(
        [AttemptCount(MINUTE - 31 * 1440, "10.0.0.0/24", "junk", 1), AttemptCount(MINUTE, "10.0.0.0/24", "junk", 1)]
    )
    assert writer.prune(NOON, strangers_keep_days=30) == 1
    assert writer.prune(NOON, strangers_keep_days=30) == 0
    with AuditReader(path) as reader:
        assert [count.minute for count in reader.strangers(0, 2**40)] == [MINUTE]


def test_counts_that_could_not_be_stored_are_counted_later():
    """Given back after a full disk, they add up with what came meanwhile, and stay bounded."""
    tally = AttemptTally(b"salt")
    tally.add(NOON, IPv4Address("203.0.113.7"), "junk", reference="old")
    counts = tally.take()
    tally.add(NOON, IPv4Address("203.0.113.7"), "junk", reference="new")
    tally.give_back(counts)
    (count,) = tally.take()
    assert (count.count, count.reference) == (2, "new")
    tally.give_back(AttemptCount(minute, "10.0.0.0/24", "junk", 1) for minute in range(5000))
    assert len(tally.take()) <= 1000
