"""What is read from ICMP messages and error queues: answers to us, near misses, and any bytes."""

import errno
import struct
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.probe import icmp_message
from relay.net.probe.icmp_message import Echo, EchoKind

GATEWAY = IPv4Address("172.18.0.200")
HEAD = b"\x45" + bytes(19)  # an IPv4 header of 20 bytes


def error(
    origin: int, kind: int, code: int, info: int = 0, sender: str = "172.18.0.200", *, number: int = 113
) -> bytes:
    """A struct sock_extended_err and a sockaddr_in."""
    return struct.pack("=IBBBxII", number, origin, kind, code, info, 0) + struct.pack(
        "=HH4s8x", 2, 0, IPv4Address(sender).packed
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (error(2, 11, 0), Echo(EchoKind.TIME_EXCEEDED, GATEWAY)),
        (error(2, 3, 4, 1400), Echo(EchoKind.TOO_BIG, GATEWAY, mtu=1400)),
        (error(3, 2, 0, 1280), Echo(EchoKind.TOO_BIG, GATEWAY, mtu=1280)),
        (error(2, 3, 13), Echo(EchoKind.UNREACHABLE, GATEWAY, code=13, detail="prohibited by a packet filter")),
        (error(2, 3, 99), Echo(EchoKind.UNREACHABLE, GATEWAY, code=99, detail="unreachable, code 99")),
        (error(2, 3, 1, sender="172.18.0.10"), Echo(EchoKind.UNREACHABLE, None, code=1, detail="host unreachable")),
        (error(1, 0, 0, 1400, number=errno.EMSGSIZE), Echo(EchoKind.TOO_BIG, None, mtu=1400)),
        (
            error(1, 0, 0, number=errno.EPERM),
            Echo(EchoKind.UNREACHABLE, code=1, detail="a packet filter here forbids it"),
        ),
        (error(2, 12, 0), None),  # a parameter problem: not about the way
        (error(4, 3, 1), None),  # a transmit timestamp
        (error(2, 11, 0)[:15], None),
    ],
)
def test_an_error_queues_entry_becomes_a_value(data: bytes, expected: Echo | None) -> None:
    """ICMP and ICMPv6 errors keep their sender; an error of this machine itself has none."""
    quoted = icmp_message.message(8, 7, 9, b"")
    assert icmp_message.parse_error(data, quoted, 7, 9, ip_address("172.18.0.10")) == expected


@pytest.mark.parametrize(("identifier", "sequence"), [(8, 9), (7, 10), (None, 8)])
def test_an_error_about_another_packet_is_not_ours(identifier: int | None, sequence: int) -> None:
    """Identifier and sequence number in the quoted packet are compared."""
    assert icmp_message.parse_error(error(2, 11, 0), icmp_message.message(8, 7, 9, b""), identifier, sequence) is None


def test_a_reply_is_ours_by_type_identifier_and_sequence() -> None:
    """Near misses give None: a request, another identifier, another number, another family's type, a short one."""
    ours = icmp_message.message(0, 7, 9, b"token")
    assert icmp_message.parse_reply(HEAD + ours, 4, 7, 9, headed=True) == b"token"
    assert icmp_message.parse_reply(ours, 4, None, 9, headed=False) == b"token"
    assert icmp_message.parse_reply(icmp_message.message(129, 7, 9, b"six"), 6, 7, 9, headed=False) == b"six"
    for data, identifier, sequence in [
        (icmp_message.message(8, 7, 9, b"token"), 7, 9),
        (icmp_message.message(129, 7, 9, b"token"), 7, 9),
        (ours, 8, 9),
        (ours, 7, 8),
        (ours[:7], 7, 9),
    ]:
        assert icmp_message.parse_reply(data, 4, identifier, sequence, headed=False) is None


@pytest.mark.parametrize(
    ("start", "took", "received", "expected"),
    [
        (1_800_000_000.0, 0.0, 28_800_000, 0.0),  # 08:00 UT
        (1_800_000_000.0, 0.2, 28_800_100, 0.0),  # half the way there
        (1_800_000_000.0, 0.2, 28_805_100, 5.0),
        (1_800_000_000.0, 0.2, 28_794_100, -6.0),
        (1_799_971_199.0, 0.0, 1000, 2.0),  # a second before midnight here, a second past it there
        (1_799_971_201.0, 0.0, 86_399_000, -2.0),
    ],
)
def test_skew_is_reckoned_as_ntp_does_over_midnight_too(
    start: float, took: float, received: int, expected: float
) -> None:
    """Positive where the other clock is ahead."""
    assert icmp_message.skew(start, took, received, received) == pytest.approx(expected, abs=0.001)


def test_a_clock_that_counts_otherwise_is_none() -> None:
    """The non-standard bit, a time beyond a day, and an answer to another question are not believed."""
    reply = icmp_message.message(14, 7, 9, struct.pack("!III", 1, 5000, 5001))
    assert icmp_message.parse_clock(HEAD + reply, 7, 9) == (5000, 5001)
    assert icmp_message.parse_clock(HEAD + reply, 7, 8) is None
    for received in (0x80000000 | 5000, 86_400_000):
        other = icmp_message.message(14, 7, 9, struct.pack("!III", 1, received, 5001))
        assert icmp_message.parse_clock(HEAD + other, 7, 9) is None


@given(st.binary(max_size=80), st.binary(max_size=40), st.sampled_from([4, 6]))
def test_any_bytes_are_read_without_an_error(data: bytes, quoted: bytes, version: int) -> None:
    """What a stranger sends can at most be nobody's answer."""
    icmp_message.parse_reply(data, version, 7, 9, headed=version == 4)
    icmp_message.parse_clock(data, 7, 9)
    found = icmp_message.parse_error(data, quoted, 7, 9, GATEWAY)
    assert found is None or isinstance(found.kind, EchoKind)


@given(st.binary(max_size=200))
def test_a_messages_checksum_is_that_of_rfc_1071(body: bytes) -> None:
    """The 16-bit words of a message with its checksum add up to all ones."""
    data = icmp_message.message(8, 1, 2, body)
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
