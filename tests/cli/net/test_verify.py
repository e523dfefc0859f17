"""`relayctl net verify` without a network: which places are meant, and what is said where nothing is there."""

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import click
import pytest

from relay.cli.net import verify
from relay.cli.net.zones import PlannedZones
from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Host, Zone
from tests.cli.conftest import Done

LAN = ip_network("192.168.1.0/24")
OFFICE = Overlay(Zone("office", (LAN,), "zt0", ip_address("172.18.0.200")))
PLANT = Overlay(Zone("plant", (LAN, ip_network("fdaa::/64")), "zt1", ip_address("10.147.20.200")))
HERE = Overlay(Zone("here", (ip_network("127.0.0.0/8"),), "lo"))
REMOTE = Host("remote", "office", ip_address("192.168.1.201"))
RECORDER = Host("recorder", "office", ip_address("192.168.1.50"), port=2022)
TWIN = Host("remote", "plant", ip_address("192.168.1.201"))
SIX = Host("six", "plant", ip_address("fdaa::1"))
ZONES = PlannedZones(NetworkPlan((OFFICE, PLANT, HERE)), (REMOTE, RECORDER, TWIN, SIX))


def meant(*places: str) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """[(zone, [(host, address, port)])] of what was typed."""
    return [
        (one.zone.name, [(host.name, str(host.address), host.port) for host in one.hosts])
        for one in verify.path_requests(ZONES, places)
    ]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (
            (),
            [
                ("office", [("remote", "192.168.1.201", 22)]),
                ("plant", [("remote", "192.168.1.201", 22)]),
                ("here", []),
            ],
        ),
        (("plant",), [("plant", [("remote", "192.168.1.201", 22)])]),
        (("remote.plant",), [("plant", [("remote", "192.168.1.201", 22)])]),
        (("recorder",), [("office", [("recorder", "192.168.1.50", 2022)])]),
        (("recorder:23",), [("office", [("recorder", "192.168.1.50", 23)])]),
        (("192.168.1.50.office",), [("office", [("recorder", "192.168.1.50", 2022)])]),
        (("192.168.1.77.plant:80",), [("plant", [("192.168.1.77", "192.168.1.77", 80)])]),
        (("six", "[fdaa::2]:23", "fdaa::3"), [("plant", [("six", "fdaa::1", 22), ("fdaa::2", "fdaa::2", 23),
                                                        ("fdaa::3", "fdaa::3", 22)])]),
        (("remote.office", "plant", "recorder"), [("office", [("remote", "192.168.1.201", 22),
                                                             ("recorder", "192.168.1.50", 2022)]),
                                                 ("plant", [("remote", "192.168.1.201", 22)])]),
    ],
)  # fmt: skip
def test_places_are_zones_hosts_and_addresses(places: tuple[str, ...], expected: object) -> None:
    """A zone stands for its first host, an address for the host that has it; a port may be named; nothing means all."""
    assert meant(*places) == expected


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("remote", "remote.office, remote.plant"),
        ("192.168.1.50", "192.168.1.50.office, 192.168.1.50.plant"),
        ("recordr", "did you mean recorder"),
        ("10.0.0.1", "is in no zone"),
        ("a b", "has spaces"),
        ("\x1b[31m", r"\x1b"),
    ],
)
def test_a_place_that_is_not_there_is_wrong_usage(place: str, why: str) -> None:
    """Ambiguous ones are named with their choices, unknown ones with the nearest; nothing moves a cursor."""
    with pytest.raises(click.BadParameter) as refused:
        meant(place)
    assert why in refused.value.message
    assert "\x1b" not in refused.value.message


def test_a_zone_without_its_interface_is_a_fault(relayctl: Callable[..., Done], site: Path) -> None:
    """A line, its cure below, exit status 1; the same for programs."""
    done = relayctl("--site", site, "net", "verify")
    assert done.returncode == 1
    title, *rest = done.stdout.splitlines()
    assert title == "office: 192.168.1.0/24 by zt*"
    assert any("fault    interface    interface-missing: no interface matches 'zt*'" in line for line in rest)
    assert rest[rest.index(next(line for line in rest if "interface-missing" in line)) + 1].strip().startswith("-> ")
    rows = json.loads(relayctl("--site", site, "net", "verify", "--json").stdout)
    assert [(row["zone"], row["state"]) for row in rows if row["name"] == "interface"] == [("office", "fault")]


def test_a_policy_without_zones_says_what_to_write(relayctl: Callable[..., Done], site: Path) -> None:
    """Nothing to verify is no success."""
    (site / "policies" / "a.yaml").write_text("{}\n")
    done = relayctl("--site", site, "net", "verify")
    assert done.returncode == 1
    assert "the policy has no zone" in done.stderr
    assert "`zones:`" in done.stderr
