"""`relayctl net apply` as an administrator meets it: shown, asked, done, refused, interrupted."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from relay.errors import NotPermitted
from relay.net.apply import preview
from tests.cli.conftest import Done
from tests.lab.world import Machine, Running, World, wait_for

RELAYCTL = (sys.executable, "-P", "-m", "relay", "net", "apply")
POLICY = """\
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
"""
# stops where `up` sets the first route, and says that it is there
SLOW_IP = """\
#!/bin/sh
case $* in *"route replace"*) echo $$ >/run/there.new; mv /run/there.new /run/there; exec sleep 60 ;; esac
exec /run/ip "$@"
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A relay host with a site, on which nothing was applied."""
    with World() as world:
        made = world.machine("relay")
        made.write("/etc/relay/policies/policy.yaml", POLICY)
        made.ip(
            "link add zt0 type veth peer name far0",
            "link set far0 up",
            "link set zt0 up",
            "address add 172.18.0.10/24 dev zt0",
            "route add 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000",
        )
        yield made


def on_a_terminal(machine: Machine, answer: str, *options: str) -> tuple[int, str]:
    """Run it on a terminal and type the answer; its status and all that was to be seen."""
    here, there = pty.openpty()
    command = machine.command(*RELAYCTL, *options)
    run = subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=machine.environ(TERM="xterm"))
    os.close(there)
    os.write(here, answer.encode())
    seen = b""
    while True:
        try:
            piece = os.read(here, 1 << 16)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        seen += piece
    os.close(here)
    return run.wait(60), seen.decode().replace("\r\n", "\n")


def halfway(machine: Machine) -> Running:
    """A run whose `up` is in the middle of its work, and stays there."""
    machine.write("/run/slow", SLOW_IP, 0o755)
    hide = 'cp "$(command -v ip)" /run/ip; mount --bind /run/slow "$(command -v ip)"; exec "$@"'
    run = machine.start("unshare", "--mount", "sh", "-euc", hide, "sh", *RELAYCTL, "--yes", log="/run/said")
    wait_for(machine.path("/run/there").exists, "up did not get there")
    return run


@pytest.mark.system
def test_a_dry_run_shows_all_and_changes_nothing(machine: Machine) -> None:
    """Files, rules and routes as a diff; nothing of it is there afterwards."""
    said = machine.relayctl("net", "apply", "--dry-run")
    assert "\nsite /etc/relay\n" in said
    for line in ("+++ /etc/relay-net/rules.nft", "+++ kernel: nft table inet relay_net", "+++ kernel: routes"):
        assert f"{line}\n" in said
    assert said.endswith(
        "\nin short:\n"
        "  5 files written\n"
        "  nft table relay_net made\n"
        "  route set: unreachable 192.168.1.0/24 metric 4294967294\n"
        "nothing was changed: --dry-run\n"
    )
    assert not machine.path("/etc/relay-net").exists()
    assert machine.run("nft", "list", "ruleset") == ""


@pytest.mark.system
def test_applied_repeated_and_undone(machine: Machine) -> None:
    """Done once, nothing to do the second time, taken back, nothing to take back the second time."""
    said = machine.relayctl("net", "apply", "--yes")
    assert "wrote /etc/relay-net/up\n" in said
    assert "there is no systemd here" in said
    assert "\ndone; relayctl net verify walks the way into each zone\n" in said
    assert "unreachable 192.168.1.0/24" in machine.run("ip", "route")
    assert machine.relayctl("net", "apply", "--yes") == "nothing to do: all is as the plan says\nsite /etc/relay\n"
    said = machine.relayctl("net", "apply", "--dry-run", "--undo")
    assert "-table inet relay_net {\n" in said
    assert "  route removed: unreachable 192.168.1.0/24 metric 4294967294\n" in said
    said = machine.relayctl("net", "apply", "--undo", "--yes")
    assert said.endswith("everything was taken back\n")
    assert machine.run("nft", "list", "ruleset") == ""
    assert not machine.path("/etc/relay-net").exists()
    assert machine.relayctl("net", "apply", "--undo", "--yes") == "nothing to do: nothing was applied here\n"


@pytest.mark.system
def test_an_undo_needs_no_site(machine: Machine) -> None:
    """An undo works from the record: with a broken policy, and without any."""
    machine.relayctl("net", "apply", "--yes")
    machine.sh("rm -r /etc/relay")
    assert machine.relayctl("net", "apply", "--undo", "--yes").endswith("everything was taken back\n")


@pytest.mark.system
def test_it_asks_on_a_terminal(machine: Machine) -> None:
    """No means that nothing is changed; yes means all of what was shown."""
    status, seen = on_a_terminal(machine, "n\n")
    assert status == 1
    assert seen.endswith("nothing was changed\n")
    assert "do all of this [y/N]: " in seen
    assert not machine.path("/etc/relay-net/up").exists()
    status, seen = on_a_terminal(machine, "y\n")
    assert status == 0, seen
    assert "\x1b[32m+" in seen
    assert machine.path("/etc/relay-net/up").exists()


@pytest.mark.system
def test_without_a_terminal_it_does_not_guess(machine: Machine) -> None:
    """Wrong usage, with the option that says yes."""
    said = machine.relayctl("net", "apply", status=2)
    assert "there is no terminal to ask on; say --yes, or only look with --dry-run" in said
    assert not machine.path("/etc/relay-net").exists()


@pytest.mark.system
@pytest.mark.parametrize("options", [("--yes",), ("--dry-run",), ("--undo", "--yes")])
def test_only_root(machine: Machine, options: tuple[str, ...]) -> None:
    """Without root it says what to type, and changes nothing."""
    done = machine.done("unshare", "--user", *RELAYCTL, *options)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "relayctl: only root may set up routes and nft rules; nothing was changed\n"
        "  sudo relayctl net apply, or only look: relayctl net plan --machine relay\n"
    )


def test_only_on_linux(monkeypatch: pytest.MonkeyPatch, relayctl: Callable[..., Done]) -> None:
    """Elsewhere it names the script that can be carried over."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NotPermitted, match="is done on Linux, and this is darwin"):
        preview.require_root()


@pytest.mark.system
@pytest.mark.parametrize(("program", "package"), [("nft", "nftables"), ("ip", "iproute2")])
def test_a_missing_program_is_named_with_its_package(machine: Machine, program: str, package: str) -> None:
    """Found out before anything is changed."""
    hide = "for at in /usr/sbin/$0 /usr/bin/$0 /sbin/$0 /bin/$0; do [ ! -e $at ] || mount --bind /dev/null $at; done"
    done = machine.done("unshare", "--mount", "sh", "-euc", f'{hide}; exec "$@"', program, *RELAYCTL, "--yes")
    assert done.returncode == 1
    assert f"the program {program} is not there\n  install its package: apt-get install {package}\n" in done.stderr
    assert not machine.path("/etc/relay-net").exists()


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_lost_terminal_brings_the_old_network_back(machine: Machine, number: int) -> None:
    """A session that cuts itself off half-way is rolled back."""
    run = halfway(machine)
    run.send(number)
    assert run.outer.wait(30) == 130
    assert run.log().endswith("failed: going back to what was before\n\nrelayctl: interrupted\n")
    assert machine.run("nft", "list", "ruleset") == ""
    assert not machine.path("/etc/relay-net").exists()


@pytest.mark.system
def test_a_run_that_was_cut_off_is_told_and_repaired(machine: Machine) -> None:
    """A dry run only says that there is something to repair; the next run goes back first, and then forward."""
    run = halfway(machine)
    run.end(signal.SIGKILL)
    machine.sh("kill $(cat /run/there)")  # `up` had gone on, and now ends
    assert "an earlier run was cut off" in machine.relayctl("net", "apply", "--dry-run")
    assert machine.path("/etc/relay-net/journal.json").exists()
    said = machine.relayctl("net", "apply", "--yes")
    assert "an earlier run was cut off: going back to what was before it\n" in said
    assert "\ndone; relayctl net verify walks the way into each zone\n" in said
    assert not machine.path("/etc/relay-net/journal.json").exists()


@pytest.mark.system
def test_what_will_not_go_together_is_said_before_it_is_asked(machine: Machine) -> None:
    """An interface of the machine's own in the zone's network; the plan's values come from network.yaml."""
    machine.ip("link add eth1 type veth peer name far1", "link set eth1 up", "address add 192.168.1.77/24 dev eth1")
    machine.write("/etc/relay/network.yaml", "overlays: {office: {network: 172.18.0.0/24, route: relay}}\n")
    machine.ip("route del 192.168.1.0/24 dev zt0")
    said = machine.relayctl("net", "apply", "--yes")
    assert "warning: eth1 of this machine is in 192.168.1.0/24 itself" in said
    assert "+ip -4 route: 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5001\n" in said
    assert "192.168.1.0/24 via 172.18.0.200 dev zt0 proto 114 metric 5001" in machine.run("ip", "route")


@pytest.mark.system
def test_a_bad_policy_is_told_with_file_and_line(machine: Machine) -> None:
    """The site's faults are printed as `relayctl check` prints them, and nothing is changed."""
    machine.write("/etc/relay/policies/policy.yaml", POLICY.replace("192.168.1.0/24", "192.168.1.0/240"))
    said = machine.relayctl("net", "apply", "--yes", status=1)
    assert "policies/policy.yaml:2: " in said
    assert not machine.path("/etc/relay-net").exists()
