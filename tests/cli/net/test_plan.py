"""`relayctl net plan` as it is typed."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Relayctl = Callable[..., Any]
KEYS = Path(__file__).parents[2] / "fixtures" / "keys"
POLICY = """\
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
hosts:
  remote: {address: 192.168.1.201, zone: office, user: ubuntu}
  recorder: {address: 192.168.1.50, zone: office}
rules:
  - {name: ssh, allow: [alice, bob], to: [remote], ports: [22]}
  - {name: web, allow: [bob], to: [recorder], ports: [80]}
"""
NETWORK = """\
overlays:
  office: {network: 172.18.0.0/24, relay: 172.18.0.10, lan_interface: eth0, lan_address: 192.168.1.200}
"""
ALL = ["relay", "gateway-office", "lan-host-recorder.office", "lan-host-remote.office"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site of the network plan, with two persons."""
    made = tmp_path / "site"
    for directory in (made, made / "policies", made / "keys"):
        directory.mkdir(mode=0o750)
    texts = {"policies/a.yaml": POLICY, "network.yaml": NETWORK, "relay.yaml": 'public: "1.1.1.1:22"\n'}
    texts |= {
        "keys/alice.pub": (KEYS / "ed25519.pub").read_text(),
        "keys/bob.pub": (KEYS / "ecdsa-256.pub").read_text(),
    }
    for name, text in texts.items():
        (made / name).write_text(text)
        (made / name).chmod(0o640)
    return made


def test_page(relayctl: Relayctl, site: Path) -> None:
    """Without further words it is a page about every machine, in the order of doing."""
    done = relayctl("--site", site, "net", "plan")
    assert done.returncode == 0, done.stderr
    titles = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert titles == [
        "## On the relay host",
        "## On the gateway of the zone office",
        "## On the LAN host recorder (192.168.1.50)",
        "## On the LAN host remote (192.168.1.201)",
        "## On the client of alice",
    ]


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (["relay"], "the relay host"),
        (["gateway"], "the gateway of the zone office"),
        (["gateway", "--zone", "office", "--firewall", "iptables"], "the gateway of the zone office"),
        (["lan-host", "--host", "remote"], "the LAN host remote"),
        (["client", "--person", "bob"], "the client of bob"),
        (["client", "--method", "2"], "a client, a member of the overlay"),
    ],
)
def test_one_machine_is_a_script(relayctl: Relayctl, site: Path, words: list[str], title: str) -> None:
    """One machine is a script alone on stdout, warnings are on stderr; as a page when asked for."""
    done = relayctl("--site", site, "net", "plan", "--machine", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"#!/bin/sh\n# {title}")
    subprocess.run(["sh", "-n"], input=done.stdout, text=True, check=True)
    assert ("warning: " in done.stderr) == ("# Warning: " in done.stdout)
    page = relayctl("--site", site, "net", "plan", "--format", "md", "--machine", *words)
    assert page.stdout.startswith("## On ")


def test_keys_of_those_who_may(relayctl: Relayctl, site: Path) -> None:
    """A host gets the keys of the persons whom a rule allows to its SSH port, or of the one person named."""
    remote = relayctl("--site", site, "net", "plan", "--machine", "lan-host", "--host", "remote").stdout
    assert "alice@relay" in remote
    assert "bob@relay" in remote
    recorder = relayctl("--site", site, "net", "plan", "--machine", "lan-host", "--host", "recorder.office").stdout
    assert "@relay" not in recorder
    alone = ("--machine", "lan-host", "--host", "remote", "--person", "alice")
    assert "bob" not in relayctl("--site", site, "net", "plan", *alone).stdout


def test_output(relayctl: Relayctl, site: Path, tmp_path: Path) -> None:
    """--output writes a script per machine and names each."""
    done = relayctl("--site", site, "net", "plan", "--output", tmp_path / "a" / "b")
    assert done.stdout.splitlines() == [str(tmp_path / "a" / "b" / f"{name}.sh") for name in [*ALL, "client-alice"]]
    two = relayctl("--site", site, "net", "plan", "--method", "2", "--format", "md", "--output", tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert names == sorted(f"{name}.md" for name in [*ALL, "client-any.office"]), two.stderr
    assert relayctl("--site", site, "net", "plan", "--output", site / "relay.yaml").returncode == 1


def test_flags(relayctl: Relayctl, site: Path) -> None:
    """Everything of network.yaml may be a flag, and one zone need not be named."""
    (site / "network.yaml").unlink()
    flags = ["--network-id", "8056c2e21c000001", "--network", "172.18.0.0/24", "--relay-address", "172.18.0.10"]
    flags += ["--lan-interface", "br-lan", "--lan-address", "192.168.1.200", "--route", "relay", "--moon"]
    flags += ["--public", "198.51.100.1", "--add-member", "laptop=172.18.0.11"]
    gateway = relayctl("--site", site, "net", "plan", "--machine", "gateway", *flags)
    assert 'oifname "br-lan" ip saddr 172.18.0.10' in gateway.stdout
    relay = relayctl("--site", site, "net", "plan", "--machine", "relay", *flags).stdout
    for text in ("8056c2e21c000001", "198.51.100.1/9993", "laptop", "via 172.18.0.200 dev $found metric 5001"):
        assert text in relay


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--format", "sh"], 1, "there are 5 scripts, each for a machine of its own: relay, gateway-office"),
        (["--zone", "ofice"], 1, "the policy has no zone 'ofice' to plan"),
        (["--machine", "lan-host", "--host", "x"], 1, "there are: recorder, remote"),
        (["--machine", "client"], 1, "--person alice|bob"),
        (["--machine", "client", "--person", "carol"], 1, "no person called 'carol' has a key"),
        (["--method", "2", "--machine", "client", "--member", "x"], 1, "has no member 'x'"),
        (["--add-member", "x"], 1, "--add-member alice-laptop=172.18.0.11"),
        (["--network-id", "x"], 1, "command line: network_id: 'x' is not a ZeroTier network id"),
        (["--relay-address", "10.0.0.1"], 1, "command line: the relay has 10.0.0.1, which is not in"),
        (["--lan-interface", "eth0; reboot"], 1, "command line: lan_interface: 'eth0; reboot' is not an interface"),
        (["--zone", "x", "--network", "10.0.0.0/8"], 1, "the policy has no zone x"),
        (["--method", "3"], 2, "--method"),
    ],
)
def test_refused(relayctl: Relayctl, site: Path, words: list[str], status: int, said: str) -> None:
    """What cannot be planned is refused, with what to type instead."""
    done = relayctl("--site", site, "net", "plan", *words)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stdout == ""


def test_missing_values(relayctl: Relayctl, site: Path) -> None:
    """A gateway without a known LAN interface is refused with the line and the flag that give it."""
    (site / "network.yaml").write_text(NETWORK.replace("lan_interface: eth0, ", ""))
    done = relayctl("--site", site, "net", "plan", "--machine", "gateway")
    assert done.returncode == 1
    assert "`lan_interface` of the zone office" in done.stderr
    assert "--lan-interface" in done.stderr


def test_faults_have_places(relayctl: Relayctl, site: Path) -> None:
    """Bad input is named by file and line, by `net plan` and by `check`; a file without faults is good."""
    assert "valid: " in relayctl("--site", site, "check").stdout
    (site / "network.yaml").write_text("moon: true\noverlays:\n  office: {lan: eth0}\n")
    for words in (("net", "plan"), ("check",)):
        done = relayctl("--site", site, *words)
        assert done.returncode == 1
        assert "network.yaml:3: unknown key 'lan' in the overlay; known here: " in done.stdout + done.stderr


def test_zone_on_loopback_only(relayctl: Relayctl, site: Path) -> None:
    """A site whose only zone is on lo (the demo's) has nothing to plan for an overlay."""
    (site / "policies" / "a.yaml").write_text("zones: {demo: {networks: [127.0.0.0/8], interface: lo}}\n")
    (site / "network.yaml").unlink()
    done = relayctl("--site", site, "net", "plan", "--network", "10.0.0.0/8")
    assert done.returncode == 1
    assert "the policy has no zone to plan" in done.stderr


def test_nothing_is_written(relayctl: Relayctl, site: Path) -> None:
    """Printing a plan leaves the site as it was."""
    before = sorted((path, path.stat().st_mtime_ns) for path in site.rglob("*"))
    relayctl("--site", site, "net", "plan")
    assert sorted((path, path.stat().st_mtime_ns) for path in site.rglob("*")) == before
