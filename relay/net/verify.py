"""Is the whole way into a zone whole, from this machine's interface to the greeting of an SSH server?

Walks it leg by leg and stops at the first broken one: what lies behind it could only be guessed. The last legs (would
anything leak, do the clocks agree) are looked at once the way itself is whole.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from relay.core.rules import Address, Host, Network, Zone
from relay.errors import NotPermitted, RelayError
from relay.net import absence, banner, clocks, icmp, interfaces, neighbours, packet_size, routes, shadow, way
from relay.net.banner import Greeting, Outcome
from relay.net.icmp import Echo, Kind
from relay.net.interfaces import Interface
from relay.net.routes import Guard, Obstacle
from relay.net.way import Leg

ECHO = 1.0  # seconds for one echo: three times the slowest path that people work over
TRIES = 3  # a new ZeroTier path loses its first packets
ARP = 4.0  # seconds in which a gateway has given up looking for a host that is off (3 s) and says so
PORT = 5.0  # seconds for a connection, and again for its greeting
_LEAST = 1280  # an overlay that cannot carry this carries no IPv6 (RFC 8200 5)
_OVERLAY = "is the overlay up? zerotier-cli info; zerotier-cli listnetworks; ip -br address"
_CURES = {
    Obstacle.INTERFACE_MISSING: _OVERLAY,
    Obstacle.INTERFACE_AMBIGUOUS: "name the one in `interface:` of the zone",
    Obstacle.INTERFACE_DOWN: "ip link set {interface} up",
    Obstacle.NOT_UNICAST: "ip route get {address}; ip rule",
    Obstacle.KERNEL_SILENT: "run it on the relay host itself, as root",
}
_NO_INTERFACE = frozenset({Obstacle.INTERFACE_MISSING, Obstacle.INTERFACE_AMBIGUOUS, Obstacle.INTERFACE_DOWN})


@dataclass(frozen=True, slots=True)
class Question:
    """One zone to walk into. `spared`: patterns of other zones' interfaces that may carry its networks too."""

    zone: Zone
    hosts: tuple[Host, ...] = ()  # whose ports are tried; none: the way ends behind the gateway
    spared: tuple[str, ...] = ()


def nobody(_: str) -> None:
    """Told what is waited for, where nobody wants to know."""


def walk(asked: Question, say: Callable[[str], None] = nobody) -> Iterator[Leg]:
    """The legs of the way, in order, up to the first broken one. Raises nothing on Linux, RelayError elsewhere.

    Blocks some seconds for a leg that does not answer; `say` is told what is waited for.
    """
    zone = asked.zone
    address = asked.hosts[0].address if asked.hosts else first_address(zone.networks[0])
    guard = routes.guard(zone.interface, address, zone.gateway)
    found = next((at for at in interfaces.interfaces() if at.name == guard.interface), None)
    yield from (legs := _Legs(_local(zone, address, guard, found)))
    if legs.broken or found is None:
        return
    greet = functools.cache(functools.partial(_greet, interface=found.name))  # asked once: see relay.net.banner
    if zone.gateway is not None and not found.loopback:
        yield from (legs := _Legs(_beyond(zone, zone.gateway, address, found, asked.hosts, greet, say)))
        if legs.broken:
            return
    broken = False
    for host in asked.hosts:
        yield from (legs := _Legs(_to_host(zone, host, found, greet, say)))
        broken = broken or legs.broken
    if not asked.hosts:
        yield Leg("target", "skipped", f"no host of {zone.name} is known", "name one in `hosts:` of a policy")
    if broken or found.loopback:
        return
    yield from _allowed(absence.NAME, functools.partial(absence.look, zone, found, asked.spared))
    if zone.gateway is not None:
        say(f"the clock of {zone.gateway}")
        yield from _allowed(clocks.NAME, functools.partial(clocks.look, zone.gateway, found.name))


def first_address(network: Network) -> Address:
    """An address that stands for a network in which no host is known."""
    return network.network_address + (1 if network.num_addresses > 2 else 0)


class _Legs:
    """Legs as they come, up to the first broken one; `broken` tells afterwards whether there was one."""

    def __init__(self, legs: Iterator[Leg]) -> None:
        self._legs = legs
        self.broken = False

    def __iter__(self) -> Iterator[Leg]:
        for leg in self._legs:
            self.broken = leg.broken
            yield leg
            if self.broken:
                return


def _allowed(name: str, look: Callable[[], Leg]) -> Iterator[Leg]:
    """What cannot be looked at is left out, with the reason."""
    try:
        yield look()
    except RelayError as error:
        yield Leg(name, "skipped", error.what, error.hint)
    except OSError as error:
        yield Leg(name, "skipped", f"it cannot be asked: {error.strerror}", "run it as root")


def _local(zone: Zone, address: Address, guard: Guard, found: Interface | None) -> Iterator[Leg]:
    """What this machine's kernel says by itself: interface, route, and whether answers would be let in."""
    name = guard.interface or zone.interface
    if guard.reason in _NO_INTERFACE or found is None:
        reason = guard.reason if guard.reason in _NO_INTERFACE else Obstacle.INTERFACE_MISSING
        cure = _CURES[reason].format(interface=name, address=address)
        yield Leg("interface", "fault", f"{reason}: {guard.detail}{_meanwhile(address, guard)}", cure)
        return
    own = [at for at in found.addresses if at.version == address.version and not at.is_link_local]
    if not own:
        yield Leg("interface", "fault", f"{name} has no IPv{address.version} address", _OVERLAY)
        return
    size = packet_size.of_interface(name)
    shown = ", ".join(map(str, own[:4]))
    yield Leg("interface", "ok", f"{name} is up with {shown}, MTU {size}", figures=(("mtu", size),))
    via = f" via {zone.gateway}" if zone.gateway else ""
    if not guard.ok:
        network = next((net for net in zone.networks if address in net), zone.networks[0])
        default = f"ip route replace {network}{via} dev {name}; to keep it: sudo relayctl net apply"
        cure = _CURES.get(guard.reason or Obstacle.NOT_ASKED, default).format(interface=name, address=address)
        yield Leg("route", "fault", f"{guard.reason}: {guard.detail}{_meanwhile(address, guard)}", cure)
        return
    yield Leg("route", "ok", f"{address} goes{via or ' on-link'} by {name}")
    mode = shadow.reverse_path(name) if address.version == 4 and not found.loopback else None
    if mode is None:
        return
    why = shadow.silencing(address, name, guard.index)
    if why:
        cure = f"sysctl -w net.ipv4.conf.{name}.rp_filter=2; to keep it: sudo relayctl net apply"
        yield Leg("rp_filter", "fault", why, cure)
        return
    words = {0: "off", 1: "strict, and the answers come the way it wants", 2: "loose"}.get(mode, "unknown")
    yield Leg("rp_filter", "ok", f"{mode} on {name}: {words}", figures=(("rp_filter", mode),))


def _meanwhile(address: Address, guard: Guard) -> str:
    """Where the packets of a program that knows nothing of zones go now, in words behind a fault."""
    try:
        entry = routes.lookup(address)
        hop = entry.hops[0] if entry is not None and entry.hops else None
        if hop is None or hop.index == guard.index:
            return ""
        name = interfaces.link(hop.index).name
    except (OSError, RelayError):
        return ""
    return f"; packets of other programs for {address} now leave by {name}"


def _beyond(  # noqa: PLR0917 - one after the other, as `walk` has them
    zone: Zone,
    gateway: Address,
    address: Address,
    by: Interface,
    hosts: tuple[Host, ...],
    greet: Callable[[Host], Greeting],
    say: Callable[[str], None],
) -> Iterator[Leg]:
    """The gateway: is it there, does it forward."""
    say(f"{gateway} to answer a ping")
    try:
        answer = _echo(gateway, by.name)
    except NotPermitted as error:
        yield Leg("gateway", "skipped", error.what, error.hint)
        return
    entry = None
    with contextlib.suppress(OSError, RelayError):
        entry = neighbours.neighbour(gateway, by.index)
    spent, reached = Echo(), False
    if address != gateway and not (answer.kind is not Kind.REPLY and entry is not None and entry.silent):
        say(f"{gateway} to say that it forwards")
        spent = _echo(address, by.name, ttl=1)
        if spent.kind is Kind.SILENT:  # ip_forward is off; or nobody is told where a packet's time ended
            say(f"{address}, as {gateway} does not say that it forwards")
            reached = _reached(address, hosts, by, greet)
    works = reached or spent.kind is Kind.TIME_EXCEEDED
    yield way.gateway(zone, by.name, answer, entry.state if entry is not None else "", works=works)
    if address != gateway:
        yield way.forwarding(zone, address, spent, reached=reached)


def _reached(address: Address, hosts: tuple[Host, ...], by: Interface, greet: Callable[[Host], Greeting]) -> bool:
    """Whether the target answers at all."""
    with ThreadPoolExecutor(1, "verify") as pool:
        pinged = pool.submit(_echo, address, by.name)
        greeted = bool(hosts) and greet(hosts[0]).outcome not in {Outcome.SILENT, Outcome.UNREACHABLE}
        return pinged.result().kind is Kind.REPLY or greeted


def _to_host(
    zone: Zone, host: Host, by: Interface, greet: Callable[[Host], Greeting], say: Callable[[str], None]
) -> Iterator[Leg]:
    """One host behind it: do its answers come back, does it greet, do large packets pass."""
    guard = routes.guard(zone.interface, host.address, zone.gateway)
    if not guard.ok or guard.index != by.index:
        yield Leg("route", "fault", f"{guard.reason}: {guard.detail}", f"ip route get {host.address}", host.name)
        return
    say(f"{host.address}:{host.port} to greet")
    with ThreadPoolExecutor(1, "verify") as pool:
        pinged = pool.submit(_ping, host.address, by.name)
        greeting = greet(host)
        echo = pinged.result()
    further = Echo()
    if zone.gateway is not None and echo.kind is Kind.SILENT and greeting.outcome is Outcome.SILENT:
        say(f"where packets for {host.address} go instead")
        further = _ping(host.address, by.name, ttl=2, patience=ECHO)
    yield way.way_back(zone, host, echo, greeting, further)
    yield way.target(host, echo, greeting)
    if by.loopback:
        return
    say(f"large packets to {host.address}")
    answers = [
        (name, address)
        for name, address, answered in (
            ("gateway", zone.gateway, True),
            (host.name, host.address, echo.kind is Kind.REPLY),
        )
        if address is not None and answered
    ]
    yield from _allowed("mtu", functools.partial(_sizes, host, by, greeting, answers))


def _sizes(host: Host, by: Interface, greeting: Greeting, answers: list[tuple[str, Address]]) -> Leg:
    """How large packets may be: by echoes that must not be fragmented, and by what TCP carried."""
    if greeting.unsent:
        what = f"{greeting.unsent} bytes of large TCP packets never reached {host.address}"
        cure = f"ip link set {by.name} mtu {_LEAST}; if that helps, a tunnel on the way carries less than it says"
        return Leg("mtu", "fault", what, cure, host.name)
    most = packet_size.of_interface(by.name)
    passed: dict[str, int] = {}
    for name, address in answers:
        size = packet_size.passing(address, by.name, most, timeout=ECHO)
        if size is None:
            what = f"packets of {most} bytes to {address} vanish without a word, though TCP found a size that passes"
            return Leg(
                "mtu", "warning", what, f"if large transfers hang: ip link set {by.name} mtu {_LEAST}", host.name
            )
        passed[name] = most = size
    parts = [f"{size} bytes to {'the gateway' if name == 'gateway' else name}" for name, size in passed.items()]
    what = f"{' and '.join(parts)} in one piece; large TCP packets arrive" if parts else "large TCP packets arrive"
    figures = tuple((f"mtu to {name}", size) for name, size in passed.items())
    if most < _LEAST:
        return Leg("mtu", "warning", f"only {what}", "look for a tunnel inside of a tunnel", host.name, figures)
    return Leg("mtu", "ok", what, "", host.name, figures)


def _echo(address: Address, interface: str, ttl: int | None = None) -> Echo:
    """The first answer of a few echoes. Raises NotPermitted; an interface that has gone is silence."""
    answer = Echo()
    for _ in range(TRIES):
        try:
            answer = icmp.echo(address, interface=interface, timeout=ECHO, ttl=ttl)
        except OSError:
            return Echo()
        if answer.kind is not Kind.SILENT:
            break
    return answer


def _ping(address: Address, interface: str, *, ttl: int | None = None, patience: float = ARP) -> Echo:
    """Two echoes, the second one with more patience; silence where none may be sent."""
    try:
        first = icmp.echo(address, interface=interface, timeout=ECHO, ttl=ttl)
        if first.kind is not Kind.SILENT:
            return first
        return icmp.echo(address, interface=interface, timeout=patience, ttl=ttl)
    except (OSError, RelayError):
        return Echo()


def _greet(host: Host, interface: str) -> Greeting:
    """Ask once. An interface that has gone is silence."""
    try:
        return banner.greet(host.address, host.port, interface=interface, timeout=PORT)
    except OSError:
        return Greeting()
