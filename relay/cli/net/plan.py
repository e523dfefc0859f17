"""`relayctl net plan`: what each machine needs, as scripts or as pages to read."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli import Context
from relay.errors import InputRejected, RelayError

if TYPE_CHECKING:
    from relay.core.keys.authorized_keys import Key
    from relay.core.network_plan import NetworkPlan, Overlay, OverlayMember
    from relay.core.policy.model import Host
    from relay.core.policy.reachable_targets import Reachable
    from relay.net.plan.machine import Machine
    from relay.site.locate import Site
    from relay.site.policy.compiler import Compiled

_MACHINES = ("relay", "gateway", "lan-host", "client")
# flags that are keys of network.yaml's overlays
_OVERLAY = ("network_id", "network", "relay", "lan_interface", "lan_address", "route")


@click.command()
@click.option("--machine", type=click.Choice(_MACHINES), help="Only this one (else all of them).")
@click.option("--zone", default="", metavar="ZONE", help="Only this zone; the overlay's flags are about it.")
@click.option("--host", default="", metavar="HOST", help="Only this host of a LAN.")
@click.option("--person", default="", metavar="PERSON", help="Whose client it is, and whose keys LAN hosts get.")
@click.option("--member", default="", metavar="NAME", help="Which member of the overlay the client is (method 2).")
@click.option("--method", type=click.Choice(["1", "2"]), default="1", help="1: jump by the relay. 2: full routing.")
@click.option("--firewall", type=click.Choice(["nft", "iptables"]), default="nft", help="The gateway's rules.")
@click.option("--format", "form", type=click.Choice(["sh", "md"]), help="To run, or to read (sh for one machine).")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Write a file per machine there.")
@click.option("--public", metavar="ADDRESS", help="The relay host's address in the underlay.")
@click.option("--moon/--no-moon", default=None, help="The relay host is a ZeroTier root too.")
@click.option("--network-id", metavar="ID", help="ZeroTier's id of the network.")
@click.option("--network", metavar="NETWORK", help="The overlay's own addresses, like 172.18.0.0/24.")
@click.option("--relay-address", "relay", metavar="ADDRESS", help="The relay's address in the overlay.")
@click.option("--lan-interface", metavar="NAME", help="The gateway's interface towards the LAN.")
@click.option("--lan-address", metavar="ADDRESS", help="The gateway's address in the LAN.")
@click.option(
    "--route",
    type=click.Choice(["managed", "relay"]),
    help="Origin of the relay's route into the LAN: the overlay's controller, or the relay itself.",
)
@click.option("--add-member", "members", multiple=True, metavar="NAME=ADDRESS", help="One more client of method 2.")
@click.pass_obj
def plan(ctx: Context, /, **given: Any) -> None:
    """Print what each machine needs, as scripts.

    For the relay host, each zone's gateway, each host of a LAN and a person's client: what to do, in its order. The
    zones come from the policy, the rest from network.yaml in the site, or from flags, which stand above it. Each
    script may be run again at any time, and by the shell of a NAS. Nothing is changed here.

    \b
    Example:
      relayctl net plan
      relayctl net plan --machine gateway --zone office > gateway.sh
      relayctl net plan --machine gateway --zone office --firewall iptables
      relayctl net plan --machine lan-host --host remote --person alice
      relayctl net plan --method 2 --machine client --member alice-laptop
      relayctl net plan --output scripts/
    """
    from relay.cli.net import plan_input
    from relay.net.plan.render import render

    site = ctx.site()
    network, compiled = plan_input.read_plan(site, _flags(site, given))
    machines = list(_Wanted(network, compiled, site, given).machines())
    form = given["form"] or ("sh" if given["machine"] or given["output"] else "md")
    if given["output"]:
        _write(given["output"], {f"{name}.{form}": render(machine, form) for name, machine in machines})
    elif form == "sh" and len(machines) > 1:
        names = ", ".join(name for name, _ in machines)
        raise InputRejected(
            f"there are {len(machines)} scripts, each for a machine of its own: {names}",
            "name one with --machine, --zone, --host, --person; or write them all: --output DIR",
        )
    else:
        click.echo("\n".join(render(machine, form) for _, machine in machines), nl=False)
    if form == "sh":
        for warning in dict.fromkeys(warning for _, machine in machines for warning in machine.warnings):
            click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)


def _flags(site: "Site", given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags in the shape of network.yaml."""
    flags: dict[str, Any] = {}
    if given["public"]:
        flags["relay"] = {"public": given["public"]}
    if given["moon"] is not None:
        flags["moon"] = given["moon"]
    overlay: dict[str, Any] = {key: given[key] for key in _OVERLAY if given[key] is not None}
    members = [text.partition("=") for text in given["members"]]
    for name, equals, address in members:
        if not (name and equals and address):
            raise InputRejected("--add-member takes a name and an address", "--add-member alice-laptop=172.18.0.11")
    if members:
        overlay["members"] = {name: address for name, _, address in members}
    if overlay:
        flags["overlays"] = {given["zone"] or _only_zone(site): overlay}
    return flags


def _only_zone(site: "Site") -> str:
    from relay.cli.net import plan_input

    overlays = plan_input.read_plan(site)[0].overlays
    names = [overlay.zone.name for overlay in overlays if overlay.zone.interface != "lo"]
    if len(names) != 1:
        raise InputRejected(
            f"the flags are about one of {len(names)} zones" if names else "the policy has no zone to plan",
            f"--zone {'|'.join(names)}" if names else "define one under `zones:` in policies/",
        )
    return names[0]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The machines that the options select."""

    plan: "NetworkPlan"
    compiled: "Compiled"
    site: "Site"
    given: Mapping[str, Any]

    @property
    def method(self) -> int:
        return int(self.given["method"])

    def machines(self) -> Iterator[tuple[str, "Machine"]]:
        """(name of a file, machine), in the order of the steps. Raises RelayError for an unknown or missing name."""
        only = self.given["machine"]
        if only in (None, "relay"):
            yield "relay", self._relay()
        overlays = self._overlays()
        for overlay in overlays if only in (None, "gateway") else ():
            if only or overlay.zone.gateway is not None:
                yield f"gateway-{overlay.zone.name}", self._gateway(overlay)
        hosts = self._hosts() if only in (None, "lan-host") else []
        if only == "lan-host" and not hosts:
            raise RelayError("the policy names no host of a LAN", "name them under `hosts:` in policies/")
        for host in hosts:
            yield f"lan-host-{host.name}.{host.zone}", self._lan_host(host)
        if only in (None, "client"):
            yield from self._jump() if self.method == 1 else self._routing(overlays)

    def _overlays(self) -> list["Overlay"]:
        found = [overlay for overlay in self.plan.overlays if overlay.zone.interface != "lo"]
        name = self.given["zone"]
        if name and name not in {overlay.zone.name for overlay in found}:
            known = ", ".join(overlay.zone.name for overlay in found) or "none"
            raise InputRejected(f"the policy has no zone {name!r} to plan", f"there are: {known}")
        return [overlay for overlay in found if name in ("", overlay.zone.name)]

    def _relay(self) -> "Machine":
        from relay.net.kernel import route_guard
        from relay.net.plan import conflicts
        from relay.net.plan.relay_host import relay_machine

        machine = relay_machine(self.plan, method=self.method)
        try:
            seen = conflicts.with_routes(self.plan, route_guard.routes()) if self._here() else []
        except (OSError, RelayError):  # not on Linux, or no netlink here
            seen = []
        return replace(machine, warnings=(*machine.warnings, *seen))

    def _here(self) -> bool:
        """Whether this is the relay host itself, by its addresses."""
        from relay.net.kernel import interfaces

        own = interfaces.own_addresses()
        return self.plan.public in own or any(overlay.relay in own for overlay in self.plan.overlays)

    def _gateway(self, overlay: "Overlay") -> "Machine":
        from relay.net.plan.gateway import gateway_machine

        return gateway_machine(overlay, method=self.method, firewall=self.given["firewall"], plan=self.plan)

    def _hosts(self) -> list["Host"]:
        zones = {overlay.zone.name for overlay in self._overlays()}
        hosts = [host for host in self.compiled.policy.inventory.hosts.values() if host.zone in zones]
        name = self.given["host"]
        found = [host for host in hosts if name in ("", host.name, f"{host.name}.{host.zone}")]
        if name and not found:
            raise InputRejected(
                f"the policy has no host {name!r} there", f"there are: {', '.join(sorted(host.name for host in hosts))}"
            )
        return sorted(found, key=lambda host: (host.zone, host.name))

    def _lan_host(self, host: "Host") -> "Machine":
        from relay.net.plan.lan_host import lan_machine

        persons = {}
        for person, keys in self._keys().items():
            open_to = [place for place in self._reach(person) if place.host == host]
            if any(low <= host.port <= high for place in open_to for low, high in place.ports):
                persons[person] = tuple(f"{key.algorithm} {b64encode(key.blob).decode()}" for key in keys)
        return lan_machine(self.plan, host, persons)

    def _keys(self) -> dict[str, list["Key"]]:
        """The keys of the selected persons. Raises InputRejected for a person without any."""
        from relay.site import key_files

        found: dict[str, list[Key]] = {}
        for key in key_files.read(self.site.path).keys.values():
            found.setdefault(key.person, []).append(key)
        name = self.given["person"]
        if name and name not in found:
            raise InputRejected(f"no person called {name!r} has a key", "see: relayctl list-keys")
        return {person: keys for person, keys in found.items() if name in ("", person)}

    def _reach(self, person: str) -> tuple["Reachable", ...]:
        import time

        from relay.core.policy.reachable_targets import reach

        return tuple(reach(self.compiled.policy, person, None, int(time.time())))

    def _jump(self) -> Iterator[tuple[str, "Machine"]]:
        from relay.core.policy.target import parse_spec
        from relay.net.plan.client import jump_client
        from relay.people import client_config
        from relay.store import host_keys

        asked = self.given["machine"] == "client"
        persons = sorted(self._keys())
        if asked and len(persons) != 1:
            raise InputRejected(
                "a client is one person's" if persons else "no person has a key yet",
                f"--person {'|'.join(persons[:5])}" if persons else "relayctl add-key PERSON FILE",
            )
        if not self.compiled.policy.public:
            if asked:
                raise RelayError(
                    "the site does not say how people reach the relay",
                    "set it in relay.yaml, like `public: relay.example.com:22`",
                )
            return
        for person in persons if asked or self.given["person"] else persons[:1]:
            one = client_config.make_client(
                person,
                parse_spec(self.compiled.policy.public),
                host_keys=tuple((key.public, key.fingerprint) for key in host_keys.load(self.site.state)),
                keys=tuple(self._keys()[person]),
                places=self._reach(person),
            )
            yield f"client-{person}", jump_client(person, client_config.config(one), client_config.known_hosts(one))

    def _routing(self, overlays: list["Overlay"]) -> Iterator[tuple[str, "Machine"]]:
        from relay.net.plan.client import routing_client

        name = self.given["member"]
        for overlay in overlays:
            members: list[OverlayMember | None] = [one for one in overlay.members if name in ("", one.name)]
            if name and not members:
                known = ", ".join(one.name for one in overlay.members) or "none"
                raise InputRejected(
                    f"the overlay of {overlay.zone.name} has no member {name!r}",
                    f"it has {known}; or: --add-member {name}=172.18.0.11",
                )
            for member in members or [None]:
                label = member.name if member else "any"
                yield f"client-{label}.{overlay.zone.name}", routing_client(self.plan, overlay, member)


def _write(directory: Path, texts: Mapping[str, str]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text)
            click.echo(str(directory / name))
    except OSError as error:
        raise RelayError(f"{error.filename} cannot be written: {error.strerror}", "--output another DIR") from None
