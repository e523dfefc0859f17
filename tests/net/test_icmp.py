"""What relay.net.icmp reads from packets and error queues, and what it is told in a namespace with a real gateway."""

import errno
import json
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.rules import Address
from relay.errors import NotPermitted
from relay.net import icmp, icmp_message
from relay.net.icmp import Echo, Kind
from tests.net.conftest import Namespace

GATEWAY = IPv4Address("172.18.0.200")
HEAD = b"\x45" + bytes(19)  # an IPv4 header of 20 bytes
ASK = """
import json, os, sys
from ipaddress import ip_address
from relay.errors import RelayError
from relay.net import icmp
who, questions = json.loads(sys.argv[1])
if who:
    os.setgroups([]), os.setgid(who), os.setuid(who)
answers = []
for what, address, options in questions:
    try:
        if what == "clock":
            answers.append([icmp.clock(ip_address(address), **options), ""])
        else:
            found = icmp.echo(ip_address(address), **options)
            answers.append([found.kind, str(found.sender), found.seconds, found.code, found.mtu, found.detail])
    except RelayError as error:
        answers.append([type(error).__name__, error.what, error.hint])
    except OSError as error:
        answers.append(["OSError", error.errno])
print(json.dumps(answers))
"""


def ask(host: Namespace, *questions: tuple[str, str, dict[str, object]], who: int = 0) -> list[list[object]]:
    """What `echo` (or `clock`) answers inside, each as a list."""
    whole = [(what, address, {"interface": "zt0", "timeout": 5} | options) for what, address, options in questions]
    answers: list[list[object]] = json.loads(host.run(sys.executable, "-c", ASK, json.dumps([who, whole])))
    return answers


@pytest.fixture
def relay_and_gateway(relay_host: Namespace) -> Iterator[Namespace]:
    """The relay of the plan with a gateway at the other end of zt0 that forwards; its LAN has a smaller MTU."""
    gateway = Namespace()
    try:
        relay_host.ip(f"link set far_zt0 netns {gateway.holder.pid}")
        gateway.link("eth0", "192.168.1.200/24")
        gateway.ip(
            "link set lo up",
            "link set far_zt0 up",
            "address add 172.18.0.200/24 dev far_zt0",
            "address add fd18::200/64 dev far_zt0 nodad",
            "link set eth0 mtu 1000",
            "route add unreachable 192.168.1.77",
        )
        gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield relay_host
    finally:
        gateway.close()


@pytest.mark.system
@pytest.mark.parametrize("groups", ["1 0", "0 2147483647"], ids=["raw socket", "datagram socket"])
def test_echo_tells_what_came_back_and_from_whom(relay_and_gateway: Namespace, groups: str) -> None:
    """A reply, an expired TTL, an unreachable host and packets too big are told apart, by either kind of socket."""
    relay_and_gateway.run("sysctl", "-qw", f"net.ipv4.ping_group_range={groups}")
    answers = ask(
        relay_and_gateway,
        ("echo", "172.18.0.200", {}),
        ("echo", "fd18::200", {}),
        ("echo", "192.168.1.201", {"ttl": 1}),
        ("echo", "192.168.1.77", {}),
        ("echo", "192.168.1.201", {"size": 1200, "dont_fragment": True}),
        ("echo", "172.18.0.200", {"size": 1472, "dont_fragment": True}),
        ("echo", "172.18.0.200", {"size": 1473, "dont_fragment": True}),
        ("echo", "fd18::200", {"size": 1453, "dont_fragment": True}),
        ("echo", "192.168.1.201", {"timeout": 0.2}),
    )
    assert [(kind, sender, code, mtu) for kind, sender, _, code, mtu, _ in answers] == [
        ("reply", "172.18.0.200", 0, 0),
        ("reply", "fd18::200", 0, 0),
        ("time-exceeded", "172.18.0.200", 0, 0),
        ("unreachable", "172.18.0.200", 1, 0),
        ("too-big", "172.18.0.200", 0, 1000),
        ("reply", "172.18.0.200", 0, 0),
        ("too-big", "None", 0, 1500),
        ("too-big", "None", 0, 1500),
        ("silent", "None", 0, 0),
    ]
    assert answers[3][5] == "host unreachable"
    assert all(0 < float(str(answer[2])) < 1 for answer in answers[:6])


@pytest.mark.system
def test_what_this_machine_refuses_itself_has_no_sender(relay_and_gateway: Namespace) -> None:
    """No route and a gateway that does not answer ARP are unreachable by nobody's word; no interface is an error."""
    relay_and_gateway.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    relay_and_gateway.run("sysctl", "-qw", "net.ipv4.neigh.zt0.retrans_time_ms=100")
    relay_and_gateway.ip("route add prohibit 10.8.0.0/24", "route add 10.9.0.0/24 via 172.18.0.77 dev zt0")
    prohibited, no_arp, absent = ask(
        relay_and_gateway,
        ("echo", "10.8.0.1", {"interface": ""}),
        ("echo", "10.9.0.1", {}),
        ("echo", "172.18.0.200", {"interface": "zt9"}),
    )
    assert (prohibited[0], prohibited[1], prohibited[3]) == ("unreachable", "None", errno.EACCES)
    assert (no_arp[0], no_arp[1], no_arp[5]) == ("unreachable", "None", "host unreachable")
    assert absent == ["OSError", errno.ENODEV]


@pytest.mark.system
def test_who_may_not_send_icmp_is_told_what_to_type(relay_and_gateway: Namespace) -> None:
    """Without root the kernel's datagram socket is enough for an echo; without that either, the hint says what to do;
    a clock is for root alone."""
    relay_and_gateway.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    allowed, clock = ask(relay_and_gateway, ("echo", "172.18.0.200", {}), ("clock", "172.18.0.200", {}), who=65534)
    assert allowed[0] == "reply"
    assert clock == ["NotPermitted", "an ICMP timestamp may only be sent by root", "run it as root"]
    relay_and_gateway.run("sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    (refused,) = ask(relay_and_gateway, ("echo", "172.18.0.200", {}), who=65534)
    assert refused[0] == "NotPermitted"
    assert "ping_group_range" in str(refused[2])


@pytest.mark.system
def test_a_gateways_clock_is_compared_with_ours(relay_and_gateway: Namespace) -> None:
    """The gateway's kernel answers an ICMP timestamp; it is the same kernel here, so it is not ahead."""
    (near,), (none,) = (
        [answer[0]] for answer in ask(relay_and_gateway, ("clock", "172.18.0.200", {}), ("clock", "fd18::200", {}))
    )
    assert abs(float(str(near))) < 0.1
    assert none is None


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
        (error(2, 11, 0), Echo(Kind.TIME_EXCEEDED, GATEWAY)),
        (error(2, 3, 4, 1400), Echo(Kind.TOO_BIG, GATEWAY, mtu=1400)),
        (error(3, 2, 0, 1280), Echo(Kind.TOO_BIG, GATEWAY, mtu=1280)),
        (error(2, 3, 13), Echo(Kind.UNREACHABLE, GATEWAY, code=13, detail="prohibited by a packet filter")),
        (error(2, 3, 99), Echo(Kind.UNREACHABLE, GATEWAY, code=99, detail="unreachable, code 99")),
        (error(2, 3, 1, sender="172.18.0.10"), Echo(Kind.UNREACHABLE, None, code=1, detail="host unreachable")),
        (error(1, 0, 0, 1400, number=errno.EMSGSIZE), Echo(Kind.TOO_BIG, None, mtu=1400)),
        (error(1, 0, 0, number=errno.EPERM), Echo(Kind.UNREACHABLE, code=1, detail="a packet filter here forbids it")),
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
    assert found is None or isinstance(found.kind, Kind)


@given(st.binary(max_size=200))
def test_a_messages_checksum_is_that_of_rfc_1071(body: bytes) -> None:
    """The 16-bit words of a message with its checksum add up to all ones."""
    data = icmp_message.message(8, 1, 2, body)
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_loopback_answers_itself() -> None:
    """Without a namespace: an echo to this machine comes back, or this user is told that it may not."""
    address: Address = ip_address("127.0.0.1")
    try:
        assert icmp.echo(address, interface="", timeout=5).kind is Kind.REPLY
    except NotPermitted as refused:
        assert "ping_group_range" in refused.hint
