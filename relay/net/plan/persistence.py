"""Persistence of a machine's rules: a systemd unit, and a script that restores what other programs remove.

Only `up` makes anything. `watch` runs it again when an interface of ours, an address or a route changes, when the rules
are gone (a restart of nftables empties every table), and once a minute. Stopping the unit removes nothing, because a
guard must survive a crash of its unit; `down` removes it.
"""

from collections.abc import Iterable

from relay.core.policy.model import Network
from relay.net.plan import shell
from relay.net.plan.machine import OWN, UNIT, ManagedFile
from relay.net.plan.prefixes import literal

UP, DOWN, WATCH = f"{OWN}/up", f"{OWN}/down", f"{OWN}/watch"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"

_UNIT = f"""[Unit]
Description=Network of the SSH jump relay: {{what}}
After=network-pre.target nftables.service zerotier-one.service docker.service
Before=relay.service
ReloadPropagatedFrom=nftables.service
StartLimitIntervalSec=0

[Service]
ExecStartPre={UP}
ExecStart={WATCH}
ExecReload={UP}
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def files(
    *,
    what: str,
    up: str,
    down: str,
    interfaces: Iterable[str],
    networks: Iterable[Network] = (),
    stand: str = ":",
) -> tuple[ManagedFile, ...]:
    """`up`, `down`, `watch` and the unit.

    `watch` waits for changes of `interfaces` (patterns) and `networks`; `stand` is a command that fails when the rules
    are gone.
    """
    return (
        ManagedFile(UP, up, 0o755, "makes the kernel fit; may be run again at any time"),
        ManagedFile(DOWN, down, 0o755, "takes it back, and nothing else"),
        ManagedFile(WATCH, _watch(interfaces, networks, stand), 0o755, "runs up again when something was taken away"),
        ManagedFile(UNIT_PATH, _UNIT.format(what=what), why="the same at every boot"),
    )


def _watch(interfaces: Iterable[str], networks: Iterable[Network], stand: str) -> str:
    texts = [*(literal(interface).rstrip("*") for interface in interfaces), *map(str, networks)]
    # one that holds another would make the longer one a pattern that never counts
    shortest = [text for text in sorted(set(texts)) if not any(other != text and other in text for other in texts)]
    patterns = " | ".join(["gone", "minute", *(f"*{shell.quote(text)}*" for text in shortest)])
    return (
        shell.header("relay-net watch: runs `up` again after a change, when the rules are gone, and once a minute")
        + f"""
{{
    count=0
    while :; do
        {stand} >/dev/null 2>&1 || echo gone
        count=$((count + 1))
        [ $((count % 30)) != 0 ] || echo minute
        sleep 2
    done &
    exec ip -o monitor link address route
}} | while read -r event; do
    case $event in
        {patterns}) {UP} quiet || : ;;
    esac
done
"""
    )
