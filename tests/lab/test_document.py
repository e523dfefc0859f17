"""The network tutorial: its commands run as written on the machines that it names; both languages agree."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from relay.cli.net.commands import _COMMANDS
from tests.lab.lab import Lab
from tests.lab.network import MTU
from tests.lab.world import HOME, Machine

CHECKOUT = Path(__file__).parents[2]
ENGLISH = (CHECKOUT / "docs/tutorial/network.md").read_text()
CHINESE = (CHECKOUT / "docs/tutorial/network.zh-CN.md").read_text()
BLOCK = re.compile(r"^<!-- on: (?P<where>[^\n]+) -->\n```sh\n(?P<text>.*?)^```$", re.M | re.S)
# Stands in for ZeroTier's program, which reports that the machine has joined
_ZEROTIER = """\
#!/bin/sh
case $1 in
    info) echo '200 info 1234567890 1.14.1 ONLINE' ;;
    listnetworks) echo '200 listnetworks 8056c2e21c000001 team 02:00:00:00:00:01 OK PRIVATE zt0 %s/24' ;;
    *) exit 1 ;;
esac
"""
_WORK = "/run/work"


def blocks(text: str) -> list[tuple[str, str]]:
    """(machine, commands) of each block of commands."""
    return [(match["where"], match["text"]) for match in BLOCK.finditer(text)]


def test_both_languages_have_the_same_commands() -> None:
    """The Chinese page has the commands, tables, lists and pictures of the English one."""
    assert blocks(CHINESE) == blocks(ENGLISH)
    for mark in ("\n## ", "\n|", "\n```", "\n- ", "](../img/"):
        assert CHINESE.count(mark) == ENGLISH.count(mark), mark


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_what_it_names_is_there(text: str) -> None:
    """Links lead to files of this repository; every subcommand of `net` is mentioned, and no other."""
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (CHECKOUT / "docs/tutorial" / link).exists()] == []
    assert set(re.findall(r"relayctl net ([a-z]+)", text)) == set(_COMMANDS)


def test_the_pictures_are_current() -> None:
    """The drawings in docs/img are what tools/pictures.py draws now."""
    spec = importlib.util.spec_from_file_location("pictures", CHECKOUT / "tools/pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pictures"] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    drawn = module.pictures()
    assert {path.name: path.read_text() for path in (CHECKOUT / "docs/img").glob("method-*.svg")} == drawn


def _equip(machine: Machine, address: str) -> None:
    """Install what the page presumes: sudo, relayctl, ZeroTier and a working directory."""
    for name, text in {
        "sudo": '#!/bin/sh\nexec "$@"\n',
        "relayctl": f'#!/bin/sh\nexec {sys.executable} -P -m relay "$@"\n',
        "zerotier-cli": _ZEROTIER % address,
    }.items():
        machine.write(f"/run/bin/{name}", text, 0o755)
    machine.path(_WORK).mkdir(parents=True)


@pytest.mark.system
def test_the_page_from_two_bare_machines_to_the_jump(tmp_path: Path) -> None:
    """The network tutorial: each command in order, as written, on its machine; the test plays the controller."""
    with Lab(by_hand=False, plant=False) as lab:
        machines = {"relay": lab.relay, "gateway": lab.gateway, "remote, as ubuntu": lab.remote, "client": lab.client}
        for machine, address in zip(machines.values(), ("172.18.0.10", "172.18.0.200", "", "172.18.0.11"), strict=True):
            _equip(machine, address)
        lab.relay.path("/etc/relay/policies/office.yaml").unlink()  # the page writes it
        # the controller's managed route
        lab.relay.ip("route add 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000")
        lab.serve()
        for where, text in blocks(ENGLISH):
            machine = machines[where]
            _carry(lab.relay, machine)
            if "member" in text or "client-alice-laptop" in text:
                _join(lab)
            path = f"/run/bin:{machine.environ()['PATH']}"
            home = f"{HOME}/ubuntu" if where.endswith("ubuntu") else f"{HOME}/root"
            script = f"cd {_WORK}; {text}"
            if where.endswith("ubuntu") and not lab.world.rootless:
                machine.run("chown", "-R", "ubuntu", _WORK)
                words = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
            else:
                words = []
            if "ssh " in text:
                _trust(lab)
            done = machine.done(*words, "sh", "-euc", script, HOME=home, PATH=path, seconds=90)
            assert done.returncode == 0, f"on {where}:\n{text}\n{done.stdout}{done.stderr}\n{lab.log()[-2000:]}"
            if "check" in text and where == "relay":
                lab.relay.relayctl("reload")
            if "ssh " in text:
                assert done.stdout.splitlines()[-1] == "remote"
        assert len(lab.rows("forward.opened")) == 1  # the jump; method 2 leaves none


def _carry(relay: Machine, machine: Machine) -> None:
    """Copy the scripts that were printed on the relay to the machine's working directory."""
    plan = relay.path(f"{_WORK}/plan")
    if machine is not relay and plan.exists():
        for script in plan.iterdir():
            machine.write(f"{_WORK}/{script.name}", script.read_text())


def _join(lab: Lab) -> None:
    """Make the client's interface in the overlay, as ZeroTier does."""
    if "zt0" not in lab.client.run("ip", "-o", "link"):
        lab.client.cable("zt0", lab.air, "office-client", MTU)
        lab.client.ip("address add 172.18.0.11/24 dev zt0")
        lab.air.ip("link set office-client master office")


def _trust(lab: Lab) -> None:
    """Make the host's key known, as after a first answer of yes."""
    known = lab.client.path(f"{HOME}/root/.ssh/known_hosts")
    host = " ".join(lab.remote.path("/etc/ssh/lab_host_key.pub").read_text().split()[:2])
    lines = known.read_text() if known.exists() else ""
    for name in ("remote.office", "192.168.1.201"):
        if f"{name} " not in lines:
            lines += f"{name} {host}\n"
    known.write_text(lines)
