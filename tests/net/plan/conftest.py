"""A machine on which the printed scripts run as they are, and what its kernel and its files hold afterwards."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from relay.net.plan.machine import PROTOCOL, Machine
from relay.net.plan.render import render
from tests.lab.world import HOME, World
from tests.lab.world import Machine as World_Machine

SHELLS = (("dash",), ("busybox", "sh"))
PROGRAMS = f"{HOME}/programs"  # stands first in the scripts' PATH: for stand-ins of ZeroTier's programs
_PATH = f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Held:
    """What a machine holds of ours, and every time at which a file of it was written."""

    rules: str
    routes: tuple[str, ...]
    forwarding: str
    files: str


class Box:
    """One machine of a test's own."""

    def __init__(self, machine: World_Machine) -> None:
        self.machine = machine

    def script(self, text: str, *shell: str, status: int = 0) -> str:
        """Run a printed script as `sh FILE` does; what it said."""
        self.machine.write("/run/script.sh", text)
        done = self.machine.done(*(shell or SHELLS[0]), "/run/script.sh", PATH=_PATH)
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def twice(self, text: str, *shell: str) -> tuple[str, Held]:
        """Run it twice: the second time nothing changes. What the first run said, and what there is."""
        said = self.script(text, *shell)
        first = self.held()
        again = self.script(text, *shell)
        assert "written" not in again, again
        assert self.held() == first
        return said, first

    def printed(self, machine: Machine, *shell: str) -> tuple[str, Held]:
        """The same of a machine's share as it is printed."""
        return self.twice(render(machine), *shell)

    def place(self, machine: Machine) -> None:
        """Write a share's files, and run nothing."""
        for file in machine.files:
            self.machine.write(file.path, file.text, file.mode)

    def program(self, name: str, text: str) -> None:
        """A stand-in for a program that is not ours."""
        self.machine.write(f"{PROGRAMS}/{name}", text, 0o755)

    def link(self, name: str, *addresses: str) -> None:
        """An interface that is up and has these addresses."""
        lines = [f"link add {name} type veth peer name far_{name}", f"link set far_{name} up", f"link set {name} up"]
        self.machine.ip(*lines, *(f"address add {one} dev {name}{' nodad' * (':' in one)}" for one in addresses))

    def routes(self) -> tuple[str, ...]:
        """Our routes, IPv4 first."""
        text = "".join(self.machine.run("ip", f, "route", "show", "proto", str(PROTOCOL)) for f in ("-4", "-6"))
        return tuple(line.replace(" dev lo", "").replace(" pref medium", "").strip() for line in text.splitlines())

    def rules(self) -> str:
        """Every rule of every table, with neither counters nor built-in chains that are empty."""
        return self.machine.sh("nft -s list ruleset 2>/dev/null")

    def held(self) -> Held:
        """What there is now."""
        files = "find /etc/relay-net /etc/systemd /var/lib -type f -printf %p:%m:%T@:%s\\n"
        forwarding = self.machine.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
        return Held(self.rules(), self.routes(), "".join(forwarding.split()), self.machine.done(*files.split()).stdout)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The namespace of all machines of a module."""
    with World() as made:
        yield made


_NUMBERS = iter(range(10_000))


@pytest.fixture
def box(world: World) -> Iterator[Box]:
    """A bare machine."""
    machine = world.machine(f"box{next(_NUMBERS)}").ready()
    yield Box(machine)
    machine.close()
