"""Steps to join an overlay, with stand-ins for ZeroTier's programs."""

import json

import pytest

from relay.errors import RelayError
from relay.net.plan.gateway import gateway_machine
from relay.net.plan.machine import Machine
from relay.net.plan.relay_host import relay_machine
from relay.net.plan.render import render
from tests.net.plan.conftest import SHELLS, Box
from tests.net.plan.shares import LAPTOP, overlay, plan

ID = "8056c2e21c000001"
# answers as ZeroTier 1.14 does; joins on paper: the state is a file
CLI = """#!/bin/sh
echo "$*" >>/run/zerotier.log
case $1 in
    info) [ ! -f /run/zerotier.off ] || { echo "Error connecting to the ZeroTier service" >&2; exit 1; }
        echo "200 info efcc1b0947 1.14.1 ONLINE" ;;
    listnetworks) echo "200 listnetworks <nwid> <name> <mac> <status> <type> <dev> <ZT assigned ips>"
        [ ! -f /run/zerotier.networks ] || cat /run/zerotier.networks ;;
    join) echo "200 listnetworks $2  3e:90 REQUESTING_CONFIGURATION PRIVATE ztabc -" >>/run/zerotier.networks
        echo "200 join OK" ;;
    *) exit 2 ;;
esac
"""
# as zerotier-idtool prints them
IDTOOL = """#!/bin/sh
case $1 in
    initmoon) cat <<'END'
{
 "id": "efcc1b0947",
 "objtype": "world",
 "roots": [
  {
   "identity": "efcc1b0947:0:aa",
   "stableEndpoints": []
  }
 ],
 "signingKey": "aa",
 "signingKey_SECRET": "bb",
 "updatesMustBeSignedBy": "aa",
 "worldType": "moon"
}
END
        ;;
    genmoon) grep stableEndpoints "$2" >000000efcc1b0947.moon; echo "wrote 000000efcc1b0947.moon" ;;
    *) exit 2 ;;
esac
"""


def zerotier(box: Box) -> None:
    """ZeroTier's programs, and its home."""
    box.program("zerotier-cli", CLI)
    box.program("zerotier-idtool", IDTOOL)
    box.machine.write("/var/lib/zerotier-one/identity.public", "efcc1b0947:0:aa")


def share(name: str) -> Machine:
    """The relay's or the gateway's share, with a network id."""
    one = overlay(network_id=ID, members=(LAPTOP,))
    return relay_machine(plan(one)) if name == "relay" else gateway_machine(one, plan=plan(one))


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("name", "address"), [("relay", "172.18.0.10"), ("gateway", "172.18.0.200")])
def test_joins_once(box: Box, name: str, address: str, shell: tuple[str, ...]) -> None:
    """A machine joins once, and the script says what the controller has to do until it has done it."""
    zerotier(box)
    said = box.script(render(share(name)), *shell)
    assert f"controller of the network {ID} with the address {address}" in said
    box.script(render(share(name)), *shell)
    assert box.machine.sh("grep -c join /run/zerotier.log").strip() == "1"
    box.machine.sh(
        f"echo '200 listnetworks {ID} n 3e:90 OK PRIVATE ztabc 10.0.0.1/24,{address}/24' >/run/zerotier.networks"
    )
    assert "authorise" not in box.script(render(share(name)), *shell).replace("authorised", "")
    box.machine.sh(f"echo '200 listnetworks {ID} n 3e:90 OK PRIVATE ztabc 1{address}/24' >/run/zerotier.networks")
    assert "it is not so yet" in box.script(render(share(name)), *shell)


@pytest.mark.system
def test_without_zerotier(box: Box) -> None:
    """A missing program is named with its package, a silent service with what starts it; nothing is written."""
    said = box.script(render(share("relay")), status=1)
    assert "no zerotier-cli here: install the package zerotier-one" in said
    zerotier(box)
    box.machine.sh(": >/run/zerotier.off")
    assert "systemctl enable --now zerotier-one" in box.script(render(share("relay")), status=1)
    assert not box.machine.path("/etc/relay-net").exists()


def test_controller() -> None:
    """What the web panel needs is said once, on the relay: addresses, members, and the managed route."""
    text = render(share("relay"))
    for line in (
        "- managed routes: 192.168.1.0/24 via 172.18.0.200",
        "- member the relay: authorised, managed address 172.18.0.10",
        "- member the gateway of office: authorised, managed address 172.18.0.200",
        "- member alice-laptop: authorised, managed address 172.18.0.11",
    ):
        assert line in text
    assert "web panel" not in render(share("gateway"))
    own = render(relay_machine(plan(overlay(network_id=ID, managed=False))))
    assert "managed routes: none for 192.168.1.0/24" in own


def test_another_overlay() -> None:
    """An overlay without a network id (WireGuard) is joined by hand, and no program of ZeroTier is asked for."""
    text = render(relay_machine(plan(overlay(interface="wg0"))))
    assert "zerotier-cli" not in text
    assert "join the overlay of the zone office as the relay with the address 172.18.0.10" in text


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_moon(box: Box, shell: tuple[str, ...]) -> None:
    """The relay host makes the Moon's files once, again for another address, and prints where each belongs."""
    zerotier(box)
    one = overlay(network_id=ID)
    said, _ = box.twice(render(relay_machine(plan(one, moon=True))), *shell)
    assert (
        "put a copy of /var/lib/zerotier-one/moons.d/000000efcc1b0947.moon into /var/lib/zerotier-one/moons.d/" in said
    )
    world = json.loads(box.machine.path("/var/lib/zerotier-one/relay.moon.json").read_text())
    assert world["roots"][0]["stableEndpoints"] == ["1.1.1.1/9993"]
    assert box.machine.run("stat", "-c", "%a", "/var/lib/zerotier-one/relay.moon.json").strip() == "600"
    moved = plan(one, moon=True, public=plan().overlays[0].relay)
    box.script(render(relay_machine(moved)), *shell)
    assert "172.18.0.10/9993" in box.machine.path("/var/lib/zerotier-one/moons.d/000000efcc1b0947.moon").read_text()


@pytest.mark.system
def test_moon_on_others(box: Box) -> None:
    """Every other member's script asks for the Moon's file until it is there."""
    zerotier(box)
    one = overlay(network_id=ID)
    script = render(gateway_machine(one, plan=plan(one, moon=True)))
    assert "copy the relay's /var/lib/zerotier-one/moons.d/000000*.moon" in box.script(script)
    box.machine.write("/var/lib/zerotier-one/moons.d/000000efcc1b0947.moon", "")
    assert "copy the relay's" not in box.script(script)


def test_moon_needs_an_address() -> None:
    """A Moon without the relay's public address is refused with where to write it."""
    with pytest.raises(RelayError, match="public address") as error:
        relay_machine(plan(moon=True, public=None))
    assert "network.yaml" in error.value.hint
