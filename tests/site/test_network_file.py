"""What does network.yaml say, and does it fit the policy's zones?"""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.network_plan import NetworkPlan, Overlay, OverlayMember
from relay.core.policy.model import Zone
from relay.errors import SiteInvalid
from relay.site import network_file

LAN = ip_network("192.168.1.0/24")
OFFICE = Zone("office", (LAN,), "zt*", ip_address("172.18.0.200"))
PLANT = Zone("plant", (LAN,), "wg0")
TEXT = """\
relay: {public: 1.1.1.1}
moon: true
overlays:
  office:
    network_id: 8056C2E21C000001
    network: 172.18.0.0/24
    relay: 172.18.0.10
    lan_interface: eth0
    lan_address: 192.168.1.200
    route: relay
    members: {alice-laptop: 172.18.0.11}
"""
WHOLE = Overlay(
    zone=OFFICE,
    network_id="8056c2e21c000001",
    network=ip_network("172.18.0.0/24"),
    relay=ip_address("172.18.0.10"),
    lan_interface="eth0",
    lan_address=ip_address("192.168.1.200"),
    managed=False,
    members=(OverlayMember("alice-laptop", ip_address("172.18.0.11")),),
)


def faults(text: str, *zones: Zone, flags: dict[str, object] | None = None) -> list[str]:
    """The faults as they are printed."""
    return [str(fault) for fault in network_file.parse(text.encode(), zones or (OFFICE, PLANT), flags)[1]]


def test_whole(tmp_path: Path) -> None:
    """Every value is read, and a zone that is not in the file has an overlay of which nothing is known."""
    (tmp_path / "network.yaml").write_text(TEXT)
    (tmp_path / "network.yaml").chmod(0o640)
    found = network_file.read(tmp_path, [PLANT, OFFICE])
    assert found == NetworkPlan((WHOLE, Overlay(PLANT)), ip_address("1.1.1.1"), True)


def test_no_file(tmp_path: Path) -> None:
    """Without the file each zone is there, and nothing more is known; nothing is a fault."""
    assert network_file.read(tmp_path, [OFFICE]) == NetworkPlan((Overlay(OFFICE),))


@pytest.mark.parametrize("text", ["", "overlays:\n", "overlays: {office: }\n", "relay: {}\n"])
def test_nothing_said(text: str) -> None:
    """What is left out or empty is not known."""
    assert network_file.parse(text.encode(), [OFFICE]) == (NetworkPlan((Overlay(OFFICE),)), ())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("relay: {public: relay.example.com}", "network.yaml:1: public: 'relay.example.com' is not an address"),
        ("relay: {publik: 1.1.1.1}", "network.yaml:1: unknown key 'publik' in the relay; did you mean 'public'?"),
        ("moon: yes", "network.yaml:1: moon: 'yes' is neither true nor false; write true or false"),
        ("zones: {}", "unknown key 'zones' in the file; it belongs in a file of policies/"),
        ("network: 10.0.0.0/8", "network.yaml:1: unknown key 'network' in the file; it belongs under `overlays:"),
        ("overlays: [office]", "network.yaml:1: overlays: a list where `key: value` pairs are expected"),
        ("overlays: {office: {network_id: 8056}}", "network.yaml:1: network_id: 8056 is not text"),
        ("overlays: {office: {network_id: 8056c2e21c00000g}}", "is not a ZeroTier network id; copy it from the web"),
        ("overlays: {office: {network: 172.18.0.1/24}}", "write 172.18.0.0/24 for the network"),
        ("overlays: {office: {relay: }}", "relay: there is no value; write one, or remove the key"),
        ("overlays: {office: {lan_interface: '*'}}", "the interface '*' matches any interface"),
        ("overlays: {office: {lan_adress: 192.168.1.1}}", "unknown key 'lan_adress' in the overlay; did you mean"),
        ("overlays: {office: {route: auto}}", "route: 'auto' is not one of the choices; write managed or relay"),
        ("overlays: {office: {members: {Alice: 172.18.0.1}}}", "write alice"),
        ("overlays: {office: {members: {alice: 172.18.0}}}", "alice: '172.18.0' is not an address"),
        ("overlays: {ofice: {}}", "network.yaml:1: the policy has no zone ofice; did you mean office?"),
        ("overlays: {office: {lan_address: 192.168.2.1}}", "the LAN address 192.168.2.1 is not in the zone office"),
        ("overlays: {office: {network: 172.19.0.0/24}}", "the zone's gateway has 172.18.0.200, which is not in"),
        ("overlays: {plant: {network: 10.0.0.0/8, relay: 11.0.0.1}}", "the relay has 11.0.0.1, which is not in"),
        ("overlays: {plant: {network: 10.0.0.0/8, relay: 10.0.0.0}}", "which is the network itself"),
        ("overlays: {office: {relay: 172.18.0.200}}", "the relay has 172.18.0.200, as the zone's gateway has"),
        ("overlays: {plant: {relay: 10.0.0.1, members: {a: 10.0.0.1}}}", "the member a has 10.0.0.1, as the relay has"),
        ("overlays: {plant: {network: 192.168.0.0/16}}", "the overlay's 192.168.0.0/16 overlaps 192.168.1.0/24"),
        ("a: &b 1", "an anchor (&b)"),
        ("relay: {public: }1.1.1.1", "not YAML"),
    ],
)
def test_faults(line: str, said: str) -> None:
    """Each fault has its line and a remedy."""
    found = faults(line)
    assert any(said in fault and fault.startswith("network.yaml:1: ") for fault in found), found


def test_all_at_once() -> None:
    """Every fault is reported, each with its own line, and what is well-formed is still read."""
    text = TEXT.replace("172.18.0.10", "172.18.0.300").replace("eth0", "''") + "  plant: {relay: 10.0.0.1}\n"
    found, wrong = network_file.parse(text.encode(), [OFFICE, PLANT])
    assert [fault.line for fault in wrong] == [7, 8]
    assert found.overlays[0] == Overlay(OFFICE)
    assert found.overlays[1].relay == ip_address("10.0.0.1")


def test_two_overlays() -> None:
    """Two overlays have no address in common, unless they are one network on one interface."""
    text = "overlays:\n  office: {network: 172.18.0.0/24}\n  plant: {network: 172.18.0.0/16}\n"
    (fault,) = faults(text)
    assert "overlaps" in fault
    assert faults("overlays:\n  office: {network: 172.18.0.0/24}\n  plant: {network: 172.19.0.0/24}\n") == []
    lab = Zone("lab", (ip_network("10.9.0.0/24"),), "zt*", ip_address("172.18.0.201"))
    one = "{network_id: 8056c2e21c000001, network: 172.18.0.0/24}"
    assert faults(f"overlays:\n  office: {one}\n  lab: {one}\n", OFFICE, lab) == []
    other = "{network_id: 8056c2e21c000001, network: 172.18.0.0/25}"
    other_gateway = Zone("lab", lab.networks, "zt*", ip_address("172.18.0.101"))
    same = faults(f"overlays:\n  office: {one}\n  lab: {other}\n", OFFICE, other_gateway)
    assert len(same) == 1
    assert "one ZeroTier network with two `network`s" in same[0]


def test_flags_stand_above() -> None:
    """What flags say stands above the file, key by key; members are added; their faults name the command line."""
    flags = {"relay": {"public": "2.2.2.2"}, "moon": False}
    flags |= {"overlays": {"office": {"relay": "172.18.0.12", "members": {"bob": "172.18.0.13"}}}}
    found, wrong = network_file.parse(TEXT.encode(), [OFFICE], flags)
    assert wrong == ()
    assert (found.public, found.moon) == (ip_address("2.2.2.2"), False)
    (office,) = found.overlays
    assert (office.relay, office.network_id) == (ip_address("172.18.0.12"), WHOLE.network_id)
    assert [one.name for one in office.members] == ["alice-laptop", "bob"]
    bad = faults(TEXT, flags={"overlays": {"office": {"lan_address": "1.2.3.4.5", "relay": "172.18.9.9"}}})
    assert any(text.startswith("command line: lan_address: ") for text in bad)
    outside = faults(
        "overlays: {office: {network: 172.18.0.0/24}}", flags={"overlays": {"office": {"relay": "10.0.0.1"}}}
    )
    assert outside == [
        "command line: the relay has 10.0.0.1, which is not in the overlay's 172.18.0.0/24; correct one of them"
    ]


def test_policy_with_faults() -> None:
    """Where the zones are not known, because the policy has faults itself, no zone is called unknown."""
    assert network_file.parse(TEXT.encode(), None)[1] == ()
    assert len(network_file.parse(TEXT.replace("eth0", "''").encode(), None)[1]) == 1


def test_zone_on_loopback() -> None:
    """Nothing is joined for a zone on lo."""
    demo = Zone("demo", (ip_network("127.0.0.0/8"),), "lo")
    (fault,) = faults("overlays: {demo: {relay: 10.0.0.1}}", demo)
    assert "on lo" in fault


def test_read_raises(tmp_path: Path) -> None:
    """`read` gives a plan, or every fault; a file that others may write is refused."""
    file = tmp_path / "network.yaml"
    file.write_text("moon: 1\nmoan: true\n")
    file.chmod(0o666)
    with pytest.raises(SiteInvalid) as error:
        network_file.read(tmp_path, [OFFICE])
    assert len(error.value.faults) == 3
    assert any("writable by everyone" in str(fault) for fault in error.value.faults)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes(raw: bytes) -> None:
    """Whatever the file holds, there is a plan for each zone, and faults are faults."""
    plan, _ = network_file.parse(raw, [OFFICE, PLANT])
    assert [one.zone for one in plan.overlays] == [OFFICE, PLANT]


_WORDS = st.sampled_from(
    ["relay", "public", "moon", "overlays", "office", "network", "members", "route", "x", "1.1.1.1"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_WORDS, _VALUES, max_size=4))
def test_any_values(data: dict[str, object]) -> None:
    """The same for values of the right shape in wrong places, in the file and as flags."""
    import json

    plan, _ = network_file.parse(json.dumps(data).encode(), [OFFICE], data)
    assert [one.zone for one in plan.overlays] == [OFFICE]
