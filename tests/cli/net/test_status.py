"""`relayctl net status` says what is wrong with a zone and what cures it, in the lab's namespaces."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.network import PUBLIC, TARGET, Network
from tests.lab.world import wait_for
from tests.net.recorded import FOLDER

CHECKOUT = Path(__file__).parents[3]
SERVICE = CHECKOUT / "tests" / "net" / "zerotier_service.py"
POLICY = f"""\
zones:
  office: {{networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}}
hosts:
  gateway: {{address: 192.168.1.200, zone: office}}
  remote: {{address: {TARGET}, zone: office}}
"""
NETWORK_PLAN = f"""\
relay: {{public: {PUBLIC}}}
overlays:
  office: {{network_id: cf33a232e100ab01, network: 172.18.0.0/24, relay: 172.18.0.10, lan_interface: eth0,
    lan_address: 192.168.1.200}}
"""


@pytest.fixture(scope="module")
def built() -> Iterator[Network]:
    """Machines and cables, the gateway forwards; the relay has a site, ZeroTier's files, and nothing that serves."""
    with Network(plant=False) as network:
        network.relay.write("/etc/relay/policies/office.yaml", POLICY, 0o640)
        network.relay.write("/etc/relay/network.yaml", NETWORK_PLAN, 0o640)
        network.relay.write("/var/lib/zerotier-one/authtoken.secret", "recorded-token", 0o600)
        network.relay.write("/var/lib/zerotier-one/zerotier-one.port", "9993")
        network.gateway.ip("link set zt0 address 02:4c:c0:c8:ce:6d")  # as the recorded node's
        yield network


@pytest.fixture
def network(built: Network) -> Iterator[Network]:
    """The same, well again after each test."""
    yield built
    built.heal()


@contextmanager
def zerotier(network: Network, state: str) -> Iterator[None]:
    """ZeroTier's API on the relay, as it was in a recorded state."""
    log = f"/run/zerotier-{time.monotonic_ns()}.log"
    service = network.relay.start(
        sys.executable, "-I", str(SERVICE), "9993", "recorded-token", str(FOLDER / f"{state}.relay.json"), log=log
    )
    wait_for(lambda: "listening" in service.log() or not service.alive, "the recorded API does not listen")
    assert service.alive, service.log()
    try:
        yield
    finally:
        service.end()


def status(network: Network, *words: str, status: int) -> str:
    return network.relay.relayctl("net", "status", *words, status=status)


@pytest.mark.system
def test_a_healthy_zone_is_shown_whole(network: Network) -> None:
    """Interface, route, gateway and target with their latency, and what ZeroTier says; the exit status is 0."""
    with zerotier(network, "healthy"):
        said = status(network, status=0)
    lines = [line.strip() for line in said.splitlines()]
    assert lines[0] == "office  well  192.168.1.0/24"
    for line in (
        "interface  zt0, up, 172.18.0.10",
        "route      192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000",
        "zerotier   1.14.1, node cf33a232e1 online",
        "network    cf33a232e100ab01 ztlab OK, 172.18.0.10/24",
        "managed    172.18.0.0/24",
        "managed    192.168.1.0/24 via 172.18.0.200",
        "peer       e7c029fccf direct by 198.51.100.20/9993, 8 ms, heard 0 s ago",
        "moons      none",
        "ok         remote answers through 172.18.0.200",
    ):
        assert any(found.startswith(line) for found in lines), (line, said)
    assert any(line.startswith("gateway    172.18.0.200 answers in ") and line.endswith(" ms") for line in lines)
    assert any(line.startswith(f"target     remote {TARGET} answers in ") for line in lines)


def mute(network: Network) -> None:
    """The gateway's node is there and its frames arrive, and nothing is answered."""
    network._undo.append(lambda: network.gateway.sysctl(ipv4__icmp_echo_ignore_all=0, ipv4__ip_forward=1))
    network.gateway.sysctl(ipv4__icmp_echo_ignore_all=1, ipv4__ip_forward=0)


# what breaks, the recorded state of the API meanwhile ("": it is stopped), the diagnosis, its cure
BROKEN: dict[str, tuple[Callable[[Network], None], str, str, str]] = {
    "stopped": (Network.remove, "", "zerotier-stopped", "systemctl start zerotier-one"),
    "down": (Network.set_down, "interface-down", "interface-down", "ip link set zt0 up"),
    "restarted": (
        Network.remake, "restarted-route-missing", "route-missing",
        "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000",
    ),
    "disallowed": (
        Network.disallow, "managed-routes-disallowed", "managed-disallowed",
        "zerotier-cli set cf33a232e100ab01 allowManaged=1",
    ),
    "thrown out": (Network.deauthorise, "relay-deauthorized", "access-denied", "member/cf33a232e1"),
    "gateway dead": (Network.gateway_dead, "gateway-dead-2s", "gateway-silent", "on the gateway"),
    "gateway thrown out": (
        mute, "gateway-deauthorized", "gateway-unauthorised", "member/e7c029fccf",
    ),
    "no LAN": (Network.gateway_without_lan, "gateway-lan-down", "target-silent", "on the gateway: ip link set eth0 up"),
    "not forwarding": (Network.no_forwarding, "healthy", "target-silent", "sysctl -w net.ipv4.ip_forward=1"),
    "target off": (Network.target_down, "target-down", "target-down", f"on the gateway: ping -c 3 {TARGET}"),
    "other gateway": (
        Network.reroute, "healthy", "other-gateway",
        "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000",
    ),
}  # fmt: skip


@pytest.mark.system
@pytest.mark.parametrize("fault", BROKEN)
def test_what_breaks_is_named_with_its_cure(network: Network, fault: str) -> None:
    """One fault, its cure, and exit status 1: the kernel is a real one, ZeroTier's answers are recorded ones."""
    break_, state, name, cure = BROKEN[fault]
    break_(network)
    if state:
        with zerotier(network, state):
            zones = json.loads(status(network, "--json", status=1))
    else:
        zones = json.loads(status(network, "--json", status=1))
    (zone,) = zones
    first, *others = zone["diagnoses"]
    assert (zone["state"], first["state"], first["name"]) == ("fault", "fault", name), zone
    assert cure in first["cure"]
    assert all(other["state"] == "warning" for other in others)


@pytest.mark.system
def test_the_cure_cures(network: Network) -> None:
    """What is printed as a command runs as it is, and the zone is well."""
    for break_ in (Network.unroute, Network.reroute):
        break_(network)
        (zone,) = json.loads(status(network, "--json", status=1))
        network.relay.sh(zone["diagnoses"][0]["cure"])
        assert "office  well" in status(network, status=0)
    network.own_nic()
    said = status(network, status=0)
    assert "office  well, but" in said
    assert "ip address del 192.168.1.7/24 dev eth1" in said
    network.relay.sh("ip address del 192.168.1.7/24 dev eth1")
    assert "office  well  " in status(network, status=0)


@pytest.mark.system
def test_without_root_it_says_what_it_left_out(network: Network) -> None:
    """Neither pings nor ZeroTier's token are for everybody: the port answers, and online is known all the same."""
    network.relay.sysctl(ipv4__ping_group_range="1 0")
    network.relay.sh("chmod -R a+rX /etc/relay")
    nobody = ["--reuid=1000", "--regid=1000", "--clear-groups"] if not network.world.rootless else []
    words = ("setpriv", *nobody, "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all",
             sys.executable, "-P", "-m", "relay", "--site", "/etc/relay", "net", "status")  # fmt: skip
    with zerotier(network, "healthy"):
        done = network.relay.done(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not seen   pings: " in done.stdout
    assert f"target     remote {TARGET}" in done.stdout
    if not network.world.rootless:
        assert "zerotier   token unreadable (1.14.1, online)" in done.stdout
        assert "run it as root" in done.stdout


@pytest.mark.system
def test_the_gateway_looks_at_itself(network: Network) -> None:
    """With a copy of the site: its interfaces, whether it forwards, the relay, a host of the LAN; and what cures it."""
    network.gateway.write("/etc/relay/policies/office.yaml", POLICY, 0o640)
    network.gateway.write("/etc/relay/network.yaml", NETWORK_PLAN, 0o640)

    def said(expected: int) -> str:
        return network.gateway.relayctl("net", "status", "--role", "gateway", status=expected)

    well = said(0)
    for line in ("lan        eth0, up, 192.168.1.200", "forwarding on", "relay      172.18.0.10 answers in ",
                 f"target     remote {TARGET} answers in ", "ok         eth0 and zt0 are up"):  # fmt: skip
        assert line in well, well
    network.gateway_without_lan()
    broken = said(1)
    assert "eth0, the way into 192.168.1.0/24, is down; packets for 192.168.1.201 would leave by eth1" in broken
    assert "-> ip link set eth0 up" in broken
    network.heal()
    network.no_forwarding()
    assert "-> sysctl -w net.ipv4.ip_forward=1" in said(1)
    network.heal()
    network.deauthorise()
    assert "the relay 172.18.0.10 does not answer" in said(1)


@pytest.mark.system
def test_watching_into_a_pipe_tells_what_changes(network: Network) -> None:
    """Each line once; a figure that differs is no change; a fault and its end are lines; SIGINT ends it."""
    watching = network.relay.start(
        sys.executable, "-P", "-m", "relay", "--site", "/etc/relay", "net", "status", "--watch", log="/run/watch.log"
    )
    wait_for(lambda: "ok: remote answers through 172.18.0.200" in watching.log(), "nothing is shown")
    network.unroute()
    wait_for(lambda: "fault: no route to" in watching.log(), "the fault is not shown")
    network.heal()
    wait_for(lambda: watching.log().count("ok: remote answers") == 2, "its end is not shown")
    watching.send(signal.SIGINT)
    wait_for(lambda: not watching.alive, "SIGINT does not end it")
    lines = watching.log().splitlines()
    assert sum(" office interface: " in line for line in lines) == 1, lines
    assert sum(" office route: " in line for line in lines) == 3, lines
    assert sum(" -> ip route replace" in line for line in lines) == 1


@pytest.mark.system
def test_a_ports_log_is_not_filled(network: Network) -> None:
    """A target that drops pings is asked at its port once a minute at most: sshd would punish the gateway for more."""
    network._undo.append(lambda: network.remote.sysctl(ipv4__icmp_echo_ignore_all=0))
    network.remote.sysctl(ipv4__icmp_echo_ignore_all=1)
    network.remote.nft("table inet count { counter asked {}; chain in { type filter hook input priority 0; "
                       "tcp dport 22 tcp flags syn counter name asked; }; }")  # fmt: skip
    watching = network.relay.start(
        *(sys.executable, "-P", "-m", "relay", "--site", "/etc/relay", "net", "status", "--watch", "--json"),
        log="/run/watch-json.log",
    )
    wait_for(lambda: watching.log().count('"refused"') >= 3, "it does not look three times")
    watching.end(signal.SIGINT)
    counters = json.loads(network.remote.run("nft", "-j", "list", "counters"))["nftables"]
    assert [one["counter"]["packets"] for one in counters if "counter" in one] == [1]
    (zone,) = json.loads(watching.log().splitlines()[-2])["zones"]
    assert (zone["state"], zone["target"]["door"], zone["target"]["echo"]) == ("ok", "refused", "silent")


@pytest.mark.system
@pytest.mark.parametrize("words", [("net", "status"), ("doctor",)], ids=" ".join)
def test_a_terminal_is_told_what_is_waited_for(network: Network, words: tuple[str, ...]) -> None:
    """A silent gateway takes seconds to be sure of: meanwhile a line says so, and it is gone before the answer."""
    network.gateway_dead()
    controller, terminal = os.openpty()
    command = network.relay.command(sys.executable, "-P", "-m", "relay", "--site", "/etc/relay", *words)
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, env=network.relay.environ(TERM="xterm"),
        start_new_session=True, text=True,
    ) as looking:  # fmt: skip
        os.close(terminal)
        answer = looking.communicate(timeout=60)[0]
        shown = os.read(controller, 1 << 16).decode()
        os.close(controller)
    assert "172.18.0.200 does not answer" in answer
    assert "waiting" not in answer
    asked = shown.index("waiting for answers from office")
    assert shown.index("\r\x1b[K", asked) > asked


@pytest.mark.system
def test_watching_on_a_terminal_redraws(network: Network) -> None:
    """The picture is drawn over the last one, with colour, and a zone whose gateway is silent holds nothing up."""
    network.gateway_dead()
    controller, terminal = os.openpty()
    words = network.relay.command(
        sys.executable, "-P", "-m", "relay", "--site", "/etc/relay", "net", "status", "--watch"
    )
    with subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, env=network.relay.environ(TERM="xterm"),
        start_new_session=True,
    ) as watching:  # fmt: skip
        os.close(terminal)
        shown = ""
        began = time.monotonic()
        while shown.count("Ctrl-C ends") < 3 or "gateway 172.18.0.200 does not answer" not in shown:
            shown += os.read(controller, 1 << 16).decode()
            assert time.monotonic() - began < 60, shown
        os.write(controller, b"\x03")
        os.killpg(watching.pid, signal.SIGINT)
        watching.wait(20)
        os.close(controller)
    assert "\x1b[H" in shown
    assert "\x1b[31m" in shown  # red
    assert "looking ..." in shown


def test_a_zone_on_lo_needs_nothing(site: Path, relayctl: Callable[..., Any]) -> None:
    """No gateway, no overlay: the interface, its address, the target, and it is well; JSON says the same."""
    (site / "policies" / "a.yaml").write_text(
        "zones:\n  here: {networks: [127.0.0.0/8], interface: lo}\nhosts:\n  me: {address: 127.0.0.1, zone: here}\n"
    )
    done = relayctl("--site", site, "net", "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "here  well  127.0.0.0/8"
    assert "127.0.0.1 answers" in done.stdout
    (zone,) = json.loads(relayctl("--site", site, "net", "status", "here", "--json").stdout)
    assert (zone["state"], zone["interface"], zone["zerotier"]) == ("ok", "lo", None)


def test_an_unknown_zone_is_named(site: Path, relayctl: Callable[..., Any]) -> None:
    """With those that are there."""
    done = relayctl("--site", site, "net", "status", "plant")
    assert done.returncode == 1
    assert "there is no zone 'plant'" in done.stderr
    assert "office" in done.stderr


def test_faults_of_network_yaml_do_not_hide_the_zones(site: Path, relayctl: Callable[..., Any]) -> None:
    """They are said, and the zones are shown with what the policy knows."""
    (site / "policies" / "a.yaml").write_text("zones:\n  here: {networks: [127.0.0.0/8], interface: lo}\n")
    (site / "network.yaml").write_text("overlays: {nowhere: {}}\n")
    done = relayctl("--site", site, "net", "status")
    assert done.returncode == 0
    assert "network.yaml:1" in done.stderr
    assert "here  well" in done.stdout
    assert "not seen   a target: policies/ names no host in here" in done.stdout


def test_without_zones_there_is_nothing_to_show(site: Path, relayctl: Callable[..., Any]) -> None:
    """It says where zones come from."""
    (site / "policies" / "a.yaml").write_text("")
    done = relayctl("--site", site, "net", "status")
    assert (done.returncode, done.stdout) == (0, "")
    assert "`zones:`" in done.stderr
