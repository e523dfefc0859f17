"""The share of a LAN host: the public keys of the persons who log in there. Nothing else is changed on it."""

from collections.abc import Mapping

from relay.core.network_plan import NetworkPlan
from relay.core.policy.model import Host
from relay.net.plan import shell
from relay.net.plan.machine import Machine, PlanStep

_ONE_SOURCE = (
    "this host sees all connections come from its LAN's gateway: who it was, the relay's audit log tells alone"
)
_ADD = """umask 077
directory=${HOME:?}/.ssh
file=$directory/authorized_keys
[ -d "$directory" ] || mkdir "$directory"
chmod go-w "$directory"
[ -f "$file" ] || : >"$file"
chmod go-rwx "$file"
# key LINE: the line is there, once; told apart by the key itself, whatever options and comment another line has
key() {
    blob=${1#* }
    blob=${blob%% *}
    ! grep -qF -- "$blob" "$file" || return 0
    # a last line without its end must not become one with ours
    [ ! -s "$file" ] || [ -z "$(tail -c 1 "$file")" ] || echo >>"$file"
    printf '%s\\n' "$1" >>"$file"
    say "added to $file: ${1##* }"
}
"""


def lan_machine(plan: NetworkPlan, host: Host, persons: Mapping[str, tuple[str, ...]] | None = None) -> Machine:
    """The share of one host: `persons` (else the plan's) are let in, person -> public key lines (TYPE BASE64 ...)."""
    known = dict(plan.persons) if persons is None else persons
    lines = [f"key {shell.quote(' '.join(_words(line, name)))}" for name in sorted(known) for line in known[name]]
    who = (
        f'[ "$(id -un)" = {shell.quote(host.user)} ] || '
        f'die "run this as the user who logs in here: sudo -H -u {shell.quote(host.user)} sh $0"\n'
        if host.user
        else ""
    )
    note = "" if lines else f"say {shell.quote('no person with a key may reach this host: see relayctl explain')}\n"
    typed = [
        f"echo {shell.quote(' '.join(_words(line, name)))} >>~/.ssh/authorized_keys"
        for name in sorted(known)
        for line in known[name]
    ]
    why = f"let in those who may log in{f' as {host.user}' if host.user else ''}"
    step = PlanStep(why, who + _ADD + shell.lines(*lines) + note, typed=shell.lines(*typed))
    return Machine(
        name="lan-host",
        zone=host.zone,
        title=f"the LAN host {host.name} ({host.address})",
        printed_by=f"relayctl net plan --machine lan-host --host {host.name}.{host.zone}",
        before=(step,),
        warnings=(_ONE_SOURCE,),
    )


def _words(line: str, person: str) -> list[str]:
    """Type, key and the person as the comment."""
    return [*line.split()[:2], f"{person}@relay"]
