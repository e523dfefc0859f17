"""Steps to join an overlay, and what to set in its controller.

They use ZeroTier's own commands and its web panel; another overlay (no network id) is joined by hand.
"""

from collections.abc import Sequence

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Address
from relay.net.plan import shell
from relay.net.plan.machine import PlanStep

HOME = "/var/lib/zerotier-one"  # of ZeroTier's service on Linux
_PACKAGE = "zerotier-one (www.zerotier.com/download)"

_SERVICE = f"""command -v zerotier-cli >/dev/null 2>&1 ||
    die "there is no zerotier-cli here: install the package {_PACKAGE}"
zerotier-cli info >/dev/null || die "the ZeroTier service does not answer: systemctl enable --now zerotier-one"
"""


_RESTART = 'if [ -d /run/systemd/system ]; then systemctl restart zerotier-one; else say "restart zerotier-one now"; fi'


def join(overlay: Overlay, member: str, address: Address | None) -> PlanStep:
    """The step of the machine `member`, which is to have `address` in the overlay (None: any)."""
    zone, wanted = overlay.zone.name, f" with the address {address}" if address else ""
    if not overlay.network_id:
        return PlanStep(
            f"join the overlay of the zone {zone}",
            by_hand=f"join the overlay of the zone {zone} as {member}{wanted}, on an interface called "
            f"{overlay.zone.interface} (the plan has no ZeroTier network id)",
        )
    has = f"[ ,]{_dotted(address)}/" if address else ""
    seen = shell.quote(f" {overlay.network_id} .* OK .*{has}")
    todo = f"authorise {member} in the controller of the network {overlay.network_id}{wanted}: it is not so yet"
    script = (
        _SERVICE
        + f"zerotier-cli listnetworks | grep -q {shell.quote(f' {overlay.network_id} ')} ||"
        + f" zerotier-cli join {overlay.network_id}\n"
        + f"zerotier-cli listnetworks | grep -q {seen} || say {shell.quote(todo)}\n"
    )
    typed = f"zerotier-cli join {overlay.network_id}\nzerotier-cli listnetworks"
    typed += f"   # when it is authorised: OK{f', {address}' if address else ''}\n"
    return PlanStep(f"join the overlay of the zone {zone}", script, typed=typed)


def _dotted(address: Address) -> str:
    return str(address).replace(".", "\\.")


def controller(overlays: Sequence[Overlay]) -> tuple[PlanStep, ...]:
    """The steps to do once in each ZeroTier network's controller: the web panel, or a private one."""
    return tuple(
        PlanStep(f"once, in the controller of the ZeroTier network {overlay.network_id}", by_hand=_panel(overlay))
        for overlay in overlays
        if overlay.network_id
    )


def _panel(overlay: Overlay) -> str:
    zone = overlay.zone
    lines = [f"in the web panel of the network {overlay.network_id} (or your own controller):", ""]
    lines.append("- access control: private, so that only authorised members get in")
    if overlay.network is not None:
        lines.append(f"- managed routes: {overlay.network} without `via`; IPv4 auto-assign off, addresses given below")
    if zone.gateway is not None:
        for network in zone.networks:
            if overlay.managed:
                lines.append(f"- managed routes: {network} via {zone.gateway}")
            else:
                lines.append(f"- managed routes: none for {network} (the relay sets its own)")
    members = [("the relay", overlay.relay), (f"the gateway of {zone.name}", zone.gateway)]
    members += [(one.name, one.address) for one in overlay.members]
    lines += [f"- member {member}: authorised, managed address {address}" for member, address in members if address]
    return "\n".join(lines)


def directions(overlay: Overlay, other: Address | None, whose: str, public: Address | None) -> tuple[PlanStep, ...]:
    """The check that `whose` overlay address `other` answers, and what helps if not."""
    if other is None:
        return ()
    helps = f"; pinging its public address {public} helps ZeroTier find a direct way" if public else ""
    script = (
        f"if interface {shell.quote(overlay.zone.interface)} && command -v ping >/dev/null 2>&1; then\n"
        f"    ping -c 1 -W 2 {other} >/dev/null 2>&1 ||\n"
        f"        say {shell.quote(f'{whose} does not answer at {other} yet{helps}')}\n"
        "fi\n"
    )
    why = f"see that {whose} answers{helps}"
    return (PlanStep(why, shell.INTERFACE.lstrip("\n") + script, typed=f"ping -c 3 {other}\n"),)


def moon(plan: NetworkPlan) -> PlanStep:
    """The relay host's step to become a root of its own (a Moon): its files, and where each goes."""
    assert plan.public is not None, "relay.net.plan.conflicts refuses a Moon without a public address"
    endpoint = f"{plan.public}/9993"
    endpoints = shell.quote(rf's|"stableEndpoints": *\[[^]]*\]|"stableEndpoints": [ "{endpoint}" ]|')
    script = (
        _SERVICE
        + f"""home={HOME}
moon=$home/relay.moon.json
if [ ! -f "$moon" ]; then
    (umask 077 && zerotier-idtool initmoon "$home/identity.public" >"$moon.new")
    mv "$moon.new" "$moon"
fi
if ! grep -qF '"{endpoint}"' "$moon"; then
    (umask 077 && sed {endpoints} "$moon" >"$moon.new")
    mv "$moon.new" "$moon"
    grep -qF '"{endpoint}"' "$moon" || die "$moon has no line stableEndpoints: write \\"{endpoint}\\" into it"
    rm -f "$home/relay.moon.made"
fi
if [ ! -f "$home/relay.moon.made" ]; then
    mkdir -p "$home/moons.d"
    (cd "$home" && zerotier-idtool genmoon "$moon" >/dev/null && mv 000000*.moon moons.d/)
    : >"$home/relay.moon.made"
    {_RESTART}
fi
say "the Moon: on every other member put a copy of $(echo "$home"/moons.d/000000*.moon) into $home/moons.d/" \\
    "and restart zerotier-one; let UDP port 9993 of this machine through; zerotier-cli listmoons shows it"
"""
    )
    typed = f"""cd {HOME}
zerotier-idtool initmoon identity.public >relay.moon.json
# in relay.moon.json: "stableEndpoints": [ "{endpoint}" ]
zerotier-idtool genmoon relay.moon.json
mkdir -p moons.d && mv 000000*.moon moons.d/
systemctl restart zerotier-one
# and a copy of moons.d/000000*.moon into {HOME}/moons.d/ of every other member, which restarts too
zerotier-cli listmoons
"""
    why = "make this machine a ZeroTier root of your own (a Moon); UDP port 9993 must come through"
    return PlanStep(why, script, typed=typed)


def moon_member(plan: NetworkPlan) -> tuple[PlanStep, ...]:
    """The steps of every other member for the Moon."""
    if not plan.moon:
        return ()
    script = f"""if [ -z "$(ls {HOME}/moons.d/*.moon 2>/dev/null)" ]; then
    say "the Moon: copy the relay's {HOME}/moons.d/000000*.moon into {HOME}/moons.d/ here, and restart zerotier-one"
fi
"""
    typed = f"""cp 000000*.moon {HOME}/moons.d/   # from the relay's {HOME}/moons.d/
systemctl restart zerotier-one
zerotier-cli listmoons
"""
    return (PlanStep("take the relay's Moon as a root", script, typed=typed),)
