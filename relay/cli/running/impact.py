"""Impact preview: the open connections and forwards that a candidate policy would end, decided by the workers' code."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import click

from relay.cli.running import open_sessions
from relay.cli.running.open_sessions import OpenSessions, Row
from relay.core.escape import escape
from relay.core.keys import keyring
from relay.core.keys.keyring import Keyring
from relay.core.policy import snapshot
from relay.core.policy.model import Destination, Identity, Zone
from relay.core.policy.policy import Policy
from relay.core.settings import Settings, settings_to_json
from relay.net.kernel import netlink
from relay.serve import control_client
from relay.serve.authorizer import Authorizer
from relay.site.locate import Site


@dataclass(frozen=True, slots=True)
class ImpactedItem:
    """One connection or forward that would end; `reason` is a stable word, `detail` a sentence."""

    connection: Row
    forward: Row | None  # None: the whole connection
    reason: str
    detail: str

    def __str__(self) -> str:
        one, row = self.connection, self.forward
        person = f"{escape(str(one['person']), 40)} from {open_sessions.client(one) or 'somewhere'}"
        if row is None:
            targets = ", ".join(open_sessions.target(each) for each in one["forwards"]) or "nothing"
            what = f"connection {escape(str(one['c']), 40)} of {person}, which carries {targets}"
        else:
            what = f"forward {escape(str(row['f']), 40)} of {person} to {open_sessions.target(row)}"
        return f"{what}: {self.reason}" + (f" ({escape(self.detail, 300)})" if self.detail else "")


def candidate_authorizer(site: Site, policy: Policy, settings: Settings, keys: Keyring) -> Authorizer:
    """The authorizer that the workers would have with a candidate policy. Raises RelayNotRunning."""
    status = control_client.call(site.state, {"do": "status"})
    pairs = [str(where).rpartition(":") for where in status.get("listening", ())]
    made = Authorizer(lambda: None)
    listening = [[host.strip("[]"), int(port)] for host, _, port in pairs if port.isdigit()]
    made.load({"t": "settings", "settings": settings_to_json(settings), "listening": listening})
    for kind, lines in (("policy", snapshot.dump(policy)), ("keys", keyring.dump(keys))):
        made.load({"t": kind, "lines": list(lines), "first": True, "last": True})
    return made


def impact_of_policy(found: OpenSessions, authorizer: Authorizer) -> Iterator[ImpactedItem]:
    """The sessions that this authorizer would end, decided as in Session.check_key and check_forwards."""
    try:
        for one in found.connections:
            if one["person"]:
                yield from _of_connection(one, authorizer)
    finally:
        netlink.close_thread_socket()


def _of_connection(one: Row, authorizer: Authorizer) -> Iterator[ImpactedItem]:
    try:
        source = ip_address(str(one.get("client")))
    except ValueError:
        return  # known to the supervisor only: the worker did not answer
    touched, verified = bool(one.get("touched")), bool(one.get("verified"))
    who = Identity(str(one["person"]), str(one["key"]), source, "key", touched, verified)
    why = authorizer.key_revocation(who)
    if why is not None:
        yield ImpactedItem(one, None, *why)
        return
    for row in one["forwards"]:
        destination = Destination(str(row["zone"]), ip_address(str(row["address"])), int(row["port"]))
        interface, gateway = row.get("interface"), row.get("gateway")
        dialled = Zone(destination.zone, (), str(interface), None if gateway is None else ip_address(str(gateway)))
        why = authorizer.revocation(who, destination, None if interface is None else dialled)
        if why is not None:
            yield ImpactedItem(one, row, *why)


def impact_of_keys(found: OpenSessions, fingerprints: Iterable[str]) -> Iterator[ImpactedItem]:
    """The connections that would end if these keys were revoked."""
    gone = frozenset(fingerprints)
    return (ImpactedItem(one, None, "key-revoked", "") for one in found.connections if one["key"] in gone)


def print_impact(cuts: Sequence[ImpactedItem], found: OpenSessions) -> None:
    """Print the connections and forwards that would be cut."""
    for cut in cuts:
        click.echo(f"would be cut: {cut}")
    for line in open_sessions.silent_worker_lines(found.silent):
        click.echo(line, err=True)
    if not cuts:
        click.echo(f"no connection would be cut ({open_sessions.summary(found)})")


def as_json(cuts: Sequence[ImpactedItem]) -> list[Row]:
    """The impact as JSON."""
    return [
        {
            "connection": cut.connection["c"],
            "forward": None if cut.forward is None else cut.forward["f"],
            "person": cut.connection["person"],
            "fingerprint": cut.connection["key"],
            "client": cut.connection.get("client"),
            "asked": None if cut.forward is None else cut.forward.get("asked"),
            "reason": cut.reason,
            "detail": cut.detail,
        }
        for cut in cuts
    ]
