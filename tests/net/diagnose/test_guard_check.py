"""The check of the relay host's own guard, against nft and routes of a namespace."""

import json
import sys
from ipaddress import ip_address, ip_network

import pytest

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Zone
from relay.net.diagnose import guard_check
from tests.net.conftest import Namespace

CHECK = """
import json, os, sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Zone
from relay.net.diagnose import guard_check
from relay.net.plan.relay_host import relay_machine
method, user, write = json.loads(sys.argv[1])
zone = Zone("office", (ip_network("192.168.1.0/24"),), "zt0", ip_address("172.18.0.200"))
plan = NetworkPlan((Overlay(zone, network=ip_network("172.18.0.0/24")),))
for file in relay_machine(plan, method=method).files if write else ():
    Path(file.path).parent.mkdir(parents=True, exist_ok=True)
    Path(file.path).write_text(file.text)
if user:
    os.setuid(user)
print(json.dumps([[leg.name, leg.state, leg.what, leg.cure] for leg in guard_check.check_guard(plan)]))
"""
TABLE = "nft table relay_net is not loaded: packets for office may leave by another interface"
CHANGED = "nft table relay_net is not as planned: packets for office may leave by another interface"
ROUTE = "the route `unreachable 192.168.1.0/24` is missing: packets for it may leave by another interface"
FALLBACK = "unreachable 192.168.1.0/24 metric 4294967294 proto 114"


def check(host: Namespace, *, method: int = 1, user: int = 0, write: bool = False) -> list[list[str]]:
    """The legs inside as [name, state, what, cure]; `write`: after the files of the plan are written."""
    legs: list[list[str]] = json.loads(host.run(sys.executable, "-c", CHECK, json.dumps([method, user, write])))
    return legs


@pytest.fixture
def host(relay_host: Namespace) -> Namespace:
    """The relay host with an /etc of its own."""
    relay_host.run("mount", "-t", "tmpfs", "none", "/etc")
    return relay_host


@pytest.mark.system
def test_a_host_without_any_guard_has_one_finding_per_part(host: Namespace) -> None:
    """Table, route and files are each named, with the command that makes them."""
    table, route, files = check(host)
    assert table == ["guard", "fault", TABLE, "sudo relayctl net apply"]
    assert route == ["guard", "fault", ROUTE, "sudo relayctl net apply"]
    assert files[1] == "warning"
    assert files[2].startswith("not as planned: /etc/relay-net/rules.nft ")


@pytest.mark.system
@pytest.mark.parametrize(
    ("method", "cure"), [(1, "sudo relayctl net apply"), (2, "sudo relayctl net apply --method 2")]
)
def test_a_whole_guard_is_ok_and_each_loss_is_found(host: Namespace, method: int, cure: str) -> None:
    """A flushed chain, a deleted table and a deleted route are each a fault; the cure keeps the method in use."""
    check(host, method=method, write=True)
    host.run("nft", "-f", "/etc/relay-net/rules.nft")
    host.ip(f"route add {FALLBACK}")
    assert [leg[:2] for leg in check(host)] == [["guard", "ok"]]
    host.run("nft", "flush", "chain", "inet", "relay_net", "guard")
    assert check(host) == [["guard", "fault", CHANGED, cure]]
    host.run("nft", "delete", "table", "inet", "relay_net")
    assert check(host) == [["guard", "fault", TABLE, cure]]
    host.run("nft", "-f", "/etc/relay-net/rules.nft")
    host.ip(f"route del {FALLBACK}")
    assert check(host) == [["guard", "fault", ROUTE, cure]]


@pytest.mark.system
def test_a_changed_file_is_a_warning(host: Namespace) -> None:
    """The loaded guard is whole, but a restart would load another one."""
    check(host, write=True)
    host.run("nft", "-f", "/etc/relay-net/rules.nft")
    host.ip(f"route add {FALLBACK}")
    host.run("sh", "-c", "echo '#' >> /etc/relay-net/rules.nft")
    (leg,) = check(host)
    assert leg[1] == "warning"
    assert leg[2].startswith("not as planned: /etc/relay-net/rules.nft;")


@pytest.mark.system
def test_without_root_the_guard_is_left_out(host: Namespace) -> None:
    """nft lists its rules to root only, so nothing is claimed."""
    try:
        legs = check(host, user=65534)
    except AssertionError:  # a namespace without root has no second user to become
        return
    assert legs == [["guard", "skipped", "only root can list nft rules", "sudo relayctl net verify"]]


def test_zones_on_lo_need_no_guard() -> None:
    """Nothing for such a zone leaves the machine."""
    zone = Zone("here", (ip_network("127.0.0.0/8"),), "lo", ip_address("127.0.0.1"))
    assert guard_check.check_guard(NetworkPlan((Overlay(zone),))) == ()
