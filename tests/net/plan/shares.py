"""The plan of network-plan.md and others like it, in a line each."""

from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

from relay.core.network_plan import NetworkPlan, Overlay, OverlayMember
from relay.core.policy.model import Host, Zone
from relay.net.plan.client import jump_client, routing_client
from relay.net.plan.gateway import gateway_machine
from relay.net.plan.lan_host import lan_machine
from relay.net.plan.machine import Machine
from relay.net.plan.relay_host import relay_machine
from relay.net.plan.render import render

ID = "8056c2e21c000001"  # of a ZeroTier network
LAPTOP = OverlayMember("alice-laptop", ip_address("172.18.0.11"))
REMOTE = Host("remote", "office", ip_address("192.168.1.201"), "root")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEkVYBz0M8fD0SeQqL1Bxg8pM3m8ExbDk6cX2oWQn5Sx"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2L5Bq0m8fD0SeQqL1Bxg8pM3m8ExbDk6cX2oWQn5Sx"


def overlay(
    name: str = "office",
    *networks: str,
    interface: str = "zt0",
    gateway: str = "172.18.0.200",
    network: str = "172.18.0.0/24",
    relay: str = "172.18.0.10",
    **more: Any,
) -> Overlay:
    """One zone and its overlay; "" is not known."""
    behind = tuple(ip_network(text) for text in networks or ("192.168.1.0/24",))
    return Overlay(
        Zone(name, behind, interface, ip_address(gateway) if gateway else None),
        network=ip_network(network) if network else None,
        relay=ip_address(relay) if relay else None,
        **{"lan_interface": "eth0", "lan_address": ip_address("192.168.1.200"), **more},
    )


def plant(**more: Any) -> Overlay:
    """The second site, with the same prefix."""
    values = {"interface": "zt1", "gateway": "172.19.0.200", "network": "172.19.0.0/24", "relay": "172.19.0.10"}
    return overlay("plant", **{**values, **more})


def six(**more: Any) -> Overlay:
    """A site with IPv6 alone."""
    values = {"gateway": "fd18::200", "network": "fd18::/64", "relay": "fd18::10", "lan_address": None}
    return overlay("six", "fdaa::/64", **{**values, **more})


def plan(*overlays: Overlay, **more: Any) -> NetworkPlan:
    """A plan of these overlays, else of the office alone."""
    return NetworkPlan(overlays or (overlay(),), **{"public": ip_address("1.1.1.1"), **more})


def shares() -> list[Machine]:
    """A share of every kind, with and without ZeroTier, in both forms and methods."""
    office = overlay(network_id=ID, interface="zt*", members=(LAPTOP,), managed=False)
    whole = plan(office, plant(managed=False), six(interface="wg0"), moon=True)
    out = [relay_machine(whole, method=method) for method in (1, 2)]
    for method, firewall, one in product((1, 2), ("nft", "iptables"), (office, six())):
        out.append(gateway_machine(one, method=method, firewall=firewall, plan=whole))
    out += [lan_machine(whole, REMOTE, {"alice": (KEY,)}), lan_machine(whole, REMOTE, {})]
    return [*out, jump_client("alice", "Host relay\n", ["a b c"]), routing_client(whole, office, LAPTOP)]


def scripts() -> list[str]:
    """Every script: what is printed, and the files in it."""
    out = []
    for machine in shares():
        out += [render(machine), *(file.text for file in machine.files if file.text.startswith("#!"))]
    return list(dict.fromkeys(out))
