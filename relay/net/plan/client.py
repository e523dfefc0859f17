"""The share of a client. Method 1: an SSH configuration. Method 2: membership in the overlay, and a route."""

from collections.abc import Sequence

from relay.core.network_plan import NetworkPlan, Overlay, OverlayMember
from relay.core.policy.model import Network
from relay.errors import RelayError
from relay.net.plan import conflicts, overlay_join, persistence, shell
from relay.net.plan.machine import Machine, PlanStep

_METRIC = 50  # before the managed route by the gateway (5000), which lets only the relay in


def jump_client(person: str, config: str, known_hosts: Sequence[str]) -> Machine:
    """A person's client for method 1, given the text for ~/.ssh/config and the lines that pin the relay's keys."""
    lines = "".join(f"{line}\n" for line in known_hosts)
    script = f"""umask 077
directory=${{HOME:?}}/.ssh
[ -d "$directory" ] || mkdir "$directory"
cat >"$directory/relay.config.new" <<'END-OF-CONFIG'
{config}END-OF-CONFIG
if [ "$(cat "$directory/relay.config" 2>/dev/null)" = "$(cat "$directory/relay.config.new")" ]; then
    rm "$directory/relay.config.new"
else
    mv "$directory/relay.config.new" "$directory/relay.config"
    say "written: $directory/relay.config"
fi
[ -f "$directory/config" ] || : >"$directory/config"
# first of all: below a Host line it would count for that host only
grep -qx 'Include relay.config' "$directory/config" || {{
    {{ printf 'Include relay.config\\n\\n'; cat "$directory/config"; }} >"$directory/config.new"
    mv "$directory/config.new" "$directory/config"
}}
[ -f "$directory/known_hosts" ] || : >"$directory/known_hosts"
while read -r line; do
    grep -qxF -- "$line" "$directory/known_hosts" || printf '%s\\n' "$line" >>"$directory/known_hosts"
done <<'END-OF-KEYS'
{lines}END-OF-KEYS
"""
    typed = shell.lines(
        f"relayctl client-config {person} >>~/.ssh/config",
        f"relayctl client-config {person} --known-hosts >>~/.ssh/known_hosts",
    )
    why = f"the SSH configuration of {person}; for Windows: relayctl client-config {person} --os windows"
    return Machine(
        name="client",
        title=f"the client of {person}",
        printed_by=f"relayctl net plan --machine client --person {person}",
        before=(PlanStep(why, script, typed=typed),),
    )


def routing_client(plan: NetworkPlan, overlay: Overlay, member: OverlayMember | None = None) -> Machine:
    """A client for method 2: `member` is which one, None any. Raises RelayError where the plan lacks the relay."""
    zone = overlay.zone
    if overlay.relay is None:
        raise RelayError(
            f"the plan does not say the relay's address in the overlay of {zone.name}",
            f"network.yaml: overlays: {{ {zone.name}: {{ relay: 172.18.0.10 }} }}, or --relay-address",
        )
    networks = [network for network in zone.networks if network.version == overlay.relay.version]
    up = (
        shell.header("relay-net up: the ways of this client into the LAN; may be run again at any time")
        + shell.need(("ip", "iproute2"))
        + shell.INTERFACE
        + shell.ROUTES
        + _HOME
        + "\n"
        + f"if interface {shell.quote(zone.interface)}; then\n"
        + "".join(_way(overlay, network) for network in networks)
        + f"else\n    note {shell.quote(f'there is no interface {zone.interface} yet')}\nfi\nsweep\n"
    )
    down = shell.header("relay-net down: takes back what `up` did, and nothing else") + shell.ROUTES + "sweep\n"
    name = member.name if member else "a client"
    other = (
        "macOS: "
        + "; ".join(f"sudo route -n add -net {network} {overlay.relay}" for network in networks)
        + "\nWindows, as administrator: "
        + "; ".join(f"route -p add {_windows(network)} {overlay.relay}" for network in networks)
    )
    return Machine(
        name="client",
        zone=zone.name,
        title=f"{name}, a member of the overlay (Linux)",
        files=persistence.files(
            what=f"ways into the zone {zone.name}", up=up, down=down, interfaces=[zone.interface], networks=networks
        ),
        up=persistence.UP,
        down=persistence.DOWN,
        typed=shell.lines(
            *(f"ip route replace {network} via {overlay.relay} metric {_METRIC}" for network in networks)
        ),
        printed_by=f"relayctl net plan --method 2 --machine client --zone {zone.name}"
        + (f" --member {member.name}" if member else ""),
        before=(overlay_join.join(overlay, name, member.address if member else None), *overlay_join.moon_member(plan)),
        after=(PlanStep("on other systems, instead of the files above", by_hand=other),),
        warnings=tuple(conflicts.on_client(overlay)),
    )


_HOME = """
# free NETWORK: no other interface is in it, or the end: the route would cut this machine off from its own LAN
free() {
    taken=$({ ip route show root "$1" scope link; ip route show match "$1" scope link; } | grep -v " dev $found " || :)
    [ -z "$taken" ] ||
        die "this machine is in $1 itself ($taken): use method 1 here (ssh -J relay), or renumber one of the two"
}
"""


def _way(overlay: Overlay, network: Network) -> str:
    check = f"    free {network}\n" if network.version == 4 else ""
    text = f"{network} via {overlay.relay} dev $found metric {_METRIC}"
    said = f"no route to {network} yet: has $found its address?"
    return f'{check}    route {network.version} "{text}" 2>/dev/null || note "{said}"\n'


def _windows(network: Network) -> str:
    return f"{network.network_address} mask {network.netmask}" if network.version == 4 else str(network)
