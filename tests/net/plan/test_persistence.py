"""The unit and the script that restores the rules."""

from ipaddress import ip_network

import pytest

from relay.net.plan import persistence
from relay.net.plan.machine import ManagedFile


def made(*interfaces: str) -> dict[str, ManagedFile]:
    """{path: file} for these interfaces and one network."""
    networks = (ip_network("192.168.1.0/24"),)
    files = persistence.files(
        what="a test", up="#!/bin/sh\n", down="#!/bin/sh\n", interfaces=interfaces, networks=networks
    )
    return {file.path: file for file in files}


def test_the_unit_runs_before_the_relay_and_again_after_nftables_reloads() -> None:
    """The rules are there before the first forward, and come back when nftables empties every table."""
    unit = made("zt0")[persistence.UNIT_PATH].text
    assert "Before=relay.service" in unit
    assert "ReloadPropagatedFrom=nftables.service" in unit
    assert f"ExecStartPre={persistence.UP}" in unit
    assert "ExecStop" not in unit  # stopping it removes nothing


def test_scripts_are_executable_and_the_unit_is_not() -> None:
    """up, down and watch are programs."""
    modes = {path: file.mode for path, file in made("zt0").items()}
    assert modes == {
        persistence.UP: 0o755, persistence.DOWN: 0o755, persistence.WATCH: 0o755, persistence.UNIT_PATH: 0o644,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("interfaces", "patterns"),
    [(("zt0",), "*zt0*"), (("zt*",), "*zt*"), (("zt0", "zt"), "*zt*"), (("wg0", "zt0"), "*wg0* | *zt0*")],
)
def test_changes_of_interfaces_and_networks_run_up_again(interfaces: tuple[str, ...], patterns: str) -> None:
    """Each name is a pattern of the script; one that contains another is left out, as the shorter one matches it."""
    text = made(*interfaces)[persistence.WATCH].text
    assert f"gone | minute | *192.168.1.0/24* | {patterns}) /etc/relay-net/up quiet" in text
