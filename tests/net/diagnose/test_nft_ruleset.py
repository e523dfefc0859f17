"""Whether nft would stop a packet, read from real listings of real rules."""

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy.model import Zone
from relay.net.diagnose import nft_ruleset
from relay.net.plan import nft
from relay.net.plan.prefixes import Prefix
from tests.net.conftest import Namespace

GUARD = nft.table(
    [
        nft.chain(
            "guard",
            nft.guard(
                [
                    Prefix(ip_network("192.168.1.0/24"), ("wg0", "zt*"), (ip_network("192.168.1.64/26"),)),
                    Prefix(ip_network("fdaa::/64"), ("zt*",)),
                ],
                [
                    Zone("office", (ip_network("192.168.1.0/24"),), "wg0", ip_address("172.18.0.200")),
                    Zone("plant", (ip_network("fdaa::/64"),), "zt1", ip_address("fd18::200")),
                ],
            ),
        ),
        nft.chain("output", ["jump guard"], "type filter hook output priority filter; policy accept;"),
    ]
)


def own(*rules: str, policy: str = "accept", hook: str = "output") -> str:
    """A table as a person writes it."""
    body = "\n".join(rules)
    return (
        "table ip mine {\nset lan {\ntype ipv4_addr; elements = { 192.168.1.1 }\n}\nchain other {\n}\n"
        f"chain out {{\ntype filter hook {hook} priority 0; policy {policy};\n{body}\n}}\n}}\n"
    )


def listed(host: Namespace, text: str) -> nft_ruleset.Ruleset:
    """What the kernel has after loading these rules."""
    host.run("sh", "-c", f"nft -f - <<'E'\n{text}\nE")
    return nft_ruleset.parse(host.run("nft", "-j", "list", "ruleset"))


@pytest.mark.system
def test_the_guard_that_we_plan_stops_exactly_what_it_should(namespace: Namespace) -> None:
    """A zone's prefix by another interface is stopped, by its own ones and in a spared part it is not."""
    found = listed(namespace, GUARD)
    for address, interface, stopped in [
        ("192.168.1.1", "eth0", True),
        ("192.168.1.1", "zt0", False),
        ("192.168.1.1", "wg0", False),
        ("192.168.1.1", "wg00", True),
        ("192.168.1.1", "lo", False),
        ("192.168.1.63", "eth0", True),
        ("192.168.1.64", "eth0", False),
        ("192.168.2.1", "eth0", False),
        ("fdaa::1", "eth0", True),
        ("fdaa::1", "zt1", False),
        ("fdab::1", "eth0", False),
    ]:
        assert found.stops(ip_address(address), interface) == ("inet relay_net" if stopped else ""), (
            address,
            interface,
        )


@pytest.mark.system
def test_the_guard_lets_packets_out_to_the_gateway_only(namespace: Namespace) -> None:
    """To whom a packet is handed is compared, where it is known: on-link it would be the address itself."""
    found = listed(namespace, GUARD)
    for address, interface, hop, stopped in [
        ("192.168.1.1", "wg0", "172.18.0.200", False),
        ("192.168.1.1", "wg0", "192.168.1.1", True),
        ("192.168.1.1", "zt0", "192.168.1.1", False),  # another interface, no such rule
        ("192.168.2.1", "wg0", "192.168.2.1", False),
        ("fdaa::1", "zt1", "fd18::200", False),
        ("fdaa::1", "zt1", "fdaa::1", True),
    ]:
        assert bool(found.stops(ip_address(address), interface, ip_address(hop))) is stopped, (address, interface, hop)
    assert found.stops(ip_address("192.168.1.1"), "wg0") == ""


@pytest.mark.system
@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        (own('ip daddr 192.168.1.0/24 oifname != "zt0" reject'), True),
        (own('ip daddr 192.168.1.0/24 oifname != "zt0" counter log drop'), True),
        (own("ip daddr { 192.168.1.0-192.168.1.9, 10.0.0.1 } drop"), True),
        (own("ip daddr 192.168.1.1 drop"), True),
        (own("ip daddr @lan drop"), False),  # a set that may change: not sure
        (own("ip daddr != @lan accept", "drop"), False),
        (own("ct state established accept", "drop"), False),  # an established flow would leave
        (own("tcp dport 22 drop"), False),
        (own("ip saddr 10.0.0.1 return", "drop"), False),
        (own("jump other", "drop"), True),
        (own("goto other", "drop"), False),
        (own("meta mark 7 drop"), False),
        (own('oifname "zt0" accept', policy="drop"), True),
        (own('oifname "eth*" accept', policy="drop"), False),
        (own("drop", hook="forward"), False),
        ("table ip6 mine {\nchain out {\ntype filter hook output priority 0; policy drop;\n}\n}", False),
        ("", False),
    ],
)
def test_only_what_is_surely_a_drop_counts(namespace: Namespace, text: str, stopped: bool) -> None:
    """Destinations and outgoing interfaces are understood; whatever else a rule asks makes it uncertain."""
    assert bool(listed(namespace, text).stops(ip_address("192.168.1.1"), "eth0")) is stopped


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nftables": 1}', "[" * 100_000, '{"nftables": [' * 50_000])
def test_what_is_no_listing_is_refused(text: str) -> None:
    """An answer that is not nft's is an error, not an empty set of rules."""
    with pytest.raises(ValueError):
        nft_ruleset.parse(text)


def test_a_chain_that_jumps_to_itself_ends() -> None:
    """The kernel does not take such rules; a listing that has them is not followed for ever, and stops nothing."""
    key = {"family": "ip", "table": "t"}
    text = json.dumps(
        {
            "nftables": [
                {"chain": {**key, "name": "out", "hook": "output", "type": "filter"}},
                {"rule": {**key, "chain": "out", "expr": [{"jump": {"target": "out"}}]}},
            ]
        }
    )
    assert nft_ruleset.parse(text).stops(ip_address("192.168.1.1"), "eth0") == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["ip", "daddr", "192.168.1.1"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["match", "op", "left", "right", "payload", "meta", "protocol", "field", "key", "set", "prefix",
                         "addr", "len", "range", "drop", "jump", "target", "expr", "x"]), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.lists(JSON, max_size=5))
def test_any_rule_is_read_without_an_error(expressions: list[object]) -> None:
    """Whatever nft prints in a rule, it is a match, none, or uncertain."""
    key = {"family": "inet", "table": "t"}
    items = [
        {"chain": {**key, "name": "out", "hook": "output", "type": "filter"}},
        {"rule": {**key, "chain": "out", "expr": expressions}},
        *expressions,
    ]
    nft_ruleset.parse(json.dumps({"nftables": items})).stops(ip_address("192.168.1.1"), "eth0")
