"""A search by index finds the same rows as a comparison of every row."""

from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.usage_totals import BY, UsageTotal, group, portion
from relay.store import query
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import ALICE, BOB, NOON, Relay


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A log with a bit of everything, odd texts among it."""
    relay, path = Relay(), tmp_path_factory.mktemp("db") / FILE
    writer = AuditWriter(path, "relay")
    for person, client, version in (
        ("alice", "203.0.113.7", "SSH-2.0-OpenSSH_9.2p1"),
        ("bob", "203.0.114.7", 'SSH-2.0-a "quoted" 100%_\\x1b'),
        ("bob", "2001:db8::7", "SSH-2.0-Ünïcode"),
        ("carol", "", None),
    ):
        connection = relay.connect(person, client, client_version=version)
        plain = relay.opened(connection)
        six = relay.opened(connection, "[fd00::1]:443", "fd00::1")
        literal = relay.opened(connection, "192.168.1.50:443", "192.168.1.50")
        writer.append([relay.login(connection), plain, six, literal, relay.closed(six, "target-closed")])
        writer.append([relay.denied(connection), relay.denied(connection, "192.168.1.50:22", "unknown-target")])
        writer.append([relay.refused(connection), relay.event("audit.lost", count=3), relay.gone(connection)])
        writer.append([relay.event("audit.sealed", epoch=1, count=3)])
    writer.close()
    with AuditReader(path) as reader:
        yield reader


networks = st.sampled_from(["203.0.113.0/24", "203.0.112.0/20", "0.0.0.0/0", "::/0", "2001:db8::/32", "203.0.113.7/32"])
targets = st.sampled_from(["192.168.1.0/24", "192.168.1.50/32", "fd00::/8", "0.0.0.0/0"])
questions = st.builds(
    lambda address, client, to, since, until, **rest: AuditQuery(
        address=ip_address(address) if address and not rest["host"] else None,
        client=ip_network(client) if client else None,
        to=ip_network(to) if to else None,
        since=None if since is None else NOON + since * 1_000_000,
        until=None if until is None else NOON + until * 1_000_000,
        **rest,
    ),
    person=st.sampled_from(["", "", "alice", "bob", "nobody"]),
    fingerprint=st.sampled_from(["", "", ALICE, ALICE[:12], BOB[7:12], "SHA256:", "sha256:"]),
    host=st.sampled_from(["", "", "remote", "REMOTE", "recorder", "192.168.1.50"]),
    address=st.sampled_from(["", "", "192.168.1.201", "192.168.1.50", "fd00::1"]),
    port=st.sampled_from([None, None, 22, 443, 2222]),
    client=st.one_of(st.none(), networks),
    to=st.one_of(st.none(), targets),
    since=st.one_of(st.none(), st.integers(-1, 60)),
    until=st.one_of(st.none(), st.integers(-1, 60)),
    verdict=st.sampled_from(["", "", "allowed", "denied"]),
    name=st.sampled_from(["", "", "", "forward.denied", "forward.opened", "audit.lost", "audit.sealed", "never.heard"]),
    text=st.sampled_from(
        ["", "", "OPENSSH", '"quoted"', "100%", "%", "_", "\\", "ünïcode", "nïc", "person", "w1", "é"]
    ),
)


# windows of a few rows, and each way to combine indexes, whatever the numbers say
ways = st.sampled_from([(20_000, 10, 50_000), (3, 10, 50_000), (7, 0, 50_000), (20_000, 10**9, 0), (5, 10**9, 0)])


@contextmanager
def way(window, lookup, read):
    """The constants that decide how it is looked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "WINDOW", window)
        patch.setattr(query, "_LOOKUP", lookup)
        patch.setattr(query, "_READ", read)
        yield


@given(questions, ways)
def test_searching_equals_looking_at_every_row(reader, question, how):
    """Whatever is asked, and however it is looked for, the answer is exactly the rows that match, newest first."""
    expected = [row for row in reader.after(0, 10_000) if question.matches(row)][::-1]
    with way(*how):
        assert reader.search(question, limit=10_000) == expected


@given(questions, st.integers(1, 7), ways)
def test_pages_follow_each_other(reader, question, size, how):
    """Asking in pages gives every row once."""
    found, edge = [], None
    with way(*how):
        while page := reader.search(question, edge, size):
            assert len(page) <= size
            found += page
            edge = page[-1].seq
    assert found == reader.search(question, limit=10_000)


@given(questions, st.sampled_from(BY), st.sampled_from([1, 7, 100_000]))
def test_adding_up_equals_adding_each_row(reader, question, by, size):
    """The sums of SQL are those of the rows that match, group by group, in slices of any size."""

    def day(us):
        return str((us + 5 * 1_800_000_000) // 86_400_000_000)  # a zone half an hour off

    def sums(portions):
        found = {}
        for one in portions:
            names = group(by, one, day)
            if names is not None:
                found[names] = found.get(names, UsageTotal()) + one.total
        return found

    shares = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.store.aggregates.SLICE", size)
        added = sums(reader.portions(question, by, shares.append))
    assert added == sums(portion(row.event) for row in reader.after(0, 10_000) if question.matches(row))
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("question", "indexes"),
    [
        (AuditQuery(person="alice"), {"events_who"}),
        (AuditQuery(fingerprint=ALICE), {"events_who"}),
        (AuditQuery(client=ip_network("203.0.113.0/24")), {"events_who"}),
        (AuditQuery(host="remote"), {"events_target"}),
        (AuditQuery(address=ip_address("192.168.1.50")), {"events_target"}),
        (AuditQuery(to=ip_network("192.168.1.0/24")), {"events_target"}),
        (AuditQuery(verdict="denied"), {"events_name"}),
        (AuditQuery(name="audit.lost"), {"events_name"}),
        (AuditQuery(person="bob", verdict="denied"), {"events_who", "events_name"}),
        (AuditQuery(text="target-closed"), {"events_own", "events_rest", "events_id", "events_connection"}),
    ],
)
def test_the_usual_questions_use_an_index(reader, question, indexes):
    """One person, key, client, target, all denials, a text: found without reading the whole log."""
    plans = []

    def ask(statement, values):
        answer = reader._answer(statement, values)
        if "events e" in statement and ":top" in statement:
            plans.extend(step[3] for step in reader._answer(f"EXPLAIN QUERY PLAN {statement}", values))
        return answer

    for _ in query.candidates(ask, question, None, 100):
        pass
    assert any(index in step for step in plans for index in indexes), plans
    assert not [step for step in plans if step.startswith("SCAN e") or " SCAN events" in step], plans
