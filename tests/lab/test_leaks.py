"""Whatever breaks, no packet for the office leaves by another way: counted where it would arrive.

The table is that of the network plan. `seen` is empty as long as nothing for the LAN's addresses has reached the
provider (the relay's and the gateway's default route, and the far end of an own NIC) or another overlay member.
"""

from collections.abc import Callable

import pytest

from tests.lab.lab import Lab

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("lab-leaks")]  # they share a lab

DOWN = "the network behind this relay is down"
NO_ANSWER = "does not answer"
# what `relayctl net apply` sets beside its other guards: on an interface of the overlay only the gateway is asked
NEXT_HOP = """
table inet lab_guard {
  chain output {
    type filter hook output priority filter;
    oifname "zt0" ip daddr 192.168.1.0/24 rt ip nexthop != 172.18.0.200 reject
  }
}
"""


def removed(lab: Lab) -> None:
    """ZeroTier is stopped."""
    lab.remove()


def set_down(lab: Lab) -> None:
    """zt0 is set down."""
    lab.set_down()


def remade(lab: Lab) -> None:
    """ZeroTier was restarted, and the managed route is not there yet."""
    lab.remake()


def unrouted(lab: Lab) -> None:
    """The route vanishes alone."""
    lab.unroute()


def disallowed(lab: Lab) -> None:
    """Managed addresses and routes are disallowed."""
    lab.disallow()


def rerouted(lab: Lab) -> None:
    """The route leads to another member."""
    lab.reroute()


def redirected(lab: Lab) -> None:
    """Another member forges a redirect."""
    lab.redirect()


BROKEN: list[tuple[Callable[[Lab], None], str]] = [
    (removed, "interface-missing"),
    (set_down, "interface-down"),
    (remade, "route-missing"),
    (unrouted, "route-missing"),
    (disallowed, "route-missing"),
    (rerouted, "other-gateway"),
    (redirected, "redirected"),
]
# while an interface is made anew, the relay may look at any moment: what it finds then is right as well
ON_THE_WAY = {"route-missing": {"interface-missing", "interface-down", "interface-remade", "route-missing"}}
named = pytest.mark.parametrize(("fault", "obstacle"), BROKEN, ids=[fault.__name__ for fault, _ in BROKEN])
claims = pytest.mark.parametrize("claimed", [False, True], ids=["", "claimed"])


@claims
@named
def test_a_new_forward_is_refused(lab: Lab, fault: Callable[[Lab], None], obstacle: str, claimed: bool) -> None:
    """A zone that is not as it should be is not dialled into: refused within 50 ms, and works again without a restart.

    Also while another member claims the target's address.
    """
    with lab.session("remote:7") as alice:
        if claimed:
            lab.claim()
        fault(lab)
        took = [alice.open("remote:7").refused() for _ in range(3)]
        assert min(took) < 0.05, took  # a busy machine may be late once
        forward = alice.told(DOWN)
        assert lab.seen() == {}
        lab.heal()
        with alice.open("remote:7") as wire:
            assert wire.echoes()
    row = lab.row("forward.closed", forward=forward)
    assert (row["reason"], row["obstacle"], row["zone"]) == ("overlay-down", obstacle, "office")


@named
def test_an_open_forward_is_cut(lab: Lab, fault: Callable[[Lab], None], obstacle: str) -> None:
    """A forward that is open when its zone breaks ends within a second, and what it still sends goes nowhere."""
    with lab.session("remote:7") as alice:
        with alice.open("remote:7") as wire:
            assert wire.echoes()
            assert wire.cut(lambda: fault(lab)) < 1.0
        assert lab.seen().get("relay", 0) == 0
        lab.heal()
        with alice.open("remote:7") as wire:
            assert wire.echoes()
    row = lab.row("forward.closed", reason="overlay-down")
    assert row["obstacle"] in ON_THE_WAY.get(obstacle, {obstacle})


@named
def test_another_member_gets_nothing_of_an_open_forward(lab: Lab, fault: Callable[[Lab], None], obstacle: str) -> None:
    """With the rule for the next hop also a member that claims the target's address on-link sees nothing of a forward.

    The relay's process alone cannot prevent that: what is under way when the route vanishes goes out before anybody
    knows, and a bound socket then asks for its target on-link.
    """
    lab.relay.nft(NEXT_HOP)
    try:
        with lab.session("remote:7") as alice, alice.open("remote:7") as wire:
            assert wire.echoes()
            lab.claim()
            assert wire.cut(lambda: fault(lab)) < 1.0
            row = lab.row("forward.closed", reason="overlay-down")
            assert row["obstacle"] in ON_THE_WAY.get(obstacle, {obstacle})
            assert lab.seen() == {}
    finally:
        lab.relay.run("nft", "delete", "table", "inet", "lab_guard")


def test_without_that_rule_it_would(lab: Lab) -> None:
    """The same without the rule: the other member sees the open forward's next packets, so it is really asked."""
    with lab.session("remote:7") as alice, alice.open("remote:7") as wire:
        assert wire.echoes()
        lab.claim()
        wire.cut(lab.unroute)
        assert lab.seen().pop("member") > 0


def test_an_own_nic_in_the_prefix(lab: Lab) -> None:
    """An interface of the relay's own in 192.168.1.0/24 takes no forward, open or new: both reach the right host."""
    with lab.session("remote:7", "remote:22") as alice, alice.open("remote:7") as wire:
        assert wire.echoes()
        lab.own_nic()
        assert "decoy_provider" in lab.relay.run("bash", "-c", "exec 3<>/dev/tcp/192.168.1.201/22; head -n 1 <&3")
        assert lab.seen().keys() == {"nic", "asked"}  # so a socket that is not bound goes there
        lab.forget()
        for _ in range(10):
            assert wire.echoes()
        with alice.open("remote:22") as new:
            assert new.read().startswith(b"SSH-2.0-OpenSSH")
        assert lab.seen() == {}
        lab.remove()
        assert alice.open("remote:22").refused() < 1
        assert lab.seen() == {}


def test_a_claimed_address_is_not_asked_while_all_is_well(lab: Lab) -> None:
    """Another member that claims the target's address gets nothing as long as the route stands."""
    lab.claim()
    with lab.session("remote:7") as alice, alice.open("remote:7") as wire:
        assert wire.echoes()
    assert lab.seen() == {}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Lab.deauthorise, "gateway-silent"),
        (Lab.gateway_dead, "gateway-silent"),
        (Lab.no_forwarding, "target-silent"),
        (Lab.gateway_without_lan, "target-silent"),
        (Lab.target_down, "target-unreachable"),
    ],
    ids=["deauthorised", "gateway dead", "no forwarding", "gateway without LAN", "target down"],
)
def test_silence_behind_a_zone_that_is_well(lab: Lab, fault: Callable[[Lab], None], reason: str) -> None:
    """Where interface and route stand and nobody answers, the forward fails, says which one is silent, leaks nothing.

    A forward that is open goes on waiting: its TCP gives up by itself.
    """
    lab.relay.ip("neighbour flush dev zt0")
    with lab.session("remote:7") as alice, alice.open("remote:7") as wire:
        assert wire.echoes()
        fault(lab)
        lab.relay.ip("neighbour flush dev zt0")
        wire.send(b"into the dark")
        alice.open("remote:7").refused()
        row = lab.row("forward.closed", forward=alice.told(NO_ANSWER))
        assert row["reason"] == reason, row
        assert lab.seen() == {}
        lab.heal()
        with alice.open("remote:7") as new:
            assert new.echoes()


def test_a_gateway_that_forwards_anything_leaks(lab: Lab) -> None:
    """Why the gateway's share of the plan drops what does not go into its LAN: else its own default route takes it."""
    lab.gateway.nft("add chain inet lab forward { policy accept; }")
    try:
        lab.gateway_without_lan()
        with lab.session("remote:22") as alice:
            alice.open("remote:22").refused()
        assert lab.seen()["gateway"] > 0
    finally:
        lab.gateway.nft("add chain inet lab forward { policy drop; }")


def test_a_refusing_target(lab: Lab) -> None:
    """A host that refuses the port is distinguished from one that is silent."""
    with lab.session("remote:23") as alice:
        alice.open("remote:23").refused()
        row = lab.row("forward.closed", forward=alice.told("nothing listens on that port"))
    assert row["reason"] == "target-refused"
