"""Were a zone's interface gone now, would anything of this machine leave by another one? As a leg of `net verify`.

The fallback route and the nft guard of `relayctl net apply` are what prevents it; whatever else does is as good.
"""

from collections.abc import Sequence

from relay.core.policy.model import Address, Zone
from relay.errors import RelayError
from relay.net import system_commands
from relay.net.diagnose import leak_analysis, nft_ruleset
from relay.net.diagnose.leak_analysis import Fate
from relay.net.diagnose.nft_ruleset import Ruleset
from relay.net.diagnose.path_verdict import Leg
from relay.net.kernel import interfaces
from relay.net.kernel.interfaces import Interface

NAME = "no leak"


def look(zone: Zone, by: Interface, spared: Sequence[str]) -> Leg:
    """What would become of other programs' packets for the zone.

    `spared`: patterns of other zones' interfaces that may carry the same networks; one service may make them all, so
    they are taken as gone, too. Raises OSError where the kernel does not answer, and RelayError off Linux.
    """
    there = interfaces.interfaces()
    names = {at.index: at.name for at in there}
    others = {name for pattern in spared for name in interfaces.candidates(pattern, names.values())}
    gone = [at for at in there if at.index == by.index or at.name in others]
    fates = leak_analysis.fates(
        zone.networks, {at.index for at in gone}, [address for at in gone for address in at.addresses]
    )
    leaving = [(one, _by(one, names)) for one in fates if one.leaves]
    without = f"were {' and '.join(sorted(at.name for at in gone))} gone"
    guard, unseen = _ruleset()
    stopping = ""
    for one, name in leaving:
        if guard is not None and (stopping := guard.stops(one.address, name)):
            continue
        via = f" via {one.hop.gateway}" if one.hop is not None and one.hop.gateway else ""
        what = f"{without}, another program's packets for {one.address} would leave by {name}{via}"
        if guard is None:
            what += f", unless nft stops them, which cannot be seen ({unseen})"
            return Leg(NAME, "warning", what, "sudo relayctl net verify")
        return Leg(NAME, "fault", what, "sudo relayctl net apply")
    on_link = None if guard is None else _on_link(zone, by.name, guard)
    if on_link is not None:
        what = (
            f"were its route gone, open connections would ask for {on_link} on {by.name} itself, "
            "and another member of the overlay could answer"
        )
        # of a pattern that nft does not know as it is no such rule can be made
        named = "" if "?" not in zone.interface else f"write {by.name} as `interface:` of {zone.name}, then: "
        return Leg(NAME, "warning", what, f"{named}sudo relayctl net apply")
    refused = next((one.how for one in fates if not one.leaves and one.network in zone.networks), "")
    foreign = next((name for name in names.values() if name not in {by.name, "lo", *others}), "")
    if guard is not None and foreign and not stopping:
        stopping = guard.stops(leak_analysis.ends(zone.networks[0])[0], foreign)
    reasons = [reason for reason in (refused, f"nft's table {stopping}" if stopping else "") if reason]
    kept = " and ".join(reasons) or "that there is no other route"
    prevents = "prevent" if len(reasons) > 1 else "prevents"
    return Leg(NAME, "ok", f"{without}, nothing would leave elsewhere: {kept} {prevents} it")


def _on_link(zone: Zone, interface: str, guard: Ruleset) -> Address | None:
    """An address of the zone that nft lets out to somebody else than the gateway; None: there is none.

    A socket that is bound to an interface ignores fallback routes: without a route it takes every address as on-link.
    """
    for network in zone.networks:
        for end in leak_analysis.ends(network):
            foreign = zone.gateway is None or end.version != zone.gateway.version or end == zone.gateway
            if not foreign and not guard.stops(end, interface, end):
                return end
    return None


def _by(one: Fate, names: dict[int, str]) -> str:
    return names.get(one.hop.index, "?") if one.hop is not None else "?"


def _ruleset() -> tuple[Ruleset | None, str]:
    """nft's rules, or None and why they cannot be seen."""
    try:
        ended = system_commands.run("nft", "-j", "list", "ruleset")
    except RelayError as error:
        return None, error.what
    if ended.status:
        return None, ended.why
    try:
        return nft_ruleset.parse(ended.output), ""
    except ValueError:
        return None, "its listing cannot be read"
