"""Interpretation of a ping and a TCP connection to a host: what is broken, and the cure. Pure: answers in, legs out.

One of the two alone cannot distinguish a host that is off from a gateway that does not return its answers. Both
together, with the sender of an ICMP error, can.
"""

import errno
from dataclasses import dataclass
from typing import Literal

from relay.core.policy.inventory import in_zone
from relay.core.policy.model import Address, Host, Zone
from relay.net.probe.ping import Echo, EchoKind
from relay.net.probe.ssh_banner import BannerOutcome, SshBanner

State = Literal["ok", "warning", "fault", "skipped"]
# a packet filter's answers (RFC 1812 5.2.7.1, RFC 4443 3.1); port unreachable too, as an echo has no port
_FILTERED = {4: frozenset({2, 3, 9, 10, 13}), 6: frozenset({1, 4, 5, 6})}
_HOST_UNREACHABLE = {4: 1, 6: 3}
_LAN_CURE = "is its LAN cable in, its LAN interface up? on the gateway: ip -br address; ip route"
_PENALTY = "Not allowed at this time"  # sshd's words for a source that it shuts out (PerSourcePenalties)


@dataclass(frozen=True, slots=True)
class Leg:
    """One part of the path: its state, its figures, and the cure."""

    name: str
    state: State
    what: str
    cure: str = ""
    host: str = ""  # "": of the zone
    figures: tuple[tuple[str, float | int | str], ...] = ()  # for programs: (name with its unit, value)

    @property
    def broken(self) -> bool:
        """Whether the check ends here."""
        return self.state == "fault"


def milliseconds(seconds: float) -> str:
    """A duration for people: 0.4 ms, 13 ms, 2100 ms."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def script(zone: Zone) -> str:
    """The cure for anything that the gateway lacks."""
    return f"as root on the gateway, run what this prints: relayctl net plan --machine gateway --zone {zone.name}"


def gateway(zone: Zone, by: str, echo: Echo, neighbour: str, *, works: bool) -> Leg:
    """Whether the zone's gateway is there.

    `neighbour`: the state of its entry in the neighbour table, "" for none. `works`: something came back through it.
    """
    name, where = "gateway", zone.gateway
    if echo.kind is EchoKind.REPLY:
        figures = (("seconds", round(echo.seconds, 6)),)
        return Leg(name, "ok", f"{where} answers a ping in {milliseconds(echo.seconds)}", figures=figures)
    if works:
        return Leg(name, "ok", f"{where} answers no ping, but lets packets through")
    if echo.kind is EchoKind.UNREACHABLE and echo.code == errno.EPERM and echo.sender is None:
        what = f"a packet filter of this machine lets nothing out to {where} by {by}"
        return Leg(name, "fault", what, "nft list ruleset; iptables -S OUTPUT")
    why = " (and no ARP)" if neighbour in {"failed", "incomplete"} else ""
    why = f" ({echo.detail} from {echo.sender})" if echo.sender is not None else why
    cure = "is the gateway on, and its overlay up? on it: zerotier-cli info; zerotier-cli listnetworks"
    return Leg(name, "fault", f"{where} answers no ping{why} on {by}", cure)


def forwarding(zone: Zone, target: Address, echo: Echo, *, reached: bool) -> Leg:
    """Whether the gateway forwards: `echo` left with a TTL of 1, so a router says that its time was exceeded there.

    `reached`: the target answered in another way.
    """
    name, where = "forwarding", zone.gateway
    if echo.kind is EchoKind.TIME_EXCEEDED:
        if echo.sender == where or (echo.sender is not None and in_zone(zone, echo.sender)):  # its address in the LAN
            return Leg(name, "ok", f"{where} forwards packets for {target}")
        what = f"{echo.sender} forwards packets for {target}, not {where}"
        return Leg(name, "warning", what, f"ip route get {target}; ip route")
    if echo.kind is EchoKind.REPLY:
        return Leg(name, "ok", f"{target} is an address of the gateway {where} itself")
    if reached:
        return Leg(name, "ok", f"{where} forwards packets for {target}, though it says nothing of spent ones")
    if echo.kind is EchoKind.UNREACHABLE and echo.sender is not None:
        return _unreachable(name, zone, target, echo, "")
    what = f"{where} does not forward packets for {target}: ip_forward is off there"
    return Leg(name, "fault", what, script(zone))


def return_path(zone: Zone, host: Host, echo: Echo, banner: SshBanner, second_hop: Echo | None = None) -> Leg:
    """Whether answers of the host come back here. `second_hop`: an echo with a TTL of 2, where all else was silent."""
    name, where = "return path", host.address
    if echo.kind is EchoKind.REPLY:
        figures = (("seconds", round(echo.seconds, 6)),)
        return Leg(name, "ok", f"{where} answers a ping in {milliseconds(echo.seconds)}", "", host.name, figures)
    if banner.outcome not in {BannerOutcome.SILENT, BannerOutcome.UNREACHABLE}:
        return Leg(name, "ok", f"{where} answers by TCP, though no ping", "", host.name)
    if echo.kind is EchoKind.UNREACHABLE and echo.sender == where:
        return Leg(name, "ok", f"{where} answers: {echo.detail}", "", host.name)
    if zone.gateway is None:
        what = f"no answer for {where} on {zone.interface}"
        return Leg(name, "fault", what, f"is {host.name} on, and in the overlay? or correct its address", host.name)
    if echo.kind is EchoKind.UNREACHABLE and echo.sender is not None:
        return _unreachable(name, zone, where, echo, host.name)
    beyond = second_hop.sender if second_hop is not None and second_hop.kind is EchoKind.TIME_EXCEEDED else None
    if beyond is not None and not in_zone(zone, beyond):
        what = f"{zone.gateway} sends packets for {where} on to {beyond}, out of the LAN: its LAN link is down"
        return Leg(name, "fault", what, _LAN_CURE, host.name)
    what = (
        f"{zone.gateway} forwards, but nothing comes back from {where}: it has no masquerade, or its packet filter or "
        f"{host.name}'s drops it, or its LAN link is down"
    )
    return Leg(name, "fault", what, script(zone), host.name)


def target(host: Host, echo: Echo, banner: SshBanner) -> Leg:
    """Whether an SSH server greets at the host's port, once it is known that its answers come back."""
    name, where = "target", f"{host.address}:{host.port}"
    took = milliseconds(banner.seconds)
    match banner.outcome:
        case BannerOutcome.GREETED:
            figures = (("seconds", round(banner.seconds, 6)), ("banner", banner.text))
            return Leg(name, "ok", f"{where} greets with {banner.text} after {took}", "", host.name, figures)
        case BannerOutcome.REFUSED:
            if echo.kind is EchoKind.UNREACHABLE:
                what = f"a packet filter refuses {where} ({echo.detail} from {echo.sender})"
                return Leg(name, "fault", what, f"let TCP port {host.port} in there", host.name)
            cure = f"on {host.name}: systemctl enable --now ssh; or name its port in `hosts:`"
            return Leg(name, "fault", f"{where} refuses: no SSH server listens there", cure, host.name)
        case BannerOutcome.MUTE:
            cure = f"on {host.name}: ss -tlnp sport = :{host.port}; systemctl restart ssh"
            return Leg(name, "fault", f"{where} is open, but does not greet", cure, host.name)
        case BannerOutcome.OTHER if banner.text.startswith(_PENALTY):
            cure = "wait some minutes; on it exempt the gateway: PerSourcePenaltyExemptList in sshd_config(5)"
            return Leg(name, "fault", f"{where} shuts this source out after failed log-ins", cure, host.name)
        case BannerOutcome.OTHER:
            said = f"says '{banner.text}'" if banner.text else "closes at once"
            cure = f"is it the right port? else on {host.name}: journalctl -u ssh"
            return Leg(name, "fault", f"{where} is open, but no SSH server: it {said}", cure, host.name)
        case BannerOutcome.UNREACHABLE:
            cure = (
                f"on {host.name} let TCP port {host.port} in: ufw allow {host.port}/tcp; firewall-cmd --add-service=ssh"
            )
            return Leg(name, "fault", f"a packet filter rejects {where} ({banner.text})", cure, host.name)
        case _:
            cure = (
                f"on {host.name} let TCP port {host.port} in: ufw allow {host.port}/tcp; firewall-cmd --add-service=ssh"
            )
            what = f"{where} is silent, though {host.address} answers: a packet filter drops it"
            return Leg(name, "fault", what, cure, host.name)


def _unreachable(name: str, zone: Zone, where: Address, echo: Echo, host: str) -> Leg:
    """A router on the path reports that the packet cannot be delivered."""
    said = f"{echo.detail} from {echo.sender}"
    if echo.code in _FILTERED[where.version]:
        return Leg(name, "fault", f"a packet filter lets nothing through to {where} ({said})", script(zone), host)
    if echo.code == _HOST_UNREACHABLE[where.version]:
        what = f"the gateway finds no host at {where} ({said})"
        cure = f"is {host or where} on? then correct its address in `hosts:`"
        return Leg(name, "fault", what, cure, host)
    return Leg(name, "fault", f"the gateway has no way to {where} ({said})", _LAN_CURE, host)
