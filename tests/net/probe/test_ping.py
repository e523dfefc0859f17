"""Echoes in a namespace with a real gateway and the real ping(8), and what its output means."""

import contextlib
import errno
import json
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import NotPermitted, RelayError
from relay.net.probe import ping
from relay.net.probe.ping import Echo, EchoKind
from relay.net.system_commands import CommandResult
from tests.net.conftest import Namespace

ASK = """
import json, sys
from ipaddress import ip_address
from relay.errors import RelayError
from relay.net.probe import ping
answers = []
for address, options in json.loads(sys.argv[1]):
    try:
        found = ping.echo(ip_address(address), **options)
        answers.append([found.kind, str(found.sender), found.seconds, found.code, found.mtu, found.detail])
    except RelayError as error:
        answers.append([type(error).__name__, error.what, error.hint])
    except OSError as error:
        answers.append(["OSError", error.errno])
print(json.dumps(answers))
"""
TARGET = ip_address("192.168.1.201")
GATEWAY = ip_address("172.18.0.200")
HEAD = "PING 192.168.1.201 (192.168.1.201) from 172.18.0.10 zt0: 56(84) bytes of data.\n"
HEAD_IPV6 = "PING fdaa::201(fdaa::201) from fd18::10 zt0: 56 data bytes\n"
TAIL = "\n--- 192.168.1.201 ping statistics ---\n1 packets transmitted, 0 received, 100% packet loss, time 0ms\n"


def ask(host: Namespace, *questions: tuple[str, dict[str, object]]) -> list[list[object]]:
    """What `echo` answers inside, each as a list."""
    whole = [(address, {"interface": "zt0", "timeout": 5} | options) for address, options in questions]
    answers: list[list[object]] = json.loads(host.run(sys.executable, "-c", ASK, json.dumps(whole)))
    return answers


@pytest.fixture
def relay_and_gateway(relay_host: Namespace) -> Iterator[Namespace]:
    """The relay of the plan with a gateway at the other end of zt0 that forwards; its LAN has a smaller MTU."""
    gateway = Namespace()
    try:
        relay_host.ip(f"link set far_zt0 netns {gateway.holder.pid}")
        gateway.link("eth0", "192.168.1.200/24", "fdaa::200/64")
        gateway.ip(
            "link set lo up",
            "link set far_zt0 up",
            "address add 172.18.0.200/24 dev far_zt0",
            "address add fd18::200/64 dev far_zt0 nodad",
            "link set eth0 mtu 1300",
            "route add unreachable 192.168.1.77",
            "-6 route add prohibit fdaa::78",
        )
        gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        yield relay_host
    finally:
        gateway.close()


@pytest.mark.system
@pytest.mark.parametrize("groups", ["1 0", "0 2147483647"], ids=["raw socket", "datagram socket"])
def test_echo_tells_what_came_back_and_from_whom(relay_and_gateway: Namespace, groups: str) -> None:
    """A reply, an expired TTL, an unreachable host and packets too big are distinguished by either socket."""
    relay_and_gateway.run("sysctl", "-qw", f"net.ipv4.ping_group_range={groups}")
    answers = ask(
        relay_and_gateway,
        ("172.18.0.200", {}),
        ("fd18::200", {}),
        ("192.168.1.201", {"ttl": 1}),
        ("fdaa::201", {"ttl": 1}),
        ("192.168.1.77", {}),
        ("fdaa::78", {}),
        ("192.168.1.201", {"size": 1372, "dont_fragment": True}),
        ("fdaa::201", {"size": 1352, "dont_fragment": True}),
        ("172.18.0.200", {"size": 1472, "dont_fragment": True}),
        ("172.18.0.200", {"size": 1473, "dont_fragment": True}),
        ("fd18::200", {"size": 1453, "dont_fragment": True}),
        ("192.168.1.201", {"timeout": 0.2}),
    )
    assert [(kind, sender, code, mtu) for kind, sender, _, code, mtu, _ in answers] == [
        ("reply", "172.18.0.200", 0, 0),
        ("reply", "fd18::200", 0, 0),
        ("time-exceeded", "172.18.0.200", 0, 0),
        ("time-exceeded", "fd18::200", 0, 0),
        ("unreachable", "172.18.0.200", 1, 0),
        ("unreachable", "fd18::200", 1, 0),
        ("too-big", "172.18.0.200", 0, 1300),
        ("too-big", "fd18::200", 0, 1300),
        ("reply", "172.18.0.200", 0, 0),
        ("too-big", "None", 0, 1500),
        ("too-big", "None", 0, 1500),
        ("silent", "None", 0, 0),
    ]
    assert (answers[4][5], answers[5][5]) == ("host unreachable", "prohibited by a packet filter")
    assert all(0 < float(str(answer[2])) < 1 for answer in answers if answer[0] == "reply")


@pytest.mark.system
def test_what_this_machine_refuses_itself_has_no_sender(relay_and_gateway: Namespace) -> None:
    """No route and a gateway that does not answer ARP are unreachable without a sender; no interface is an error."""
    relay_and_gateway.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    relay_and_gateway.run("sysctl", "-qw", "net.ipv4.neigh.zt0.retrans_time_ms=100")
    relay_and_gateway.ip("route add prohibit 10.8.0.0/24", "route add 10.9.0.0/24 via 172.18.0.77 dev zt0")
    prohibited, no_arp, absent, absent_ipv6 = ask(
        relay_and_gateway,
        ("10.8.0.1", {"interface": ""}),
        ("10.9.0.1", {}),
        ("172.18.0.200", {"interface": "zt9"}),
        ("fd18::200", {"interface": "zt9"}),
    )
    assert (prohibited[0], prohibited[1], prohibited[3]) == ("unreachable", "None", errno.EACCES)
    assert (no_arp[0], no_arp[1], no_arp[5]) == ("unreachable", "None", "host unreachable")
    assert absent == absent_ipv6 == ["OSError", errno.ENODEV]


@pytest.mark.system
def test_no_echo_leaves_by_another_interface(relay_and_gateway: Namespace) -> None:
    """With the zone's route gone an echo stays on the zone's interface, whatever the default route says."""
    relay_and_gateway.ip("route del 192.168.1.0/24 via 172.18.0.200 dev zt0")
    counter = (
        "table inet t { chain o { type filter hook output priority 0; oifname eth0 icmp type echo-request counter; }; }"
    )
    relay_and_gateway.run("nft", counter)
    (answer,) = ask(relay_and_gateway, ("192.168.1.201", {"timeout": 0.3}))
    assert answer[0] in {"silent", "unreachable"}
    assert "counter packets 0 bytes 0" in relay_and_gateway.run("nft", "list", "table", "inet", "t")


@pytest.mark.parametrize(
    ("status", "output", "complaint", "expected"),
    [
        (0, "64 bytes from 192.168.1.201: icmp_seq=1 ttl=64 time=12.3 ms\n", "", Echo(EchoKind.REPLY, TARGET, 0.0123)),
        (1, HEAD + TAIL, "", Echo()),
        (1, HEAD + "From 172.18.0.200 icmp_seq=1 Time to live exceeded\n" + TAIL, "",
         Echo(EchoKind.TIME_EXCEEDED, GATEWAY)),
        (1, HEAD + "From 172.18.0.10 icmp_seq=1 Destination Host Unreachable\n" + TAIL, "",
         Echo(EchoKind.UNREACHABLE, None, code=1, detail="host unreachable")),
        (1, HEAD + "From 172.18.0.200 icmp_seq=1 Packet filtered\n" + TAIL, "",
         Echo(EchoKind.UNREACHABLE, GATEWAY, code=13, detail="prohibited by a packet filter")),
        (1, HEAD + "From 172.18.0.200 icmp_seq=1 Dest Unreachable, Bad Code: 99\n" + TAIL, "",
         Echo(EchoKind.UNREACHABLE, GATEWAY, code=-1, detail="dest unreachable, bad code: 99")),
        (1, HEAD + TAIL, "/usr/bin/ping: local error: message too long, mtu=1300\n", Echo(EchoKind.TOO_BIG, mtu=1300)),
        (1, HEAD + TAIL, "ping: local error: message too long, mtu: 1300\n", Echo(EchoKind.TOO_BIG, mtu=1300)),
        (1, HEAD + TAIL, "ping: sendmsg: Operation not permitted\n",
         Echo(EchoKind.UNREACHABLE, code=errno.EPERM, detail="a packet filter here forbids it")),
        (2, "", "ping: connect: Network is unreachable\n",
         Echo(EchoKind.UNREACHABLE, code=errno.ENETUNREACH, detail="network is unreachable")),
    ],
)  # fmt: skip
def test_the_output_of_iputils_is_understood(status: int, output: str, complaint: str, expected: Echo) -> None:
    """Each line that ping prints for an outcome, with the codes of RFC 792 and the errno of a local refusal."""
    assert ping.parse(CommandResult(status, output, complaint), TARGET) == expected


def test_ipv6_errors_have_their_own_codes() -> None:
    """RFC 4443: what is code 13 of IPv4 is code 1 here; a link-local sender is named without its scope."""
    output = HEAD_IPV6 + "From fe80::1%zt0 icmp_seq=1 Destination unreachable: Administratively prohibited\n" + TAIL
    found = ping.parse(CommandResult(1, output, ""), ip_address("fdaa::201"))
    assert found == Echo(EchoKind.UNREACHABLE, ip_address("fe80::1"), code=1, detail="prohibited by a packet filter")


def test_a_user_who_may_not_send_icmp_is_told_what_to_type() -> None:
    """Neither a datagram nor a raw socket: the hint names the setting."""
    complaint = "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\n"
    with pytest.raises(NotPermitted) as refused:
        ping.parse(CommandResult(2, "", complaint), TARGET)
    assert "ping_group_range" in refused.value.hint


@pytest.mark.parametrize(
    ("status", "output"),
    [
        (0, "64 bytes from 192.168.1.201: seq=0 ttl=64 time=0.051 ms\n"),  # busybox
        (0, "64 bytes from 192.168.1.202: icmp_seq=1 ttl=64 time=0.051 ms\n"),  # another address
        (1, "PING 192.168.1.201: 56 data bytes\n"),
        (2, ""),
    ],
)
def test_the_output_of_another_ping_is_an_error(status: int, output: str) -> None:
    """What is not understood is never taken for silence; the error names the package that is needed."""
    with pytest.raises(RelayError) as refused:
        ping.parse(CommandResult(status, output, "ping: unrecognized option\n"), TARGET)
    assert "iputils-ping" in refused.value.hint


@given(st.integers(-15, 3), st.text(), st.text())
def test_any_output_is_an_echo_or_an_error(status: int, output: str, complaint: str) -> None:
    """No output makes the parser fail in another way than with a RelayError or an OSError for the interface."""
    with contextlib.suppress(RelayError, OSError):
        assert isinstance(ping.parse(CommandResult(status, output, complaint), TARGET), Echo)
