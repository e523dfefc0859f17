"""Two sites with one prefix: `remote.office` and `remote.plant` are both 192.168.1.201, each by its own overlay."""

from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab
from tests.lab.network import PLANT_OVERLAY

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("lab-two-zones")]  # they share a lab


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    """Office and plant, both in the policy."""
    with Lab() as lab:
        lab.add_plant()
        lab.configure_client()
        yield lab


def test_each_name_reaches_its_own_host(lab: Lab) -> None:
    """ssh proves by host key and host name that each name ends at its own site."""
    assert lab.ssh("remote.office", "hostname").stdout == "remote\n"
    assert lab.ssh("remote.plant", "hostname").stdout == "plant-remote\n"
    assert {row["zone"] for row in lab.rows("forward.opened", address="192.168.1.201")} == {"office", "plant"}
    assert lab.seen() == {}


def test_both_at_once(lab: Lab) -> None:
    """Forwards into both, by name and by literal, side by side in one connection; each echoes its own."""
    targets = ("remote.office:7", "remote.plant:7", "192.168.1.201.office:22", "192.168.1.201.plant:22")
    with lab.session(*targets) as alice, alice.open(targets[0]) as office, alice.open(targets[1]) as plant:
        for number in range(20):
            assert office.echoes(b"office %d" % number)
            assert plant.echoes(b"plant %d" % number)
        for literal in targets[2:]:
            with alice.open(literal) as wire:
                assert wire.read().startswith(b"SSH-2.0-OpenSSH")
    assert lab.seen() == {}


def test_one_site_down_leaves_the_other(lab: Lab) -> None:
    """When one overlay goes, its forwards end and go nowhere else, least of all to the other site; the others stay."""
    with lab.session("remote.office:7", "remote.plant:7", "remote.plant:22") as alice:
        with alice.open("remote.office:7") as office, alice.open("remote.plant:7") as plant:
            assert office.echoes()
            assert plant.echoes()
            assert plant.cut(lambda: lab.remove(PLANT_OVERLAY)) < 1.0
            assert office.echoes()
            alice.open("remote.plant:22").refused()
            alice.told("the network behind this relay is down")
            assert office.echoes()
            lab.heal()
        with alice.open("remote.plant:22") as wire:
            assert wire.read().startswith(b"SSH-2.0-OpenSSH")
    assert {row["zone"] for row in lab.rows("forward.closed", reason="overlay-down")} == {"plant"}
    assert lab.seen() == {}


def test_the_name_alone_is_ambiguous(lab: Lab) -> None:
    """`remote` alone means both: refused, with the choices named."""
    with lab.session("remote:22") as alice:
        alice.open("remote:22").refused()
        alice.wait_said("remote.office")
        alice.wait_said("remote.plant")


def test_rp_filter_silences_the_second_site(lab: Lab) -> None:
    """With rp_filter=1 the kernel drops what the second site answers: on record as the reason of the silence."""
    lab.relay.sysctl(ipv4__conf__all__rp_filter=1)
    try:
        with lab.session("remote.office:7", "remote.plant:7") as alice:
            with alice.open("remote.office:7") as wire:
                assert wire.echoes()
            alice.open("remote.plant:7").refused()
            row = lab.row("forward.closed", forward=alice.told("the host does not answer"))
        assert (row["reason"], row["obstacle"]) == ("target-silent", "shadowed")
        assert "rp_filter=1" in row["detail"]
    finally:
        lab.relay.sysctl(ipv4__conf__all__rp_filter=2)
