"""The share of the relay host: no packet for a zone leaves by another interface."""

from collections.abc import Sequence

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Address, Network
from relay.net.plan import conflicts, iptables, nft, overlay_join, persistence, shell
from relay.net.plan.machine import OWN, PROTOCOL, Machine, ManagedFile, PlannedKernelState, PlannedRoute
from relay.net.plan.prefixes import Prefix, largest, literal, prefixes

RULES = f"{OWN}/rules.nft"
_LAST = 4294967294  # the metric of the fallback: behind every other route; one less than the kernel's own last
_FIRST = 5001  # of the routes that ZeroTier does not set: behind its own, which have 5000, and no two the same

_OTHERS = (
    "let method 2 through: iptables -I DOCKER-USER -i {0} -o {0} -j ACCEPT, or: ufw route allow in on {0} out on {0}"
)


def relay_machine(plan: NetworkPlan, *, method: int = 1) -> Machine:
    """The relay host's share of a plan. `method` 2: it forwards for the overlays' members too.

    Raises RelayError for a plan that cannot be made.
    """
    conflicts.require_none(plan)
    overlays = [overlay for overlay in plan.overlays if overlay.zone.interface != "lo"]
    guarded = prefixes(overlay.zone for overlay in overlays)
    files = (
        ManagedFile(RULES, _rules(guarded, overlays, method), why="no packet for a zone leaves by another interface"),
        *persistence.files(
            what="nothing for a zone leaves by another interface",
            up=_up(guarded, overlays, method),
            down=_down(),
            interfaces=[overlay.zone.interface for overlay in overlays],
            networks=[prefix.network for prefix in guarded],
            stand=nft.STAND,
        ),
    )
    joining = [overlay_join.join(overlay, "the relay", overlay.relay) for overlay in overlays]
    return Machine(
        name="relay",
        title="the relay host",
        files=files,
        up=persistence.UP,
        down=persistence.DOWN,
        kernel=_kernel(guarded, overlays, method),
        typed=_typed(_kernel(guarded, overlays, method)),
        printed_by="sudo relayctl net apply" + (" --method 2" if method == 2 else ""),
        before=(*overlay_join.controller(overlays), *joining, *([overlay_join.moon(plan)] if plan.moon else [])),
        warnings=tuple(conflicts.on_relay(plan, method)),
    )


def _rules(guarded: Sequence[Prefix], overlays: Sequence[Overlay], method: int) -> str:
    forward, masquerade = ["jump guard"], []
    if method == 2:
        for overlay in overlays:
            name = literal(overlay.zone.interface)
            for source, target in pairs(overlay):
                way = f"{nft.family(target)} saddr {{}} {nft.family(target)} daddr {{}}"
                there, back = way.format(source, target), way.format(target, source)
                forward += [f'iifname "{name}" oifname "{name}" {there} ct state != invalid accept']
                forward += [f'iifname "{name}" oifname "{name}" {back} ct state established,related accept']
                masquerade += [f'oifname "{name}" {there} masquerade']
    names = sorted({literal(overlay.zone.interface) for overlay in overlays})
    forward += [f'{way} "{name}" drop' for name in names for way in ("iifname", "oifname")]
    # a redirect would send a member to the gateway itself, which accepts only the relay
    output = ["jump guard", *(f'oifname "{name}" icmp type redirect drop' for name in names if method == 2)]
    hook = "type filter hook {} priority filter; policy accept;"
    chains = [
        nft.chain("guard", nft.guard(guarded, [overlay.zone for overlay in overlays])),
        nft.chain("output", output, hook.format("output")),
        nft.chain("forward", forward, hook.format("forward")),
        nft.chain("input", [rule for name in names for rule in nft.no_redirects(name)], hook.format("input")),
    ]
    if masquerade:
        chains.append(nft.chain("postrouting", masquerade, "type nat hook postrouting priority srcnat; policy accept;"))
    return nft.table(chains)


def pairs(overlay: Overlay) -> list[tuple[str, Network]]:
    """(sources, network) that method 2 lets through: the named members, else the whole overlay, per network."""
    found: list[tuple[str, Network]] = []
    for network in overlay.zone.networks:
        members = [str(one.address) for one in overlay.members if one.address.version == network.version]
        if members:
            found.append((members[0] if len(members) == 1 else f"{{ {', '.join(members)} }}", network))
        elif overlay.network is not None and overlay.network.version == network.version:
            found.append((str(overlay.network), network))
    return found


def _up(guarded: Sequence[Prefix], overlays: Sequence[Overlay], method: int) -> str:
    shared = {prefix.network for prefix in guarded if len(prefix.interfaces) > 1}
    out = [f"route {network.version} 'unreachable {_shown(network)} metric {_LAST}'" for network in _fallbacks(guarded)]
    for number, overlay in enumerate(overlays):
        ask = f"if interface {shell.quote(overlay.zone.interface)}; then"
        body = []
        if shared.intersection(overlay.zone.networks):  # strict, it drops what comes back by the second interface
            body.append('loose "$found"')
        if not overlay.managed:
            body += [_route(overlay, network, _FIRST + number) for network in overlay.zone.networks]
        if body:
            missing = f"the zone {overlay.zone.name} has no interface {overlay.zone.interface} yet"
            out += [ask, *(f"    {line}" for line in body), "else", f"    note {shell.quote(missing)}", "fi"]
    out += [f"setting {name} {value}" for name, value in _settings(overlays, method)]
    return (
        shell.header("relay-net up: makes the kernel of the relay host fit the plan; may be run again at any time")
        + shell.need(("nft", "nftables"), ("ip", "iproute2"))
        + shell.INTERFACE
        + shell.SETTING
        + (shell.LOOSE if shared else "")
        + shell.ROUTES
        + "\n"
        + shell.lines(f"nft -f {RULES}", *out, "sweep")
        + (nft.others(_OTHERS.format(iptables.name(overlays[0].zone.interface))) if method == 2 and overlays else "")
    )


def _kernel(guarded: Sequence[Prefix], overlays: Sequence[Overlay], method: int) -> PlannedKernelState:
    """The state that `up` makes, as values. Not the rp_filter of `loose`, which depends on its present value."""
    routes = [PlannedRoute(network, _LAST) for network in _fallbacks(guarded)]
    for number, overlay in enumerate(overlays):
        routes += [
            PlannedRoute(network, _FIRST + number, _gateway(overlay, network), overlay.zone.interface)
            for network in overlay.zone.networks
            if not overlay.managed
        ]
    return PlannedKernelState(RULES, tuple(routes), _settings(overlays, method))


def _typed(kernel: PlannedKernelState) -> str:
    out = [f"nft -f {kernel.rules}"]
    for one in kernel.routes:
        way = f"{one.network}{f' via {one.gateway}' if one.gateway else ''} dev {one.interface}"
        way = way if one.interface else f"unreachable {one.network}"
        out.append(f"ip -{one.network.version} route replace {way} metric {one.metric} proto {PROTOCOL}")
    out += [f"sysctl -w {name.replace('/', '.')}={value}" for name, value in kernel.settings]
    return shell.lines(*out)


def _fallbacks(guarded: Sequence[Prefix]) -> tuple[Network, ...]:
    """Of the largest only: inside of another zone's network one would hide that zone's route from its sockets."""
    return largest([prefix.network for prefix in guarded])


def _settings(overlays: Sequence[Overlay], method: int) -> tuple[tuple[str, str], ...]:
    """The settings that method 2 needs, below /proc/sys."""
    versions = {network.version for overlay in overlays for network in overlay.zone.networks}
    names = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
    return tuple((names[version], "1") for version in sorted(versions)) if method == 2 else ()


def _gateway(overlay: Overlay, network: Network) -> Address | None:
    gateway = overlay.zone.gateway
    return gateway if gateway is not None and gateway.version == network.version else None


def _route(overlay: Overlay, network: Network, metric: int) -> str:
    gateway = _gateway(overlay, network)
    via = f" via {gateway}" if gateway is not None else ""
    said = f"the zone {overlay.zone.name} has no route to {network} yet: has $found its address?"
    return f'route {network.version} "{_shown(network)}{via} dev $found metric {metric}" 2>/dev/null || note "{said}"'


def _shown(network: Network) -> str:
    """As ip(8) prints it: one address without its prefix length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _down() -> str:
    return (
        shell.header("relay-net down: takes back what `up` did, and nothing else")
        + shell.ROUTES
        + shell.UNSET
        + "sweep\n"
        + nft.DOWN
    )
