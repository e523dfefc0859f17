"""The network plan in namespaces: who is there, by which cable, with which address; what breaks, and who saw packets.

    client --- provider --- relay ===zt0=== office gateway --- remote 192.168.1.201, recorder 192.168.1.50
                  |           |
           (has the LAN's     ====zt1=== plant gateway --- plant-remote, also 192.168.1.201
             addresses too)

veth ends named zt0 and zt1 stand in for ZeroTier; bridges in the machine `air` join them. The provider is the way to
everywhere else: what leaves by a default route arrives there, is counted, and is answered by a decoy.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.world import Machine, Running, World, wait_for

LAN = "192.168.1.0/24"  # of the office, and of the plant
TARGET, RECORDER, LAN_GATEWAY = "192.168.1.201", "192.168.1.50", "192.168.1.200"
PUBLIC = "1.1.1.1"
MTU = 2800  # ZeroTier's
NAMES = ("client", "provider", "relay", "gateway", "remote", "recorder", "member", "air")
PLANT = ("plant-gateway", "plant-remote")


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay network that the relay is a member of."""

    name: str
    interface: str  # of the relay
    relay: str
    gateway: str
    prefix: int = 24


OFFICE = Overlay("office", "zt0", "172.18.0.10", "172.18.0.200")
PLANT_OVERLAY = Overlay("plant", "zt1", "10.147.20.10", "10.147.20.200")
OVERLAYS = {"office": OFFICE, "plant": PLANT_OVERLAY}

# what each machine does for the others, as a person would have set it up by hand
_GATEWAY = """
table inet lab {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "zt0" oifname "eth0" accept
  }
  chain out {
    type nat hook postrouting priority srcnat;
    iifname "zt0" oifname "eth0" masquerade
  }
}
"""
# the provider's cables, each with a counter of what comes out of it for an address of the LAN
_SIDES = ("relay", "nic", "gateway", "plant")
_COUNTERS = "\n".join(f"  counter {side} {{}}" for side in _SIDES)
_COUNTED = "\n".join(f'    iifname "to-{side}" ip daddr {LAN} counter name {side}' for side in _SIDES)
_PROVIDER = f"""
table inet decoy {{
{_COUNTERS}
  chain seen {{
    type filter hook prerouting priority raw;
{_COUNTED}
  }}
  chain input {{
    type filter hook input priority filter;
    iifname "to-client" reject with tcp reset
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifname "to-client" ip daddr != {PUBLIC} reject with tcp reset
    ip daddr {PUBLIC} accept
    ip saddr {PUBLIC} accept
  }}
}}
table arp decoy {{
  counter asked {{}}
  chain seen {{
    type filter hook input priority filter;
    arp operation request arp daddr ip {LAN} counter name asked
  }}
}}
"""
_MEMBER = f"""
table inet decoy {{
  counter member {{}}
  chain seen {{
    type filter hook prerouting priority raw;
    ip daddr {LAN} counter name member
  }}
}}
"""


class Network:
    """All machines, cabled and addressed. `by_hand` sets up routes and gateways; without it nothing leads anywhere."""

    def __init__(self, *, rootless: bool | None = None, by_hand: bool = True, plant: bool = True) -> None:
        self.world = World(rootless=rootless)
        self._undo: list[Callable[[], None]] = []
        try:
            self._build(by_hand, plant)
        except BaseException:
            self.close()
            raise

    def _build(self, by_hand: bool, plant: bool) -> None:
        made = self.world.built(*NAMES, *(PLANT if plant else ()))
        self.client, self.provider, self.relay, self.gateway, self.remote, self.recorder, self.member, self.air = made[
            :8
        ]
        self.plant_gateway: Machine | None = None
        self.plant_remote: Machine | None = None
        if plant:
            self.plant_gateway, self.plant_remote = made[8:]
        self.overlays = (OFFICE, PLANT_OVERLAY) if plant else (OFFICE,)
        self._underlay()
        self._office()
        if self.plant_gateway is not None and self.plant_remote is not None:
            self._lan("plant", self.plant_gateway, {TARGET: self.plant_remote})
        for overlay in self.overlays:
            self.plug(overlay)
        if by_hand:
            self.by_hand()

    def _underlay(self) -> None:
        """The internet: each machine's route to the provider, which is also the decoy."""
        for machine, side, here, there in (
            (self.relay, "relay", f"{PUBLIC}/24", "1.1.1.254"),
            (self.client, "client", "203.0.113.20/24", "203.0.113.1"),
            (self.gateway, "gateway", "198.51.100.20/24", "198.51.100.1"),
            (self.plant_gateway, "plant", "192.0.2.20/24", "192.0.2.1"),
        ):
            if machine is None:
                continue
            name = "eth0" if machine in (self.relay, self.client) else "eth1"  # a gateway's eth0 is its LAN
            machine.cable(name, self.provider, f"to-{side}")
            machine.ip(f"address add {here} dev {name}", f"route add default via {there}")
            self.provider.ip(f"address add {there}/{here.split('/')[1]} dev to-{side}")
        self.provider.ip(*(f"address add {address}/32 dev lo" for address in (TARGET, RECORDER)))
        self.provider.ip("route add default via 203.0.113.254")  # somewhere: nothing is let through but to the relay
        self.provider.nft(_PROVIDER)
        self.provider.sysctl(ipv4__ip_forward=1, ipv4__conf__all__rp_filter=0)
        for machine in self.world.machines.values():
            if machine is not self.provider:
                machine.sysctl(ipv4__ip_forward=0, ipv4__conf__all__rp_filter=2)  # 2: Debian's
        self._decoy(self.provider, "provider")

    def _office(self) -> None:
        self._lan("office", self.gateway, {TARGET: self.remote, RECORDER: self.recorder})
        self.member.cable("zt0", self.air, "office-member", MTU)
        self.member.ip("address add 172.18.0.66/24 dev zt0")
        self.air.ip("link set office-member master office")
        self.member.nft(_MEMBER)
        self._decoy(self.member, "member")

    def _lan(self, site: str, gateway: Machine, hosts: dict[str, Machine]) -> None:
        """One site: its overlay's switch, its LAN's switch, its gateway and its hosts."""
        overlay = OVERLAYS[site]
        self.air.ip(
            *(f"link add {bridge} type bridge" for bridge in (site, f"{site}-lan")),
            *(f"link set {bridge} up" for bridge in (site, f"{site}-lan")),
        )
        gateway.cable("zt0", self.air, f"{site}-gateway", MTU)
        gateway.ip(f"address add {overlay.gateway}/{overlay.prefix} dev zt0")
        self.air.ip(f"link set {site}-gateway master {site}")
        for number, (address, machine) in enumerate({LAN_GATEWAY: gateway, **hosts}.items()):
            machine.cable("eth0", self.air, f"{site}-lan{number}")
            machine.ip(f"address add {address}/24 dev eth0")
            self.air.ip(f"link set {site}-lan{number} master {site}-lan")

    def _decoy(self, machine: Machine, name: str) -> Running:
        script = str(Path(__file__).parent / "decoy.py")
        decoy = machine.start(sys.executable, "-I", "-S", script, name, "22", "80", log="/run/decoy.log")
        wait_for(lambda: "listening" in decoy.log() or not decoy.alive, f"the decoy {name} does not listen")
        assert decoy.alive, decoy.log()
        return decoy

    def by_hand(self) -> None:
        """What a person would type: the relay's routes, and forwarding and masquerade on the gateways."""
        for overlay in self.overlays:
            self.relay.ip(self._route(overlay))
        for gateway in (self.gateway, self.plant_gateway):
            if gateway is not None:
                gateway.sysctl(ipv4__ip_forward=1)
                gateway.nft(_GATEWAY)

    def _route(self, overlay: Overlay) -> str:
        # 5000 is what ZeroTier gives its managed routes; the second of two equal prefixes needs another one
        metric = 5000 + self.overlays.index(overlay)
        return f"route replace {LAN} via {overlay.gateway} dev {overlay.interface} metric {metric}"

    # ---- the relay's overlay interface, and what can be wrong with it: each is undone by `heal`

    def plug(self, overlay: Overlay = OFFICE, *, address: bool = True) -> None:
        """Make the relay's interface in an overlay: up, with its address, without the route into the LAN."""
        name = f"{overlay.name}-relay"
        # ZeroTier's interface has the same MAC again after a restart: it follows from node and network
        mac = f"8a:11:22:33:44:{self.overlays.index(overlay):02x}"
        self.relay.cable(overlay.interface, self.air, name, MTU, mac)
        self.air.ip(f"link set {name} master {overlay.name}")
        if address:
            self.relay.ip(f"address add {overlay.relay}/{overlay.prefix} dev {overlay.interface}")

    def remove(self, overlay: Overlay = OFFICE) -> None:
        """ZeroTier is stopped: interface, address and routes vanish."""
        self._break(lambda: self._well(overlay), self.relay, f"link delete {overlay.interface}")

    def set_down(self, overlay: Overlay = OFFICE) -> None:
        """The interface is set down by an administrator: its routes vanish, its address stays."""
        self._break(
            lambda: self.relay.ip(f"link set {overlay.interface} up", self._route(overlay)),
            self.relay,
            f"link set {overlay.interface} down",
        )

    def remake(self, overlay: Overlay = OFFICE) -> None:
        """ZeroTier was restarted 5 seconds ago: a new interface, up, with its address, and no route yet."""
        self._undo.append(lambda: self.relay.ip(self._route(overlay)))
        self.restart(overlay)

    def restart(self, overlay: Overlay = OFFICE) -> None:
        """The same without restoring the route: the program that sets it does that."""
        self.relay.ip(f"link delete {overlay.interface}")
        self.plug(overlay)

    def unroute(self, overlay: Overlay = OFFICE) -> None:
        """Only the route vanishes."""
        self._break(
            lambda: self.relay.ip(self._route(overlay)), self.relay, f"route delete {LAN} dev {overlay.interface}"
        )

    def disallow(self, overlay: Overlay = OFFICE) -> None:
        """allowManaged=0: the interface stays up, its address and routes vanish."""
        address = f"address add {overlay.relay}/{overlay.prefix} dev {overlay.interface}"
        self._undo.append(lambda: self.relay.ip(address, self._route(overlay)))
        self.relay.ip(f"route delete {LAN} dev {overlay.interface}", f"address flush dev {overlay.interface}")

    def reroute(self, overlay: Overlay = OFFICE, gateway: str = "172.18.0.66") -> None:
        """The route leads to another member than the zone's gateway."""
        changed = self._route(overlay).replace(overlay.gateway, gateway)
        self._break(lambda: self.relay.ip(self._route(overlay)), self.relay, changed)

    def deauthorise(self, overlay: Overlay = OFFICE) -> None:
        """The controller throws the relay out: everything stays as it is on the relay, nothing arrives any more."""
        port = f"{overlay.name}-relay"
        self._break(
            lambda: self.air.ip(f"link set {port} master {overlay.name}"), self.air, f"link set {port} nomaster"
        )

    def own_nic(self) -> None:
        """The relay gets an interface of its own in the LAN's prefix, with the decoy at its other end."""
        self._undo.append(lambda: self.relay.ip("link delete eth1"))
        self.relay.cable("eth1", self.provider, "to-nic")
        self.relay.ip("address add 192.168.1.7/24 dev eth1")
        self.provider.ip("route add 192.168.1.7/32 dev to-nic")  # so that the decoy can answer

    def claim(self, address: str = TARGET) -> None:
        """Another member of the overlay answers for the target's address on-link."""
        there = f"address {{}} {address}/32 dev lo"
        self._break(lambda: self.member.ip(there.format("delete")), self.member, there.format("add"))

    def redirect(self, overlay: Overlay = OFFICE) -> None:
        """Another member forges an ICMP redirect of the gateway's: the target is reached by that member now."""
        self._undo.append(lambda: self.relay.ip("route flush cache"))
        script = str(Path(__file__).with_name("redirect.py"))

        def taken() -> bool:
            # the kernel believes it only of a neighbour that it knows already: the first one may make it ask for that
            self.member.run(sys.executable, "-I", script, overlay.gateway, overlay.relay, TARGET, "172.18.0.66")
            return "via 172.18.0.66" in self.relay.run("ip", "route", "get", TARGET, "oif", overlay.interface)

        wait_for(taken, "the kernel believes no redirect")

    # ---- behind the relay

    def gateway_dead(self) -> None:
        """The gateway's overlay is gone: it answers nothing."""
        self._break(
            lambda: self.air.ip("link set office-gateway master office"), self.air, "link set office-gateway nomaster"
        )

    def gateway_without_lan(self) -> None:
        """The gateway's LAN cable is out; its own default route leads to the provider."""
        self._break(lambda: self.gateway.ip("link set eth0 up"), self.gateway, "link set eth0 down")

    def target_down(self) -> None:
        """The LAN host is off."""
        self._break(lambda: self.remote.ip("link set eth0 up"), self.remote, "link set eth0 down")
        self.gateway.ip("neighbour flush dev eth0")

    def no_forwarding(self) -> None:
        """The gateway does not forward."""
        self._undo.append(lambda: self.gateway.sysctl(ipv4__ip_forward=1))
        self.gateway.sysctl(ipv4__ip_forward=0)

    def _break(self, undo: Callable[[], None], machine: Machine, line: str) -> None:
        self._undo.append(undo)
        machine.ip(line)

    def _well(self, overlay: Overlay) -> None:
        self.plug(overlay)
        self.relay.ip(self._route(overlay))

    def heal(self) -> None:
        """Undo every fault, the last one first."""
        while self._undo:
            self._undo.pop()()

    # ---- who saw what

    def seen(self) -> dict[str, int]:
        """Packets for the LAN's addresses that reached where they must not, by the decoy's side; only those that did.

        relay, nic, gateway, plant: at the provider, by the cable they came on; asked: ARP at the provider;
        member: at the other member of the overlay.
        """
        found = {}
        for machine in (self.provider, self.member):
            for entry in json.loads(machine.run("nft", "-j", "list", "counters"))["nftables"]:
                if entry.get("counter", {}).get("packets"):
                    found[entry["counter"]["name"]] = entry["counter"]["packets"]
        return found

    def forget(self) -> None:
        """Count from zero again."""
        for machine in (self.provider, self.member):
            machine.run("nft", "reset", "counters")

    def close(self) -> None:
        """Remove everything."""
        self.world.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
