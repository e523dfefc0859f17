"""What must the relay host have, so that nothing for a zone leaves by another interface?"""

from collections.abc import Sequence

from relay.core.network import NetworkPlan
from relay.net.machine import OWN, PROTOCOL, TABLE, UNIT, Machine, OwnFile
from relay.net.plan import nft, shell
from relay.net.plan.prefixes import Prefix, largest, prefixes

UP, DOWN, RULES = f"{OWN}/up", f"{OWN}/down", f"{OWN}/rules.nft"
_LAST = 4294967294  # the metric of the fallback: behind every other route; one less than the kernel's own last

_UNIT = f"""[Unit]
Description=Network of the SSH jump relay: nothing for a zone leaves by another interface
After=network-pre.target nftables.service zerotier-one.service
Before=relay.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={UP}
ExecStop={DOWN}

[Install]
WantedBy=multi-user.target
"""


def relay_machine(plan: NetworkPlan, *, method: int = 1) -> Machine:
    """The relay host's share of a plan. `method` 2: it forwards for the overlays' members too."""
    guarded = prefixes(overlay.zone for overlay in plan.overlays)
    files = (
        OwnFile(RULES, _rules(guarded), why="no packet for a zone leaves by another interface"),
        OwnFile(UP, _up(guarded), 0o755, "makes the kernel fit; may be run again at any time"),
        OwnFile(DOWN, _down(), 0o755, "takes it back"),
        OwnFile(f"/etc/systemd/system/{UNIT}", _UNIT, why="the same at every boot, before the relay"),
    )
    return Machine(name="relay", title="the relay host", files=files, up=UP, down=DOWN)


def _rules(guarded: Sequence[Prefix]) -> str:
    hook = "type filter hook {} priority filter; policy accept;"
    return nft.table(
        [
            nft.chain("guard", nft.guard(guarded)),
            nft.chain("output", ["jump guard"], hook.format("output")),
            nft.chain("forward", ["jump guard"], hook.format("forward")),
        ]
    )


def _up(guarded: Sequence[Prefix]) -> str:
    # of the largest only: inside of another zone's network a fallback would hide that zone's route from its sockets
    fallback = (
        f"ip -{network.version} route replace unreachable {network} metric {_LAST} proto {PROTOCOL}"
        for network in largest([prefix.network for prefix in guarded])
    )
    return (
        shell.header("relay-net up: makes the kernel of the relay host fit the plan; idempotent")
        + shell.need(("nft", "nftables"), ("ip", "iproute2"))
        + shell.lines(f"nft -f {RULES}", *fallback)
    )


def _down() -> str:
    return shell.header("relay-net down: takes back what `up` did, and nothing else") + shell.lines(
        f"for family in -4 -6; do ip $family route flush proto {PROTOCOL} 2>/dev/null || :; done",
        f"nft list table inet {TABLE} >/dev/null 2>&1 && nft delete table inet {TABLE} || :",
    )
