"""Faults of the gateway itself, in order: its overlay interface and address, its LAN interface, forwarding."""

from shlex import quote

from relay.net.diagnose import remedies, zerotier_join
from relay.net.diagnose.case import Case, Diagnosis, fault


def overlay_missing(case: Case) -> Diagnosis | None:
    """No interface, or more than one, matches the zone's pattern."""
    if case.seen.link(case.seen.interface) is not None:
        return None
    pattern = case.overlay.zone.interface
    what = f"no single interface matches '{pattern}'"
    return fault("interface-missing", what, zerotier_join.bring_up(pattern, case.overlay))


def overlay_down(case: Case) -> Diagnosis | None:
    """The overlay's interface is set down."""
    link = case.seen.link(case.seen.interface)
    if link is None or link.up:
        return None
    return fault("interface-down", f"{link.name} is down", f"ip link set {quote(link.name)} up")


def address_missing(case: Case) -> Diagnosis | None:
    """The overlay's interface lacks the address that the relay uses as its gateway."""
    link, gateway = case.seen.link(case.seen.interface), case.overlay.zone.gateway
    if link is None or gateway is None or gateway in link.addresses:
        return None
    what = f"{link.name} has not the address {gateway} by which the relay routes"
    panel = zerotier_join.panel(case.joined, case.seen)
    return fault("address-missing", what, f"{panel}: give this member the address {gateway}")


def lan_missing(case: Case) -> Diagnosis | None:
    """No interface leads into the LAN."""
    if case.seen.link(case.lan_interface) is not None:
        return None
    what = f"no interface has an address in {case.overlay.zone.networks[0]}"
    return fault("lan-missing", what, "ip -br address")


def lan_down(case: Case) -> Diagnosis | None:
    """The LAN interface is down, so packets for the LAN may take the default route."""
    link, plain = case.seen.link(case.lan_interface), case.seen.plain
    if link is None or link.up:
        return None
    leak = ""
    if plain is not None and plain.interface != link.name:
        leak = f"; packets for {case.seen.address} would leave by {plain.interface}"
    what = f"{link.name}, the way into {case.overlay.zone.networks[0]}, is down{leak}"
    return fault("lan-down", what, f"ip link set {quote(link.name)} up")


def not_forwarding(case: Case) -> Diagnosis | None:
    """The kernel does not forward packets."""
    if case.seen.forwarding is not False:
        return None
    cure = remedies.forward(case.overlay.zone.networks[0].version)
    return fault("not-forwarding", "this machine does not forward packets", cure)


GATEWAY_RULES = (overlay_missing, overlay_down, address_missing, lan_missing, lan_down, not_forwarding)
