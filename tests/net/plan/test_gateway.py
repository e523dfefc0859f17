"""The share of a zone's gateway."""

from itertools import product

import pytest

from relay.errors import RelayError
from relay.net.plan.gateway import gateway_machine
from relay.net.plan.machine import OWN
from relay.net.plan.render import render
from tests.lab.world import wait_for
from tests.net.plan.conftest import SHELLS, Box
from tests.net.plan.shares import overlay, six

NFT = """\
table inet relay_net {
	chain from_overlay {
		ct state invalid drop
		oifname "eth0" ip saddr 172.18.0.10 ip daddr 192.168.1.0/24 meta l4proto { icmp, tcp } accept
		drop
	}

	chain to_overlay {
		iifname "eth0" ip daddr 172.18.0.10 ct state established,related accept
		drop
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "zt0" jump from_overlay
		oifname "zt0" jump to_overlay
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" ip saddr 172.18.0.10 ip daddr 192.168.1.0/24 masquerade
	}
}
"""


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("firewall", ["nft", "iptables"])
def test_printed_script_runs_twice(box: Box, firewall: str, shell: tuple[str, ...]) -> None:
    """The printed script sets rules and forwarding, changes nothing when run again, and `down` takes all back."""
    box.link("zt0", "172.18.0.200/24")
    box.link("eth0", "192.168.1.200/24")
    said, held = box.printed(gateway_machine(overlay(), firewall=firewall), *shell)
    assert "written: /etc/relay-net/up" in said
    assert held.forwarding == "10"
    assert ("RELAY-NET" in held.rules) == (firewall == "iptables")
    assert (held.rules == NFT) == (firewall == "nft")
    box.machine.run(*shell, "/etc/relay-net/down")
    assert box.held().forwarding == "00"
    assert "relay_net" not in box.rules()
    assert "RELAY-NET" not in box.rules()
    box.machine.run(*shell, "/etc/relay-net/down")


@pytest.mark.system
@pytest.mark.parametrize("firewall", ["nft", "iptables"])
def test_ipv6(box: Box, firewall: str) -> None:
    """A site of IPv6 gets the same rules in its own family, and IPv6 forwarding only."""
    _, held = box.printed(gateway_machine(six(), firewall=firewall))
    assert "fdaa::/64" in held.rules
    assert "ipv6-icmp" in held.rules
    assert held.forwarding == "01"


@pytest.mark.system
def test_iptables_rules(box: Box) -> None:
    """The iptables form drops in mangle, accepts in filter and masquerades in nat, each in a chain of its own."""
    _, held = box.printed(gateway_machine(overlay(interface="zt*"), firewall="iptables"))
    saved = box.machine.sh("iptables-save 2>/dev/null | grep -v '^[#:]'")
    way = "-s 172.18.0.10/32 -d 192.168.1.0/24 -i zt+ -o eth0"
    back = "-d 172.18.0.10/32 -i eth0 -o zt+ -m conntrack --ctstate RELATED,ESTABLISHED"
    assert [line for line in saved.splitlines() if "RELAY-NET" in line] == [
        "-A FORWARD -j RELAY-NET",
        "-A RELAY-NET -i zt+ -m conntrack --ctstate INVALID -j DROP",
        f"-A RELAY-NET {way} -p tcp -j RETURN",
        f"-A RELAY-NET {way} -p icmp -j RETURN",
        f"-A RELAY-NET {back} -j RETURN",
        "-A RELAY-NET -i zt+ -j DROP",
        "-A RELAY-NET -o zt+ -j DROP",
        "-A FORWARD -j RELAY-NET",
        f"-A RELAY-NET {way} -p tcp -j ACCEPT",
        f"-A RELAY-NET {way} -p icmp -j ACCEPT",
        f"-A RELAY-NET {back} -j ACCEPT",
        "-A POSTROUTING -j RELAY-NET",
        "-A RELAY-NET -s 172.18.0.10/32 -d 192.168.1.0/24 -o eth0 -j MASQUERADE",
    ], saved
    assert held.forwarding == "10"


@pytest.mark.system
def test_other_form(box: Box) -> None:
    """A change between nft and iptables leaves the rules of the last one only."""
    for firewall, there, gone in (
        ("nft", "relay_net", "RELAY-NET"),
        ("iptables", "RELAY-NET", "relay_net"),
        ("nft", "relay_net", "RELAY-NET"),
    ):
        _, held = box.printed(gateway_machine(overlay(), firewall=firewall))
        assert there in held.rules
        assert gone not in held.rules


@pytest.mark.system
@pytest.mark.parametrize("firewall", ["nft", "iptables"])
def test_others_rules_stay(box: Box, firewall: str) -> None:
    """Another's tables, chains and forwarding are neither changed by the script nor by `down`."""
    box.machine.nft(
        "table inet theirs {\nchain forward {\ntype filter hook forward priority 0\nct mark 7 accept\n}\n}\n"
    )
    box.machine.sh("iptables -N THEIRS; iptables -A THEIRS -j ACCEPT; iptables -A FORWARD -i br0 -j THEIRS")
    before = box.rules()
    _, held = box.printed(gateway_machine(overlay(), firewall=firewall))
    assert all(line in held.rules for line in before.splitlines())
    box.machine.run("/etc/relay-net/down")
    after = box.rules()
    assert "table inet theirs" in after
    assert "THEIRS" in after
    assert "zt0" not in after


@pytest.mark.system
@pytest.mark.parametrize("firewall", ["nft", "iptables"])
def test_watch_heals_the_rules(box: Box, firewall: str) -> None:
    """Rules that another program removed are restored within seconds, for nft and iptables."""
    box.printed(gateway_machine(overlay(), firewall=firewall))
    before = box.rules()
    watch = box.machine.start(f"{OWN}/watch")
    box.machine.run("nft", "flush", "ruleset")
    wait_for(lambda: box.rules() == before, "the rules were not healed")
    watch.end()


@pytest.mark.system
def test_docker_is_named(box: Box) -> None:
    """Where others' rules drop what is forwarded, the nft form says so; the iptables form is let through."""
    box.machine.sh("iptables -P FORWARD DROP")
    said, _ = box.printed(gateway_machine(overlay()))
    assert "other rules here drop what is forwarded" in said
    assert "--firewall iptables" in said
    said, _ = box.printed(gateway_machine(overlay(), firewall="iptables"))
    assert "other rules" not in said


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_two_interfaces(box: Box, shell: tuple[str, ...]) -> None:
    """A pattern that means two interfaces stops the script, naming both, before anything is forwarded."""
    box.link("zta")
    box.link("ztb")
    said = box.script(render(gateway_machine(overlay(interface="zt*"))), *shell, status=1)
    assert "zta and ztb are both called like zt*" in said
    assert box.held().forwarding == "00"


@pytest.mark.system
def test_interfaces_later(box: Box) -> None:
    """At boot the overlay's interface comes after the rules: they wait for it, and the script says so and succeeds."""
    said, held = box.printed(gateway_machine(overlay(interface="zt*")))
    assert "there is no interface zt* yet" in said
    assert 'iifname "zt*"' in held.rules
    assert held.forwarding == "10"


@pytest.mark.system
@pytest.mark.parametrize(("firewall", "program", "package"), [("nft", "nft", "nftables"), ("iptables",) * 3])
def test_missing_program(box: Box, firewall: str, program: str, package: str) -> None:
    """A program that is not there is named with its package, and nothing is forwarded."""
    script = render(gateway_machine(overlay(), firewall=firewall))
    script = script.replace("PATH=$PATH:/usr/sbin:/sbin", "PATH=/run/bare")
    box.machine.sh(
        "mkdir /run/bare; for p in id cat chmod mkdir mv rm grep; do ln -s $(command -v $p) /run/bare/; done"
    )
    said = box.script(script.replace("#!/bin/sh", "#!/usr/bin/dash"), "/usr/bin/dash", status=1 if firewall else 0)
    assert f"there is no {program} here: install the package {package}" in said
    assert box.held().forwarding == "00"


@pytest.mark.system
def test_only_root(box: Box) -> None:
    """Without root the script says so and changes nothing."""
    box.machine.write("/run/script.sh", render(gateway_machine(overlay())))
    box.program("id", "#!/bin/sh\necho 1000\n")
    said = box.script(render(gateway_machine(overlay())), status=1)
    assert "run this as root" in said
    assert not box.machine.path("/etc/relay-net").exists()


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"gateway": ""}, "has no gateway"),
        ({"lan_interface": ""}, "`lan_interface`"),
        ({"relay": "", "network": ""}, "`relay`"),
    ],
)
def test_what_is_not_known(given: dict[str, str], missing: str) -> None:
    """What a gateway cannot be planned without is named, with where to write it."""
    with pytest.raises(RelayError, match=missing) as error:
        gateway_machine(overlay(**given))
    assert error.value.hint


def test_method_2_is_for_every_protocol() -> None:
    """Full routing is not only for TCP; still only the relay passes."""
    for method, firewall in product((1, 2), ("nft", "iptables")):
        text = next(
            file.text
            for file in gateway_machine(overlay(), method=method, firewall=firewall).files
            if "rules" in file.path
        )
        assert ("icmp" in text) == (method == 1)
        assert "172.18.0.10" in text
        assert "172.18.0.0/24" not in text


def test_members_where_the_relay_is_not_known() -> None:
    """Without the relay's own address the whole overlay passes, and nothing else."""
    machine = gateway_machine(overlay(relay=""))
    assert "ip saddr 172.18.0.0/24 ip daddr 192.168.1.0/24" in machine.files[0].text
