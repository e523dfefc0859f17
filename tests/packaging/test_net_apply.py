"""`relayctl net apply` on a machine with systemd: the unit, its order, what a restart, a failure and a kill leave."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.machine import Machine

CHECKOUT = Path(__file__).parents[2]
RELAYCTL = f"{sys.executable} -P -m relay"
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.xdist_group("machine-net")]

_SITE = """
mkdir -p /etc/relay/policies
cat >/etc/relay/policies/policy.yaml <<'END'
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
END
# the relay's place in the order: it starts only where the guard stands already
cat >/etc/systemd/system/relay.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=nft list table inet relay_net
[Install]
WantedBy=multi-user.target
END
# both in one transaction, as multi-user.target has them
printf '[Unit]\nWants=relay.service relay-net.service\n' >/etc/systemd/system/boot.target
systemctl daemon-reload
"""
_STATE = """
nft -s list ruleset; ip -N route show table main
find /etc/relay-net /etc/systemd/system -name '*relay-net*' -o -path '*/etc/relay-net/*' | sort
cat /etc/relay-net/* 2>/dev/null || :
systemctl is-enabled relay-net.service || :
systemctl is-active relay-net.service || :
systemctl --failed --no-legend
"""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted machine with a site, whose zone's interface and route are there."""
    with Machine(tmp_path_factory.mktemp("machine-net"), (CHECKOUT,)) as machine:
        machine.run(f"set -eu\n{_SITE}")
        yield machine


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """The same, with nothing applied before and after."""
    before = booted.run(_STATE)
    yield booted
    booted.run(f"{RELAYCTL} net apply --undo --yes")
    assert booted.run(_STATE) == before


def test_the_unit_runs_now_and_at_every_boot(machine: Machine) -> None:
    """Enabled, started, found in order the second time; without a failed unit, and gone from systemd after an undo."""
    said = machine.run(f"{RELAYCTL} net apply --yes")
    assert "started relay-net.service, now and at every boot\n" in said
    assert "+++ systemd: relay-net.service\n" in said
    assert machine.run("systemctl is-enabled relay-net.service; systemctl is-active relay-net.service") == (
        "enabled\nactive\n"
    )
    assert machine.run("nft list table inet relay_net; ip route").count("192.168.1.0/24") >= 3
    assert "nothing to do" in machine.run(f"{RELAYCTL} net apply --yes")
    assert "stopped relay-net.service\n" in machine.run(f"{RELAYCTL} net apply --undo --yes")
    assert "not-found" in machine.run("systemctl show relay-net.service -p LoadState")


def test_a_restart_or_a_stop_leaves_the_guard_standing(machine: Machine) -> None:
    """There is no moment without it: whoever stops the service has not opened the way."""
    machine.run(f"{RELAYCTL} net apply --yes")
    rules = machine.run("nft -s list table inet relay_net")
    machine.run("systemctl restart relay-net.service")
    assert machine.run("nft -s list table inet relay_net") == rules
    machine.run("systemctl stop relay-net.service")
    assert machine.run("nft -s list table inet relay_net") == rules
    said = machine.run(f"{RELAYCTL} net apply --yes")  # a watch that is stopped is a difference
    assert "-inactive\n+active\n" in said
    assert machine.run("systemctl is-active relay-net.service") == "active\n"


def test_the_relay_starts_behind_it(machine: Machine) -> None:
    """Started together, as at boot, the guard is there when the relay begins."""
    machine.run(f"{RELAYCTL} net apply --yes")
    machine.run("systemctl stop relay-net.service relay.service; nft delete table inet relay_net")
    machine.run("systemctl start boot.target; systemctl is-active relay.service relay-net.service")
    machine.run("systemctl stop relay.service")
    order = machine.run("systemctl show relay-net.service -p Before -p After")
    assert "relay.service" in order.split("After=")[0 if order.startswith("Before") else 1]
    assert "zerotier-one.service" in order


@pytest.mark.parametrize("earlier", [False, True])
def test_a_unit_that_does_not_start_is_taken_back(machine: Machine, earlier: bool) -> None:
    """/proc/sys is read-only here, so method 2 fails: `up`'s own words are told, and all is as before."""
    if earlier:
        machine.run(f"{RELAYCTL} net apply --yes")
    before = machine.run(_STATE)
    said = machine.run(f"! {RELAYCTL} net apply --method 2 --yes")
    assert "failed: going back to what was before\n" in said
    assert "the setting net/ipv4/ip_forward cannot be changed" in said
    assert "everything is as before\n" in said
    assert machine.run(_STATE) == before


def test_a_run_that_was_killed_while_systemd_worked_is_repaired(machine: Machine) -> None:
    """SIGKILL in the middle of the unit's start; the next run ends that, goes back, and then forward."""
    machine.run(
        r"""set -eu
        ip=$(command -v ip); cp "$ip" /run/ip; chmod 755 /run/ip
        printf '%s\n' '#!/bin/sh' 'case $* in *"route replace"*) echo >/run/there; sleep 60 ;; esac' \
            'exec /run/ip "$@"' >/run/slow
        chmod 755 /run/slow
        mount --bind /run/slow "$ip"
        """
    )
    machine.run(
        f"""set -eu
        {RELAYCTL} net apply --yes >/run/said 2>&1 & run=$!
        for i in $(seq 600); do [ ! -e /run/there ] || break; sleep 0.1; done
        kill -KILL $run
        test -e /run/there
        umount -l $(command -v ip)
        """
    )
    said = machine.run(f"{RELAYCTL} net apply --yes")
    assert "an earlier run was cut off: going back to what was before it\n" in said
    assert machine.run("systemctl is-active relay-net.service; nft list tables").endswith("table inet relay_net\n")
