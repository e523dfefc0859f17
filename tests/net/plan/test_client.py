"""The share of a client: an SSH configuration, or membership in the overlay and a route."""

import pytest

from relay.errors import RelayError
from relay.net.plan.client import jump_client, routing_client
from relay.net.plan.render import render
from tests.lab.world import HOME
from tests.net.plan.conftest import SHELLS, Box
from tests.net.plan.shares import KEY, LAPTOP, overlay, plan

CONFIG = "Host relay\n    HostName 1.1.1.1\n\nHost remote\n    ProxyJump relay\n    User ubuntu\n"
SSH = f"{HOME}/root/.ssh"


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_jump(box: Box, shell: tuple[str, ...]) -> None:
    """The configuration is a file of its own, included first; what the person has stays; the relay's key is pinned."""
    box.machine.write(f"{SSH}/config", "Host mine\n    Port 2200\n", 0o600)
    box.machine.write(f"{SSH}/known_hosts", "other ssh-rsa AAAA\n", 0o600)
    pinned = f"1.1.1.1 {KEY}"
    box.twice(render(jump_client("alice", CONFIG, [pinned])), *shell)
    assert box.machine.path(f"{SSH}/config").read_text() == "Include relay.config\n\nHost mine\n    Port 2200\n"
    assert box.machine.path(f"{SSH}/known_hosts").read_text() == f"other ssh-rsa AAAA\n{pinned}\n"
    for host, line in (("remote", "proxyjump relay"), ("remote", "user ubuntu"), ("mine", "port 2200")):
        assert line in box.machine.run("ssh", "-G", host).splitlines()


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_routes(box: Box, shell: tuple[str, ...]) -> None:
    """A member gets the route by the relay, before the managed one by the gateway; again, nothing changes."""
    box.link("zt0", "172.18.0.11/24")
    box.link("wlan0", "192.168.2.7/24")
    box.machine.ip("route add 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000")
    _, held = box.printed(routing_client(plan(), overlay(), LAPTOP), *shell)
    assert held.routes == ("192.168.1.0/24 via 172.18.0.10 dev zt0 metric 50",)
    assert "via 172.18.0.10" in box.machine.run("ip", "route", "get", "192.168.1.201")
    box.machine.run(*shell, "/etc/relay-net/down")
    assert box.routes() == ()


@pytest.mark.system
@pytest.mark.parametrize("home", ["192.168.1.7/24", "192.168.1.7/25", "192.168.0.7/16"])
def test_same_network_at_home(box: Box, home: str) -> None:
    """A client whose own LAN overlaps the zone's network is not cut off from it: the script stops and says why."""
    box.link("zt0", "172.18.0.11/24")
    box.link("wlan0", home)
    said = box.script(render(routing_client(plan(), overlay(), LAPTOP)), status=1)
    assert "this machine is in 192.168.1.0/24 itself" in said
    assert "method 1" in said
    assert box.routes() == ()


def test_warnings() -> None:
    """The script warns what method 2 opens, and that the zone's network may be in use at home."""
    found = routing_client(plan(), overlay()).warnings
    assert any("no audit row" in text for text in found)
    assert any("at home" in text for text in found)
    assert not any("at home" in text for text in routing_client(plan(), overlay("office", "10.77.0.0/16")).warnings)


def test_other_systems() -> None:
    """macOS and Windows get their own commands."""
    text = render(routing_client(plan(), overlay()))
    assert "route -n add -net 192.168.1.0/24 172.18.0.10" in text
    assert "route -p add 192.168.1.0 mask 255.255.255.0 172.18.0.10" in text


def test_relay_not_known() -> None:
    """Without the relay's address in the overlay there is no route."""
    with pytest.raises(RelayError, match="relay's address"):
        routing_client(plan(), overlay(relay=""))
