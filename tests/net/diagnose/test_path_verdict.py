"""What a ping and a TCP connection together say about a host: every pair of answers has its line and its cure."""

import errno
from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy.model import Host, Zone
from relay.net.diagnose import path_verdict
from relay.net.probe.ping import Echo, EchoKind
from relay.net.probe.ssh_banner import BannerOutcome, SshBanner

GATEWAY, LAN_SIDE, TARGET = ip_address("172.18.0.200"), ip_address("192.168.1.200"), ip_address("192.168.1.201")
STRANGER = ip_address("198.51.100.1")
ZONE = Zone("office", (ip_network("192.168.1.0/24"),), "zt0", GATEWAY)
ON_LINK = Zone("office", (ip_network("192.168.1.0/24"),), "zt0")
HOST = Host("remote", "office", TARGET)
REPLY, SILENT = Echo(EchoKind.REPLY, TARGET, 0.0123), Echo()
GREETED = SshBanner(BannerOutcome.GREETED, 0.002, "SSH-2.0-OpenSSH_9.9")
SCRIPT = "relayctl net plan --machine gateway --zone office"


def unreachable(sender: object, code: int, detail: str) -> Echo:
    """An `unreachable` from this sender."""
    return Echo(EchoKind.UNREACHABLE, ip_address(str(sender)) if sender else None, code=code, detail=detail)


@pytest.mark.parametrize(
    ("echo", "outcome", "state", "what", "cure"),
    [
        (REPLY, BannerOutcome.GREETED, "ok", "answers a ping in 12 ms", ""),
        (REPLY, BannerOutcome.SILENT, "ok", "answers a ping", ""),
        (SILENT, BannerOutcome.GREETED, "ok", "by TCP, though no ping", ""),
        (SILENT, BannerOutcome.REFUSED, "ok", "by TCP, though no ping", ""),
        (SILENT, BannerOutcome.SILENT, "fault", "no masquerade", SCRIPT),
        (
            unreachable(LAN_SIDE, 1, "host unreachable"),
            BannerOutcome.UNREACHABLE,
            "fault",
            "finds no host",
            "is remote on?",
        ),
        (
            unreachable(GATEWAY, 0, "network unreachable"),
            BannerOutcome.UNREACHABLE,
            "fault",
            "has no way",
            "ip -br address",
        ),
        (unreachable(GATEWAY, 13, "prohibited"), BannerOutcome.UNREACHABLE, "fault", "a packet filter", SCRIPT),
        (unreachable(GATEWAY, 3, "port unreachable"), BannerOutcome.SILENT, "fault", "a packet filter", SCRIPT),
        (unreachable(TARGET, 10, "host prohibited"), BannerOutcome.UNREACHABLE, "ok", "host prohibited", ""),
        (unreachable(None, 1, "host unreachable"), BannerOutcome.UNREACHABLE, "fault", "nothing comes back", SCRIPT),
    ],
)
def test_the_way_back(echo: Echo, outcome: BannerOutcome, state: str, what: str, cure: str) -> None:
    """A host that is off, a LAN that is gone, a filter and a missing masquerade are distinguished by the sender."""
    leg = path_verdict.return_path(ZONE, HOST, echo, SshBanner(outcome))
    assert (leg.name, leg.state, leg.host) == ("return path", state, "remote")
    assert what in leg.what
    assert cure in leg.cure


def test_packets_that_leave_the_lan_are_seen_by_the_router_that_spends_them() -> None:
    """With its LAN link down the gateway sends packets by its default route: the second hop is outside of the zone."""
    leg = path_verdict.return_path(ZONE, HOST, SILENT, SshBanner(), Echo(EchoKind.TIME_EXCEEDED, STRANGER))
    assert (
        leg.what
        == "172.18.0.200 sends packets for 192.168.1.201 on to 198.51.100.1, out of the LAN: its LAN link is down"
    )
    inside = path_verdict.return_path(ZONE, HOST, SILENT, SshBanner(), Echo(EchoKind.TIME_EXCEEDED, LAN_SIDE))
    assert "no masquerade" in inside.what


def test_without_a_gateway_silence_is_the_hosts_own() -> None:
    """In a zone whose hosts are on-link a missing answer is the host's fault."""
    leg = path_verdict.return_path(ON_LINK, HOST, SILENT, SshBanner())
    assert (leg.state, leg.what) == ("fault", "no answer for 192.168.1.201 on zt0")


@pytest.mark.parametrize(
    ("echo", "greeting", "state", "what", "cure"),
    [
        (REPLY, GREETED, "ok", "192.168.1.201:22 greets with SSH-2.0-OpenSSH_9.9 after 2.0 ms", ""),
        (REPLY, SshBanner(BannerOutcome.REFUSED), "fault", "no SSH server listens", "systemctl enable --now ssh"),
        (
            unreachable(TARGET, 10, "host prohibited"),
            SshBanner(BannerOutcome.REFUSED),
            "fault",
            "a packet filter",
            "port 22",
        ),
        (REPLY, SshBanner(BannerOutcome.SILENT), "fault", "a packet filter drops it", "ufw allow 22/tcp"),
        (REPLY, SshBanner(BannerOutcome.UNREACHABLE, text="no route to host"), "fault", "rejects", "ufw allow 22/tcp"),
        (REPLY, SshBanner(BannerOutcome.MUTE), "fault", "does not greet", "ss -tlnp"),
        (REPLY, SshBanner(BannerOutcome.OTHER, text="HTTP/1.1 400"), "fault", "it says 'HTTP/1.1 400'", "right port"),
        (REPLY, SshBanner(BannerOutcome.OTHER), "fault", "closes at once", "journalctl -u ssh"),
        (REPLY, SshBanner(BannerOutcome.OTHER, text="Not allowed at this time"), "fault", "shuts", "PerSourcePenalty"),
    ],
)
def test_the_target(echo: Echo, greeting: SshBanner, state: str, what: str, cure: str) -> None:
    """Once its answers come back, what is wrong is the host's: no sshd, a filter, something else on the port."""
    leg = path_verdict.target(HOST, echo, greeting)
    assert (leg.name, leg.state) == ("target", state)
    assert what in leg.what
    assert cure in leg.cure


@pytest.mark.parametrize(
    ("echo", "neighbour", "works", "state", "what"),
    [
        (Echo(EchoKind.REPLY, GATEWAY, 0.0004), "reachable", False, "ok", "172.18.0.200 answers a ping in 0.4 ms"),
        (SILENT, "reachable", True, "ok", "answers no ping, but lets packets through"),
        (SILENT, "reachable", False, "fault", "172.18.0.200 answers no ping on zt0"),
        (SILENT, "failed", False, "fault", "172.18.0.200 answers no ping (and no ARP) on zt0"),
        (unreachable(STRANGER, 1, "host unreachable"), "", False, "fault", "(host unreachable from 198.51.100.1)"),
        (unreachable(None, errno.EPERM, "..."), "", False, "fault", "a packet filter of this machine"),
    ],
)
def test_the_gateway(echo: Echo, neighbour: str, works: bool, state: str, what: str) -> None:
    """A gateway that answers no ping is well if anything came through it: an ARP entry may be 30 s old."""
    leg = path_verdict.gateway(ZONE, "zt0", echo, neighbour, works=works)
    assert leg.state == state
    assert what in leg.what


@pytest.mark.parametrize(
    ("echo", "reached", "state", "what"),
    [
        (Echo(EchoKind.TIME_EXCEEDED, GATEWAY), False, "ok", "forwards"),
        (Echo(EchoKind.TIME_EXCEEDED, LAN_SIDE), False, "ok", "172.18.0.200 forwards"),
        (Echo(EchoKind.TIME_EXCEEDED, STRANGER), False, "warning", "198.51.100.1 forwards packets"),
        (Echo(EchoKind.REPLY, TARGET), False, "ok", "an address of the gateway"),
        (SILENT, True, "ok", "though it says nothing"),
        (SILENT, False, "fault", "ip_forward is off"),
        (unreachable(GATEWAY, 13, "prohibited"), False, "fault", "a packet filter"),
        (unreachable(GATEWAY, 0, "network unreachable"), False, "fault", "has no way"),
    ],
)
def test_forwarding(echo: Echo, reached: bool, state: str, what: str) -> None:
    """A packet whose time ends at the gateway comes back as such only if it forwards."""
    leg = path_verdict.forwarding(ZONE, TARGET, echo, reached=reached)
    assert leg.state == state
    assert what in leg.what


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.00004, "0.0 ms"), (0.0099, "9.9 ms"), (0.0123, "12 ms"), (2.1, "2100 ms")]
)
def test_durations_are_shown_as_people_say_them(seconds: float, shown: str) -> None:
    """A digit behind the point only where it says something."""
    assert path_verdict.milliseconds(seconds) == shown
