"""Zone status: which zones are up, as the kernel's routes say, with one audit row for each change."""

from dataclasses import replace
from ipaddress import ip_network

from relay.core.policy.inventory import Inventory
from relay.core.policy.model import Zone
from relay.core.policy.policy import EMPTY
from relay.core.policy.snapshot import dump
from relay.serve.supervisor.policy.running_config import CompiledSite
from relay.serve.supervisor.zone_status import ZoneStatus
from tests.serve.kept import Kept


def site(*zones: tuple[str, str, str]) -> CompiledSite:
    """A compiled site with these zones: name, network, interface."""
    inventory = Inventory()
    for name, network, interface in zones:
        inventory.add_zone(Zone(name, (ip_network(network),), interface, None))
    policy = replace(EMPTY, version="0011223344556677", inventory=inventory)
    return CompiledSite("0011223344556677", policy=tuple(dump(policy)))


async def test_a_missing_interface_is_down_and_recorded_once() -> None:
    """Loopback is up without a row; a zone whose interface does not exist is down, with one row for two checks."""
    audit = Kept()
    compiled = site(("here", "127.0.0.0/8", "lo"), ("office", "192.168.77.0/24", "absent0"))
    zones = ZoneStatus(audit, lambda: compiled)
    await zones.check()
    await zones.check()
    obstacles = zones.obstacles()
    assert obstacles["here"] == ""
    assert obstacles["office"]
    (row,) = audit.events
    assert (row.name, row.fields["zone"], row.fields["reason"]) == ("zone.down", "office", obstacles["office"])
    by_name = {zone["zone"]: zone for zone in zones.status()}
    assert by_name["here"]["up"]
    assert not by_name["office"]["up"]


async def test_a_zone_that_leaves_the_configuration_leaves_the_status() -> None:
    """After a reload without the zone its state is forgotten."""
    configurations = [site(("here", "127.0.0.0/8", "lo"), ("office", "192.168.77.0/24", "absent0"))]
    zones = ZoneStatus(Kept(), lambda: configurations[-1])
    await zones.check()
    assert set(zones.obstacles()) == {"here", "office"}
    configurations.append(site(("here", "127.0.0.0/8", "lo")))
    await zones.check()
    assert set(zones.obstacles()) == {"here"}
