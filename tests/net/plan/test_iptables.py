"""Rules for iptables: names, hooks and the check that they are loaded."""

import pytest

from relay.net.plan import iptables


@pytest.mark.parametrize(("interface", "name"), [("zt0", "zt0"), ("zt*", "zt+"), ("zt?0", "zt+")])
def test_a_pattern_ends_with_plus(interface: str, name: str) -> None:
    """iptables(8) knows one wildcard, `+` at the end."""
    assert iptables.name(interface) == name


def test_each_table_has_our_chain_and_is_committed() -> None:
    """iptables-restore empties a declared chain, and commits each table for itself."""
    rules = {"mangle": ["-i zt0 -j DROP"], "filter": [], "nat": ["-o eth0 -j MASQUERADE"]}
    lines = iptables.table(rules).splitlines()
    assert [line for line in lines if line.startswith("*")] == ["*mangle", "*filter", "*nat"]
    assert lines.count("COMMIT") == lines.count(":RELAY-NET - [0:0]") == 3
    assert "-A RELAY-NET -i zt0 -j DROP" in lines


def test_the_check_asks_for_every_jump() -> None:
    """The rules count as loaded only when each built-in chain jumps to ours, in both families."""
    check = iptables.stand([4, 6])
    for command in ("iptables", "ip6tables"):
        for table, chain in iptables.HOOKS:
            assert f"{command} -w -t {table} -C {chain} -j RELAY-NET" in check


def test_the_undo_removes_jump_and_chain() -> None:
    """`down` names each chain that `up` hooks."""
    for table, chain in iptables.HOOKS:
        assert f"hook iptables {table} {chain}" in iptables.up({4: "/etc/relay-net/rules"})
        assert f"unhook iptables {table} {chain}" in iptables.down([4])
