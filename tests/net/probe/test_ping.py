"""What an echo and a clock are told in a namespace with a real gateway."""

import errno
import json
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from relay.core.policy.model import Address
from relay.errors import NotPermitted
from relay.net.probe import ping
from relay.net.probe.ping import EchoKind
from tests.net.conftest import Namespace

ASK = """
import json, os, sys
from ipaddress import ip_address
from relay.errors import RelayError
from relay.net.probe import ping
who, questions = json.loads(sys.argv[1])
if who:
    os.setgroups([]), os.setgid(who), os.setuid(who)
answers = []
for what, address, options in questions:
    try:
        if what == "clock":
            answers.append([ping.clock(ip_address(address), **options), ""])
        else:
            found = ping.echo(ip_address(address), **options)
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


def test_loopback_answers_itself() -> None:
    """Without a namespace: an echo to this machine comes back, or this user is told that it may not."""
    address: Address = ip_address("127.0.0.1")
    try:
        assert ping.echo(address, interface="", timeout=5).kind is EchoKind.REPLY
    except NotPermitted as refused:
        assert "ping_group_range" in refused.hint
