"""Network namespaces of a test's own, in which veth ends named zt0 stand in for ZeroTier's interface.

As root with `unshare -nm`, without root with `unshare -Urnm`; nothing outside is touched and no packet leaves.
The namespace dies with the pipe its holder reads from, so also when the test process is killed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ASK = """
import json, sys
from ipaddress import ip_address
from relay.net.kernel import interfaces, route_guard
interface, address, gateway, port = json.loads(sys.argv[1])
answer = route_guard.guard(interface, ip_address(address), ip_address(gateway) if gateway else None, port=port)
print(json.dumps([answer.ok, answer.reason, answer.detail, answer.interface]))
"""
SHOW = """
import json
from relay.net.kernel import interfaces, route_guard
print(json.dumps([
    [[at.name, at.up, sorted(map(str, at.addresses)), at.loopback] for at in interfaces.interfaces()],
    [[str(at.network), str(at.gateway), at.interface, at.metric] for at in route_guard.routes()],
]))
"""


class Namespace:
    """A network namespace held open by a process that waits for its standard input to end."""

    def __init__(self) -> None:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self.holder = subprocess.Popen(
            ["unshare", *user, "--net", "--mount", "sh", "-c", "echo ready; exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "ready\n", "no network namespace could be made"
        self._enter = ["nsenter", "-t", str(self.holder.pid), "--net", "--mount"]
        if user:
            self._enter += ["--user", "--preserve-credentials"]

    def close(self) -> None:
        """End the holder; the kernel takes the namespace and its interfaces away."""
        self.holder.communicate(timeout=10)

    def run(self, *command: str) -> str:
        """Run one command inside and give what it prints."""
        done = subprocess.run(
            [*self._enter, *command], capture_output=True, text=True, timeout=30, cwd=CHECKOUT, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start one command inside; the caller ends it."""
        return subprocess.Popen([*self._enter, *command], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)

    def ip(self, *lines: str) -> None:
        """Run ip(8) with each line's words."""
        for line in lines:
            self.run("ip", *line.split())

    def link(self, name: str, *addresses: str) -> None:
        """An interface `name` (with a veth end far_NAME as its cable) that is up and has these addresses."""
        self.ip(f"link add {name} type veth peer name far_{name}", f"link set far_{name} up", f"link set {name} up")
        for address in addresses:
            self.ip(f"address add {address} dev {name}" + (" nodad" if ":" in address else ""))

    def guard(
        self, interface: str, address: str, gateway: str = "", port: int = 0
    ) -> tuple[bool, str | None, str, str]:
        """What `routes.guard` answers inside: (ok, reason, detail, interface)."""
        ok, obstacle, detail, name = json.loads(
            self.run(sys.executable, "-c", ASK, json.dumps([interface, address, gateway, port]))
        )
        return ok, obstacle, detail, name

    def show(self) -> tuple[list[list[object]], list[list[object]]]:
        """What `interfaces()` and `routes()` answer inside."""
        links, routes = json.loads(self.run(sys.executable, "-c", SHOW))
        return links, routes


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """An empty network namespace whose lo is up."""
    made = Namespace()
    try:
        made.ip("link set lo up")
        yield made
    finally:
        made.close()


@pytest.fixture
def relay_host(namespace: Namespace) -> Namespace:
    """The relay of the network plan: underlay with the default route, overlay zt0, the LAN behind its gateway."""
    namespace.link("eth0", "198.51.100.10/24", "fdee::10/64")
    namespace.link("zt0", "172.18.0.10/24", "fd18::10/64")
    namespace.ip(
        "route add default via 198.51.100.1",
        "-6 route add default via fdee::1",
        "route add 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000",
        "-6 route add fdaa::/64 via fd18::200 dev zt0 metric 5000",
    )
    return namespace
