"""From bare machines to `ssh -J relay remote`: the relay by `net apply`, everything else by the scripts it printed.

Nothing is set up by the lab but cables, addresses of the interfaces, and sshd on the LAN hosts.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.lab.lab import Lab
from tests.lab.planned import Plan

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("lab-plan")]  # they share a lab

STRICT = ("-o", "StrictHostKeyChecking=yes")  # the host key proves which machine answered
PLAIN = "exec 3<>/dev/tcp/192.168.1.201/22; head -n 1 <&3"
NAMES = ("remove", "set_down", "remake", "unroute", "disallow", "reroute")


def story(plan: Plan) -> None:
    """Method 1, in the order of the documents."""
    lab = plan.lab
    plan.write()
    plan.controller()
    plan.apply()
    assert "written: /etc/relay-net/rules" in plan.gateway()
    assert "added to" in plan.hosts()
    lab.serve()
    lab.know_hosts()
    plan.client()


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """Method 1 with a managed route and nft on the gateway; the scripts run by dash."""
    with Lab(by_hand=False, plant=False) as lab:
        plan = Plan(lab)
        story(plan)
        yield plan


@pytest.fixture
def lab(plan: Plan) -> Iterator[Lab]:
    """Its lab, well."""
    plan.lab.forget()
    yield plan.lab
    plan.lab.heal()


def test_jump(lab: Lab) -> None:
    """`ssh -J relay remote`, and `ssh remote`, end at 192.168.1.201 by the gateway 172.18.0.200, and are on record."""
    for words in (("-J", "relay", "remote"), ("remote",)):
        done = lab.ssh(*STRICT, *words, "hostname; id -un; echo ${SSH_CONNECTION%% *}")
        assert done.stdout == "remote\nubuntu\n192.168.1.200\n", done
    assert lab.ssh(*STRICT, "recorder", "hostname").stdout == "recorder\n"
    assert lab.client.done("bash", "-c", PLAIN).returncode == 1  # the client itself has no way there
    lab.row("forward.opened", zone="office", address="192.168.1.201", person="alice")
    assert lab.seen() == {}


def test_more_than_ssh(lab: Lab) -> None:
    """scp, and a page of a LAN host by `ssh -L`, work over it."""
    lab.client.write("/run/sent", "a file\n" * 1000)
    done = lab.client.done("scp", "-q", "-o", "BatchMode=yes", *STRICT, "/run/sent", "remote:got")
    assert done.returncode == 0, done.stderr
    assert lab.ssh("remote", "cat got").stdout == "a file\n" * 1000
    with lab.session("remote:7") as alice, alice.open("remote:7") as wire:
        assert wire.echoes(b"GET /")


def test_verified(lab: Lab) -> None:
    """`net status`, `net verify` and `doctor` find nothing wrong, and apply has nothing to do."""
    lab.relay.relayctl("net", "status")
    lab.relay.relayctl("net", "verify")
    assert "nothing to do" in lab.relay.relayctl("net", "apply", "--yes")


def test_a_second_run_changes_nothing(plan: Plan) -> None:
    """Every script and apply once more: files, rules, routes and settings of all machines are what they were."""
    before = plan.state()
    plan.apply()
    for said in (plan.gateway(), plan.hosts(), plan.client()):
        assert "written" not in said
        assert "added" not in said
    assert plan.state() == before


@pytest.mark.parametrize("fault", NAMES)
def test_nothing_leaks_from_an_applied_relay(lab: Lab, fault: str) -> None:
    """No packet at all reaches anybody else, while another member claims the target's address: of open forwards, new
    ones, and of plain sockets of any process on the relay.
    """
    break_: Callable[[], None] = getattr(lab, fault)
    lab.claim()
    with lab.session("remote:7") as alice:
        with alice.open("remote:7") as wire:
            assert wire.echoes()
            assert wire.cut(break_) < 1.0
        alice.open("remote:7").refused()
        assert lab.relay.done("bash", "-c", PLAIN).returncode == 1
        lab.relay.done("bash", "-c", "echo hello >/dev/udp/192.168.1.50/9")
        assert lab.seen() == {}
        lab.heal()
        with alice.open("remote:7") as wire:
            assert wire.echoes()


def test_an_own_nic_takes_no_plain_socket_either(lab: Lab) -> None:
    """With the guard of `net apply` also a socket that is not bound cannot leave by an own NIC in the prefix."""
    lab.own_nic()
    assert lab.relay.done("bash", "-c", PLAIN).returncode == 1
    with lab.session("remote:7") as alice, alice.open("remote:7") as wire:
        assert wire.echoes()
    assert lab.seen().keys() <= {"asked"}  # ARP is not IP: no rule of the output hook sees it


def test_the_gateway_leaks_nothing(lab: Lab) -> None:
    """With its LAN cable out, the gateway set up by the script sends nothing by its own default route."""
    lab.gateway_without_lan()
    with lab.session("remote:7") as alice:
        alice.open("remote:7").refused()
    assert lab.seen() == {}


def test_undone() -> None:
    """`net apply --undo` leaves the relay as it was before; the printed `down` does so on the gateway."""
    with Lab(by_hand=False, plant=False) as lab:
        plan = Plan(lab, firewall="iptables", shell=("busybox", "sh"))
        before = plan.state()
        plan.write()
        plan.apply()
        plan.gateway()
        assert plan.state()["relay"] != before["relay"]
        lab.relay.relayctl("net", "apply", "--undo", "--yes")
        lab.gateway.run("sh", "/etc/relay-net/down")
        lab.gateway.run("rm", "-r", "/etc/relay-net")
        after = plan.state()
        assert after["relay"] == before["relay"]
        assert "RELAY-NET" not in after["gateway"]
        assert "ip_forward = 1" not in after["gateway"]


def test_with_iptables_busybox_and_a_route_of_its_own() -> None:
    """The same by the other forms: iptables on a gateway with busybox, and a route that the relay sets itself.

    When the interface is made anew, what the unit runs sets the route again: no restart is needed.
    """
    with Lab(by_hand=False, plant=False) as lab:
        plan = Plan(lab, route="relay", firewall="iptables", shell=("busybox", "sh"))
        story(plan)
        assert lab.ssh(*STRICT, "-J", "relay", "remote", "hostname").stdout == "remote\n"
        lab.relay.start("/etc/relay-net/watch", log="/run/watch.log")
        with lab.session("remote:7") as alice, alice.open("remote:7") as wire:
            assert wire.echoes()
            lab.forget()
            assert wire.cut(lab.restart) < 1.0
            lab.relay.wait("ip route get 192.168.1.201 | grep -q 172.18.0.200", "the route does not come back")
            lab.row("zone.up")
            with alice.open("remote:7") as new:
                assert new.echoes()
        lab.gateway_without_lan()
        with lab.session("remote:7") as alice:
            alice.open("remote:7").refused()
        assert lab.seen() == {}


def test_method_2() -> None:
    """Full routing: a client that is a member reaches every port of LAN hosts, without the relay's SSH."""
    with Lab(by_hand=False, plant=False) as lab:
        plan = Plan(lab, method=2)
        plan.write()
        plan.controller()
        plan.apply()
        plan.gateway()
        plan.hosts()
        plan.join_client()
        plan.client()
        lab.know_hosts("192.168.1.201")
        assert lab.ssh(*STRICT, "ubuntu@192.168.1.201", "hostname").stdout == "remote\n"
        echo = "exec 3<>/dev/tcp/192.168.1.50/7; echo hello >&3; head -n 1 <&3"
        assert lab.client.run("bash", "-c", echo) == "hello\n"
        assert not lab.log()  # no relay has run
        assert lab.seen() == {}
        # what the client sends comes to the relay, and no further than the gateway
        for fault in (lab.unroute, lab.own_nic, lab.reroute, lab.remove):
            lab.claim()
            fault()
            lab.client.done("timeout", "0.5", "bash", "-c", PLAIN)
            assert lab.seen().keys() <= {"asked"}, fault.__name__  # ARP by the own NIC; no rule for IP sees it
            lab.heal()
            lab.forget()
        assert lab.client.run("bash", "-c", PLAIN).startswith("SSH-2.0-OpenSSH")
