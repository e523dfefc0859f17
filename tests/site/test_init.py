"""A new site: written once, valid, never overwritten."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import NotPermitted, RelayError
from relay.site import init, locate
from relay.site.init import CandidateRoute
from relay.site.policy import compiler

OFFICE = CandidateRoute(ip_network("192.168.1.0/24"), ip_address("172.18.0.200"), "ztabcdefgh")


def zones(*ways: CandidateRoute) -> dict[str, tuple[str, str, str]]:
    """The zones proposed for these routes: name to (network, interface, gateway)."""
    contents = {name: text for name, text in init.files(ways).items() if name.endswith(".yaml")}
    found = compiler.compile_documents(contents, frozenset(), now=0)
    assert found.compiled is not None, found.faults
    assert found.warnings == ()
    return {
        zone.name: (str(zone.networks[0]), zone.interface, str(zone.gateway or ""))
        for zone in found.compiled.policy.inventory.zones.values()
    }


def test_new_site(tmp_path: Path) -> None:
    """A new site is valid, closed to others, and has room in reserve for a revocation on a full disk."""
    site = tmp_path / "site"
    done = init.make(site, [])
    assert all(line.startswith("made ") for line in done)
    assert {path.stat().st_mode & 0o777 for path in site.rglob("*") if path.is_file()} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in (site, site / "policies", site / "keys")} == {0o750}
    assert (site / init.RESERVE).stat().st_size == init.RESERVE_BYTES
    assert locate.find(str(site), {}).path == site
    assert compiler.load(site, now=0).warnings == ()


def test_again_changes_nothing(tmp_path: Path) -> None:
    """A second run keeps everything, also what was edited, and makes what is missing."""
    site = tmp_path / "site"
    init.make(site, [])
    (site / "relay.yaml").write_text("workers: 2\n")
    (site / "policies" / "policy.yaml").rename(site / "policies" / "mine.yaml")
    (site / "keys" / "README").unlink()
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    done = init.make(site, [OFFICE])
    assert [line for line in done if line.startswith("made")] == [f"made {site}/keys/README"]
    assert {path: path.read_bytes() for path in before} == before
    assert [path.name for path in (site / "policies").glob("*.yaml")] == ["mine.yaml"]


def test_foreign_directory_is_refused(tmp_path: Path) -> None:
    """A directory with something else in it, one open to others, and a file are refused and left as they are."""
    (tmp_path / "letter.txt").touch()
    with pytest.raises(RelayError, match="not a site"):
        init.make(tmp_path, [])
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(NotPermitted, match="writable by everyone"):
        init.make(tmp_path / "open", [])
    with pytest.raises(RelayError):
        init.make(tmp_path / "letter.txt", [])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["letter.txt", "open"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link in the place of a file is kept, and what it points to is not written."""
    site = tmp_path / "site"
    site.mkdir(mode=0o755)
    (site / "relay.yaml").symlink_to(tmp_path / "elsewhere")
    assert f"kept {site}/relay.yaml" in init.make(site, [])
    assert not (tmp_path / "elsewhere").exists()


def test_zones_from_routes() -> None:
    """A private network behind an overlay's interface becomes a zone with its gateway; nothing else does."""
    assert zones(
        OFFICE,
        CandidateRoute(ip_network("172.18.0.0/24"), None, "ztabcdefgh"),
        CandidateRoute(ip_network("10.8.0.0/16"), None, "wg0"),
        CandidateRoute(ip_network("0.0.0.0/0"), ip_address("203.0.113.1"), "wg0"),
        CandidateRoute(ip_network("10.9.0.0/16"), None, "eth0"),
        CandidateRoute(ip_network("8.8.8.0/24"), None, "wg0"),
        CandidateRoute(ip_network("fe80::/64"), None, "wg0"),
        CandidateRoute(ip_network("10.8.0.7/32"), None, "wg0"),
    ) == {
        "lan": ("10.8.0.0/16", "wg0", ""),
        "lan-2": ("172.18.0.0/24", "ztabcdefgh", ""),
        "lan-3": ("192.168.1.0/24", "ztabcdefgh", "172.18.0.200"),
    }


def test_overlapping_routes() -> None:
    """Of routes that overlap on one interface the widest becomes a zone, so that the new site is valid."""
    found = zones(
        CandidateRoute(ip_network("10.1.0.0/16"), None, "wg0"), CandidateRoute(ip_network("10.0.0.0/8"), None, "wg0")
    )
    assert found == {"lan": ("10.0.0.0/8", "wg0", "")}


_NETWORKS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(
        lambda length: ip_network(f"{address}/{length}", strict=False)
    )
)
_WAYS = st.builds(
    CandidateRoute,
    _NETWORKS,
    st.one_of(st.none(), st.ip_addresses()),
    st.sampled_from(["zt0", "wg0", "eth0", "tun:x", 'wg"}']),
)


@pytest.mark.slow
@given(st.lists(_WAYS, max_size=5))
def test_any_routes(ways: list[CandidateRoute]) -> None:
    """Whatever the kernel's routes are, a new site is valid."""
    zones(*ways)


def test_give(make_site: Callable[..., Path]) -> None:
    """A second run as root closes what is open, follows no link, and then has nothing to do."""
    site = make_site("")
    (site / "keys" / "alice.pub").touch()
    (site / "keys" / "alice.pub").chmod(0o644)
    (site / "keys" / "link.pub").symlink_to("/etc/hostname")
    owner = init.FileOwner(site.stat().st_uid, site.stat().st_gid)
    assert init.give(site, owner) == (f"set owner and mode of {site}/keys/alice.pub",)
    assert init.give(site, owner) == ()
