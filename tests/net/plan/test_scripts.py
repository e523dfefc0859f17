"""What every script of every share has in common."""

import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.net.plan.client import jump_client, routing_client
from relay.net.plan.gateway import gateway_machine
from relay.net.plan.lan_host import lan_machine
from relay.net.plan.machine import Machine, ManagedFile, PlanStep
from relay.net.plan.relay_host import relay_machine
from relay.net.plan.render import render
from tests.net.plan.conftest import SHELLS, Box
from tests.net.plan.shares import KEY, LAPTOP, REMOTE, overlay, plan, plant, six

ID = "8056c2e21c000001"


def shares() -> list[Machine]:
    """A share of every kind, with and without ZeroTier, in both forms and methods."""
    office = overlay(network_id=ID, interface="zt*", members=(LAPTOP,), managed=False)
    whole = plan(office, plant(managed=False), six(interface="wg0"), moon=True)
    out = [relay_machine(whole, method=method) for method in (1, 2)]
    for method, firewall, one in product((1, 2), ("nft", "iptables"), (office, six())):
        out.append(gateway_machine(one, method=method, firewall=firewall, plan=whole))
    out += [lan_machine(whole, REMOTE, {"alice": (KEY,)}), lan_machine(whole, REMOTE, {})]
    return [*out, jump_client("alice", "Host relay\n", ["a b c"]), routing_client(whole, office, LAPTOP)]


def scripts() -> list[str]:
    """Every script: what is printed, and the files in it."""
    out = []
    for machine in shares():
        out += [render(machine), *(file.text for file in machine.files if file.text.startswith("#!"))]
    return list(dict.fromkeys(out))


@pytest.mark.system
def test_shellcheck(tmp_path: Path) -> None:
    """shellcheck has nothing to say about any of them, as POSIX sh."""
    files = []
    for number, script in enumerate(scripts()):
        files.append(tmp_path / f"{number}.sh")
        files[-1].write_text(script)
    done = subprocess.run(["shellcheck", "--shell", "sh", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_syntax(shell: tuple[str, ...]) -> None:
    """Each shell can read each of them."""
    for script in scripts():
        done = subprocess.run([*shell, "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_stops_at_errors() -> None:
    """Each of them stops at the first command that fails, and at a name that is not set."""
    for script in scripts():
        assert "\nset -eu\n" in script


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_any_file_arrives_as_it_is(box: Box, shell: tuple[str, ...]) -> None:
    """A file's text is never read as shell text, not even where it holds the end of a here-document."""
    hostile = "$HOME `id` $(id) \\ 'a' \"b\"\nEND-OF-FILE\n\tEND-OF-FILE \nEND-\n* ~\n"
    machine = Machine("relay", files=(ManagedFile("/etc/relay-net/a b'c", hostile, 0o600),), up=":")
    box.script(render(machine), *shell)
    assert box.machine.path("/etc/relay-net/a b'c").read_text() == hostile
    assert box.machine.sh("stat -c %a /etc/relay-net/a*").strip() == "600"


@pytest.mark.system
def test_half_written_file_is_replaced(box: Box) -> None:
    """What an earlier run left half written is written whole, and a mode that was changed is set back."""
    machine = relay_machine(plan())
    box.printed(machine)
    box.machine.sh("echo half >/etc/relay-net/up.new; echo half >/etc/relay-net/down; chmod 600 /etc/relay-net/watch")
    said = box.script(render(machine))
    assert [line.split()[-1] for line in said.splitlines() if "written" in line] == ["/etc/relay-net/down"]
    assert box.machine.sh("stat -c %a /etc/relay-net/watch").strip() == "755"
    assert not box.machine.path("/etc/relay-net/up.new").exists()


_OCTET = st.integers(0, 255)
_NETWORK = st.one_of(
    st.tuples(_OCTET, _OCTET, st.integers(16, 24)).map(lambda t: f"10.{t[0]}.0.0/{min(t[2], 16)}"),
    st.tuples(_OCTET, _OCTET).map(lambda t: f"192.168.{t[0]}.{t[1]}/32"),
    st.sampled_from(["10.0.0.0/8", "192.168.0.0/16", "192.168.0.0/17"]),
)
_INTERFACE = st.sampled_from(["zt0", "zt*", "wg?", "a.b-c@d", "tailscale0", "x*y?"])


@pytest.mark.system
@settings(max_examples=15, deadline=None)
@given(zones=st.lists(st.tuples(st.lists(_NETWORK, min_size=1, max_size=4, unique=True), _INTERFACE), max_size=5))
def test_rules_of_any_zones_load(zones: list[tuple[list[str], str]], world: Any) -> None:
    """Whatever the zones are, nft takes the relay's rules as they are printed, nested and equal networks too."""
    made = [
        overlay(f"z{number}", *networks, interface=interface, network="", relay="")
        for number, (networks, interface) in enumerate(zones)
    ]
    rules = "".join(file.text for file in relay_machine(plan(*made)).files if file.path.endswith(".nft"))
    machine = next(iter(world.machines.values()), None) or world.machine("rules").ready()
    machine.run("nft", "-c", "-f", "-", stdin=rules)


def test_page() -> None:
    """The page to read has every warning, every step and every file of a share."""
    for machine in shares():
        page = render(machine, "md")
        assert page.startswith("## ")
        for warning in machine.warnings:
            assert warning in page
        for step in (*machine.before, *machine.after):
            assert step.by_hand in page
        for file in machine.files:
            assert file.path in page


def test_page_fences() -> None:
    """A text with fences of its own does not end the page's fence."""
    page = render(Machine("relay", before=(PlanStep("why", "echo '```'\n"),)), "md")
    assert page.count("````") == 2
