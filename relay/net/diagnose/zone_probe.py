"""Probes beyond a zone's interface: the gateway, its forwarding, the banner of a host, large packets.

Sends the packets, bound to the interface; `relay.net.diagnose.path_verdict` interprets the answers.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from shlex import quote

from relay.core.policy.model import Address, Host, Zone
from relay.errors import RelayError
from relay.net.diagnose import path_verdict
from relay.net.diagnose.path_verdict import Leg
from relay.net.kernel import neighbours, route_guard
from relay.net.kernel.interfaces import Interface
from relay.net.kernel.route_guard import Obstacle
from relay.net.probe import path_mtu, ping, ssh_banner
from relay.net.probe.ping import Echo, EchoKind
from relay.net.probe.ssh_banner import BannerOutcome, SshBanner

_LEAST = 1280  # an overlay that cannot carry this carries no IPv6 (RFC 8200 5)
_ETHERNET = 1500  # bytes: what nearly every LAN carries
_UNREACHED = frozenset({BannerOutcome.SILENT, BannerOutcome.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class ProbeTimeouts:
    """Time-outs of the probes."""

    echo: float = 1.0  # seconds for one echo: three times the slowest path that people work over
    tries: int = 3  # a new ZeroTier path loses its first packets
    arp: float = 4.0  # seconds in which a gateway has given up looking for a host that is off (3 s) and says so
    port: float = 5.0  # seconds for a connection, and again for its banner


class ZoneProbe:
    """Probes of one zone through one interface. Each host's port is tried once: see `relay.net.probe.ssh_banner`."""

    def __init__(self, zone: Zone, by: Interface, timeouts: ProbeTimeouts, progress: Callable[[str], None]) -> None:
        """`progress` is called with what is waited for."""
        self._zone = zone
        self._by = by
        self._timeouts = timeouts
        self._progress = progress
        self._banners: dict[Host, SshBanner] = {}
        self._gateway_answers = False

    def gateway(self, address: Address, hosts: tuple[Host, ...]) -> Iterator[Leg]:
        """Legs about the gateway: its answer, and whether it forwards packets for `address` (of the first host)."""
        zone, by, gateway = self._zone, self._by, self._zone.gateway
        if gateway is None or by.loopback:
            return
        self._progress(f"{gateway} to answer a ping")
        try:
            answer = self._echo(gateway)
        except RelayError as error:  # ping is missing, or this user may send none
            yield Leg("gateway", "skipped", error.what, error.hint)
            return
        self._gateway_answers = answer.kind is EchoKind.REPLY
        entry = None
        with contextlib.suppress(OSError, RelayError):
            entry = neighbours.neighbour(gateway, by.index)
        spent, reached = Echo(), False
        gone = not self._gateway_answers and entry is not None and entry.silent
        if address != gateway and not gone:
            self._progress(f"{gateway} to show that it forwards")
            with contextlib.suppress(RelayError):
                spent = self._echo(address, ttl=1)
            if spent.kind is EchoKind.SILENT:  # ip_forward is off; or nobody is told where a packet's time ended
                self._progress(f"{address}, as {gateway} does not show that it forwards")
                reached = self._reached(address, hosts)
        works = reached or spent.kind is EchoKind.TIME_EXCEEDED
        yield path_verdict.gateway(zone, by.name, answer, entry.state if entry is not None else "", works=works)
        if address != gateway:
            yield path_verdict.forwarding(zone, address, spent, reached=reached)

    def host(self, host: Host) -> Iterator[Leg]:
        """Legs about one host: the return path, its banner, large packets."""
        zone, by = self._zone, self._by
        changed = self._changed(host)
        if changed is None:
            self._progress(f"{host.address}:{host.port} to greet")
            with ThreadPoolExecutor(1, "verify") as pool:
                pinged = pool.submit(self._ping, host.address, self._timeouts.arp)
                banner = self._banner(host)
                echo = pinged.result()
            changed = self._changed(host, banner.source)
        if changed is not None:
            yield changed
            return
        second_hop = None
        if zone.gateway is not None and echo.kind is EchoKind.SILENT and banner.outcome is BannerOutcome.SILENT:
            self._progress(f"where packets for {host.address} go instead")
            second_hop = self._ping(host.address, self._timeouts.echo, ttl=2)
        yield path_verdict.return_path(zone, host, echo, banner, second_hop)
        yield path_verdict.target(host, echo, banner)
        if not by.loopback:
            self._progress(f"large packets to {host.address}")
            yield self._sizes(host, banner, answers=echo.kind is EchoKind.REPLY)

    def _changed(self, host: Host, source: str = "") -> Leg | None:
        """A broken leg if the kernel would not take the zone's way to this host (any more), as for every forward."""
        by, zone = self._by, self._zone
        guard = route_guard.guard(zone.interface, host.address, zone.gateway, port=host.port)
        cure = f"ip route get {host.address} oif {quote(by.name)}; ip rule"
        if not guard.ok:
            return Leg("route", "fault", f"{guard.reason}: {guard.detail}", cure, host.name)
        if guard.index != by.index:
            what = f"{Obstacle.INTERFACE_REMADE}: {by.name} was recreated meanwhile"
            return Leg("route", "fault", what, "relayctl net verify again", host.name)
        if source and ip_address(source) not in by.addresses:
            what = f"{Obstacle.SOURCE_ADDRESS}: packets for {host.address} leave with {source}, none of {by.name}'s"
            return Leg("route", "fault", what, cure, host.name)
        return None

    def _reached(self, address: Address, hosts: tuple[Host, ...]) -> bool:
        """Whether the target answers at all."""
        with ThreadPoolExecutor(1, "verify") as pool:
            pinged = pool.submit(self._ping, address, self._timeouts.echo)
            greeted = bool(hosts) and self._banner(hosts[0]).outcome not in _UNREACHED
            return pinged.result().kind is EchoKind.REPLY or greeted

    def _sizes(self, host: Host, banner: SshBanner, *, answers: bool) -> Leg:
        """The leg about packet sizes: echoes with don't-fragment, and the large TCP packets of the banner probe."""
        name, by = "mtu", self._by.name
        if banner.unsent:
            what = f"{banner.unsent} bytes of large TCP packets never reached {host.address}"
            cure = f"ip link set {quote(by)} mtu {_LEAST}; if that helps, a tunnel on the way carries less than it says"
            return Leg(name, "fault", what, cure, host.name)
        gateway = self._zone.gateway
        asked = [("the gateway", gateway)] if gateway is not None and self._gateway_answers else []
        asked += [(host.name, host.address)] if answers else []
        passed: list[tuple[str, int]] = []
        try:
            most = path_mtu.interface_mtu(by)
            for owner, address in asked:
                # a gateway that says nothing of packets too big hides its LAN's smaller size; TCP found that anyway
                usual = _ETHERNET if address == host.address else 0
                size = path_mtu.path_mtu(address, by, most, timeout=self._timeouts.echo, fallback=usual)
                if size is None:
                    what = f"packets of {most} bytes to {address} vanish without a word; smaller ones pass"
                    cure = f"if large transfers hang: ip link set {quote(by)} mtu {_LEAST}"
                    return Leg(name, "warning", what, cure, host.name)
                passed.append((owner, size))
                most = size
        except (OSError, RelayError) as error:
            return Leg(name, "skipped", f"it cannot be asked: {error}", "", host.name)
        whole = " and ".join(f"{size} bytes to {owner}" for owner, size in passed)
        what = f"{whole} in one piece; large TCP packets arrive" if whole else "large TCP packets arrive"
        figures = tuple((f"mtu to {owner}", size) for owner, size in passed)
        if most < _LEAST:
            return Leg(name, "warning", f"only {what}", "look for a tunnel inside of a tunnel", host.name, figures)
        return Leg(name, "ok", what, "", host.name, figures)

    def _banner(self, host: Host) -> SshBanner:
        """Asked once. An interface that has gone is silence."""
        if host not in self._banners:
            banner = SshBanner()
            with contextlib.suppress(OSError):
                banner = ssh_banner.read_banner(
                    host.address, host.port, interface=self._by.name, timeout=self._timeouts.port
                )
            self._banners[host] = banner
        return self._banners[host]

    def _echo(self, address: Address, ttl: int | None = None) -> Echo:
        """The first answer of a few echoes; silence when the interface has gone. Raises RelayError, as `ping.echo`."""
        answer = Echo()
        for _ in range(self._timeouts.tries):
            try:
                answer = ping.echo(address, interface=self._by.name, timeout=self._timeouts.echo, ttl=ttl)
            except OSError:
                return Echo()
            if answer.kind is not EchoKind.SILENT:
                break
        return answer

    def _ping(self, address: Address, last: float, *, ttl: int | None = None) -> Echo:
        """Two echoes, the second one with `last` seconds; silence where none may be sent."""
        try:
            first = ping.echo(address, interface=self._by.name, timeout=self._timeouts.echo, ttl=ttl)
            if first.kind is not EchoKind.SILENT:
                return first
            return ping.echo(address, interface=self._by.name, timeout=last, ttl=ttl)
        except (OSError, RelayError):
            return Echo()
