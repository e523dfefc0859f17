"""What a reviewer asks for, and which rows answer (the database's way to them is in tests/store/test_query.py)."""

from ipaddress import ip_address, ip_network

import pytest

from relay.core.audit.audit_query import AuditQuery, full_fingerprint, host_of, port_of
from relay.core.audit.hash_chain import GENESIS, link
from tests.audit_rows import ALICE, NOON, Relay

relay = Relay()
alice = relay.connect()
OPENED = link("relay", 1, GENESIS, relay.opened(alice, "192.168.1.50:443", "192.168.1.50"))
DENIED = link("relay", 2, OPENED.hash, relay.denied(alice, "[fd00::1]:22"))
SEALED = link("relay", 4, DENIED.hash, relay.event("audit.sealed", epoch=1))
STARTED = link("relay", 3, DENIED.hash, relay.event("server.started", version="0.1.0"))


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        (AuditQuery(), "ods"),
        (AuditQuery(person="alice"), "od"),
        (AuditQuery(person="Alice"), ""),
        (AuditQuery(fingerprint=ALICE), "od"),
        (AuditQuery(fingerprint="uNiV"), "od"),
        (AuditQuery(fingerprint="NiV"), ""),
        (AuditQuery(host="192.168.1.50"), "o"),
        (AuditQuery(host="192.168.1.5"), ""),
        (AuditQuery(address=ip_address("192.168.1.50"), port=443), "o"),
        (AuditQuery(address=ip_address("192.168.1.50"), port=444), ""),
        (AuditQuery(address=ip_address("fd00::1")), "d"),
        (AuditQuery(port=22), "d"),
        (AuditQuery(client=ip_network("203.0.113.0/24")), "od"),
        (AuditQuery(client=ip_network("203.0.112.0/24")), ""),
        (AuditQuery(to=ip_network("192.168.1.0/24")), "o"),
        (AuditQuery(to=ip_network("fd00::/8")), ""),
        (AuditQuery(verdict="allowed"), "o"),
        (AuditQuery(verdict="denied"), "d"),
        (AuditQuery(name="server.started"), "s"),
        (AuditQuery(name="audit.sealed"), "c"),  # a checkpoint a minute answers only who asks for it
        (AuditQuery(since=STARTED.event.time), "s"),
        (AuditQuery(until=STARTED.event.time), "od"),
        (AuditQuery(text="OPENSSH"), "od"),
        (AuditQuery(text="0.1.0"), "s"),
        (AuditQuery(text="version"), ""),
        (AuditQuery(text=DENIED.event.id[:6]), "d"),
        (AuditQuery(person="alice", verdict="denied"), "d"),
    ],
)
def test_all_that_is_asked_must_hold(question, answers):
    """Each condition narrows the query; near misses (another case, the next port) do not match."""
    rows = {"o": OPENED, "d": DENIED, "s": STARTED, "c": SEALED}
    assert "".join(letter for letter, row in rows.items() if question.matches(row)) == answers


@pytest.mark.parametrize(
    ("asked", "host", "port"),
    [
        ("Remote:22", "remote", 22),
        ("[fd00::1]:22", "fd00::1", 22),
        ("remote", "remote", None),
        ("remote:x", "remote", None),
        ("remote:999999", "remote", None),
        (None, None, None),
        (7, None, None),
    ],
)
def test_a_target_as_asked_has_host_and_port(asked, host, port):
    """However odd the text, there is a host and a port or none."""
    assert (host_of(asked), port_of(asked)) == (host, port)


def test_a_fingerprint_may_be_typed_without_its_kind():
    """SHA256: is added when it was left out."""
    assert full_fingerprint("abc") == full_fingerprint("SHA256:abc") == "SHA256:abc"


def test_times_are_half_open():
    """since is inclusive, until exclusive."""
    row = link("relay", 1, GENESIS, Relay().event("server.stopped"))
    assert AuditQuery(since=NOON + 1_000_000, until=NOON + 1_000_001).matches(row)
    assert not AuditQuery(until=NOON + 1_000_000).matches(row)


@pytest.mark.parametrize(
    ("question", "names"),
    [
        (AuditQuery(), ()),
        (AuditQuery(name="key.added", verdict="denied"), ("key.added",)),
        (AuditQuery(verdict="allowed"), ("forward.opened", "forward.closed")),
        (AuditQuery(verdict="denied"), ("forward.denied", "request.refused")),
    ],
)
def test_which_names_can_answer(question: AuditQuery, names: tuple[str, ...]) -> None:
    """A named event answers alone; a verdict is answered by the events that carry one."""
    assert set(question.names()) >= set(names[:1])
    assert bool(question.names()) == bool(names)


def test_a_client_that_is_no_address_lies_in_no_network() -> None:
    """A row whose client cannot be read is never taken for one of a network."""
    odd = link("relay", 9, GENESIS, relay.event("login.succeeded", client="not an address"))
    assert not AuditQuery(client=ip_network("0.0.0.0/0")).matches(odd)
