"""The share of a zone's gateway: forwarding from the relay into the LAN, and nothing else.

With its LAN link down it must not send packets for the LAN out by its own default route (measured: it does, with
FORWARD's usual policy). So everything else that enters or leaves the overlay's interface is dropped, and other
forwarding on the machine is unchanged.
"""

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Address, Network
from relay.errors import RelayError
from relay.net.plan import conflicts, iptables, nft, overlay_join, persistence, shell
from relay.net.plan.machine import OWN, Machine, ManagedFile
from relay.net.plan.prefixes import literal

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
# packets of method 1 into a LAN: TCP of forwards, and echoes of `net verify`
_PROTOCOLS = {4: ("tcp", "icmp"), 6: ("tcp", "ipv6-icmp")}
_RULES = {4: f"{OWN}/rules.v4", 6: f"{OWN}/rules.v6"}
_OTHERS = "print this script with --firewall iptables, which gets along with them"


def gateway_machine(
    overlay: Overlay, *, method: int = 1, firewall: str = "nft", plan: NetworkPlan | None = None
) -> Machine:
    """The share of a zone's gateway. `plan` is what the overlay is part of (its Moon, the relay's public address).

    Raises RelayError for what the plan has to say and does not.
    """
    plan = plan or NetworkPlan((overlay,))
    zone = overlay.zone
    if zone.gateway is None:
        raise RelayError(
            f"the zone {zone.name} has no gateway", "it is reached without one; else give it one in the policy"
        )
    if not overlay.lan_interface:
        raise _unknown(overlay, "lan_interface", "eth0")
    ways = [(source(overlay, network), network) for network in zone.networks]
    families = tuple(sorted({network.version for network in zone.networks}))
    if firewall == "nft":
        rules = [ManagedFile(f"{OWN}/rules.nft", _nft(overlay, ways, method), why="what may pass, and nothing else")]
        load = f"\nnft -f {OWN}/rules.nft\n" + _other_form(families) + nft.others(_OTHERS)
        unload = "\n" + nft.DOWN
        programs: tuple[tuple[str, str], ...] = (("nft", "nftables"),)
    else:
        rules = [
            ManagedFile(_RULES[family], _iptables(overlay, ways, method, family), why="what may pass, and nothing else")
            for family in families
        ]
        load = iptables.up({family: _RULES[family] for family in families})
        load += f"\n# once, where the nft form of this plan was in force\n{nft.DOWN}rm -f {OWN}/rules.nft\n"
        unload = iptables.down(families)
        programs = iptables.programs(families)
    up = (
        shell.header(f"relay-net up: this machine is the gateway of the zone {zone.name}; may be run again at any time")
        + shell.need(*programs)
        + shell.INTERFACE
        + shell.SETTING
        + load
        + _interfaces(overlay)
        + shell.lines("# only now that the rules stand", *(f"setting {_FORWARDING[family]} 1" for family in families))
    )
    down = shell.header("relay-net down: takes back what `up` did, and nothing else") + shell.UNSET + unload
    return Machine(
        name="gateway",
        zone=zone.name,
        title=f"the gateway of the zone {zone.name}",
        files=(
            *rules,
            *persistence.files(
                what=f"the gateway of the zone {zone.name}",
                up=up,
                down=down,
                interfaces=[zone.interface, overlay.lan_interface],
                stand=nft.STAND if firewall == "nft" else iptables.stand(families),
            ),
        ),
        up=persistence.UP,
        down=persistence.DOWN,
        typed=_typed(families, firewall),
        printed_by=f"relayctl net plan --machine gateway --zone {zone.name}"
        + (" --method 2" if method == 2 else "")
        + (" --firewall iptables" if firewall == "iptables" else ""),
        before=(
            overlay_join.join(overlay, f"the gateway of {zone.name}", zone.gateway),
            *overlay_join.moon_member(plan),
        ),
        after=overlay_join.directions(overlay, overlay.relay, "the relay", plan.public),
        warnings=tuple(conflicts.everywhere([overlay])),
    )


def source(overlay: Overlay, network: Network) -> Address | Network:
    """The only permitted source: the relay, else the overlay's members. Raises RelayError where neither is known."""
    if overlay.relay is not None and overlay.relay.version == network.version:
        return overlay.relay
    if overlay.network is not None and overlay.network.version == network.version:
        return overlay.network
    raise _unknown(overlay, "relay", "172.18.0.10" if network.version == 4 else "fd18::10")


def _unknown(overlay: Overlay, key: str, example: str) -> RelayError:
    return RelayError(
        f"the plan does not say the `{key}` of the zone {overlay.zone.name}",
        f"network.yaml: overlays: {{ {overlay.zone.name}: {{ {key}: {example} }} }}, or --{key.replace('_', '-')}",
    )


def _other_form(families: tuple[int, ...]) -> str:
    paths = [_RULES[family] for family in families]
    return (
        "\n# once, where the iptables form of this plan was in force\n"
        f"if [ -f {paths[0]} ]; then{iptables.down(families)}rm -f {' '.join(paths)}\nfi\n"
    )


def _typed(families: tuple[int, ...], firewall: str) -> str:
    load = [f"nft -f {OWN}/rules.nft"] if firewall == "nft" else []
    for family in families if firewall == "iptables" else ():
        load += iptables.typed(family, _RULES[family])
    return shell.lines(*load, *(f"sysctl -w {_FORWARDING[family].replace('/', '.')}=1" for family in families))


def _interfaces(overlay: Overlay) -> str:
    missing = "there is no interface {0} yet: the rules stand and wait for it"
    return "\n" + shell.lines(
        *(
            f"interface {shell.quote(name)} || note {shell.quote(missing.format(name))}"
            for name in (overlay.zone.interface, overlay.lan_interface)
        )
    )


def _nft(overlay: Overlay, ways: list[tuple[Address | Network, Network]], method: int) -> str:
    inside, lan = literal(overlay.zone.interface), literal(overlay.lan_interface)
    there, back, nat = ["ct state invalid drop"], [], []
    for source, network in ways:
        word = nft.family(network)
        kinds = f"meta l4proto {{ {', '.join(_PROTOCOLS[network.version])} }} " if method == 1 else ""
        way = f"{word} saddr {source} {word} daddr {network}"
        there.append(f'oifname "{lan}" {way} {kinds}accept')
        back.append(f'iifname "{lan}" {word} daddr {source} ct state established,related accept')
        nat.append(f'oifname "{lan}" {way} masquerade')
    chains = [
        nft.chain("from_overlay", [*there, "drop"]),
        nft.chain("to_overlay", [*back, "drop"]),
        nft.chain(
            "forward",
            [f'iifname "{inside}" jump from_overlay', f'oifname "{inside}" jump to_overlay'],
            "type filter hook forward priority filter; policy accept;",
        ),
        nft.chain("postrouting", nat, "type nat hook postrouting priority srcnat; policy accept;"),
    ]
    return nft.table(chains)


def _iptables(overlay: Overlay, ways: list[tuple[Address | Network, Network]], method: int, family: int) -> str:
    inside, lan = iptables.name(overlay.zone.interface), iptables.name(overlay.lan_interface)
    passing, nat = [], []
    for source, network in ways:
        if network.version != family:
            continue
        kinds = _PROTOCOLS[family] if method == 1 else ("all",)
        passing += [f"-i {inside} -o {lan} -s {source} -d {network} -p {kind}" for kind in kinds]
        passing.append(f"-i {lan} -o {inside} -d {source} -m conntrack --ctstate RELATED,ESTABLISHED")
        nat.append(f"-s {source} -d {network} -o {lan} -j MASQUERADE")
    return iptables.table(
        {
            "mangle": [
                f"-i {inside} -m conntrack --ctstate INVALID -j DROP",
                *(f"{way} -j RETURN" for way in passing),
                f"-i {inside} -j DROP",
                f"-o {inside} -j DROP",
            ],
            "filter": [f"{way} -j ACCEPT" for way in passing],
            "nat": nat,
        }
    )
