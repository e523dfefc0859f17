"""Rules for iptables: for machines without nft, and beside Docker's iptables rules.

iptables-restore(8) with --noflush, in one transaction per table: a chain that is declared is emptied first, other
programs' chains are left alone. Forbidden packets are dropped in `mangle`, where no other program decides; permitted
ones are accepted in `filter`, whose FORWARD drops by policy where Docker or ufw run. Each built-in chain gets one jump
to ours.
"""

from collections.abc import Iterable, Mapping, Sequence

from relay.net.plan import shell
from relay.net.plan.prefixes import literal

CHAIN = "RELAY-NET"
# ours: (table, built-in chain that jumps to it)
HOOKS = (("mangle", "FORWARD"), ("filter", "FORWARD"), ("nat", "POSTROUTING"))
_COMMANDS = {4: "iptables", 6: "ip6tables"}


def name(interface: str) -> str:
    """An interface's name or pattern as iptables knows it: `+` stands for any letters at the end."""
    return literal(interface).replace("*", "+")


def table(rules: Mapping[str, Sequence[str]]) -> str:
    """The whole file for iptables-restore: the rules of our chain in each table."""
    out = []
    for which, _ in HOOKS:
        out += [f"*{which}", f":{CHAIN} - [0:0]", *(f"-A {CHAIN} {rule}" for rule in rules[which]), "COMMIT"]
    return shell.lines(*out)


def up(files: Mapping[int, str]) -> str:
    """The part of `up`: `files` is family -> path of its rules."""
    out = [
        """
# hook COMMAND TABLE CHAIN: the built-in chain jumps to ours, first of all
hook() {
    "$1" -w -t "$2" -C "$3" -j RELAY-NET 2>/dev/null || "$1" -w -t "$2" -I "$3" 1 -j RELAY-NET
}

"""
    ]
    for family, path in files.items():
        command = _COMMANDS[family]
        out.append(f"{command}-restore -w --noflush {path}\n")
        out += [f"hook {command} {which} {chain}\n" for which, chain in HOOKS]
    return "".join(out)


def down(families: Iterable[int]) -> str:
    """The part of `down`."""
    out = [
        """
# unhook COMMAND TABLE CHAIN: our chain and the jump to it are gone
unhook() {
    while "$1" -w -t "$2" -D "$3" -j RELAY-NET 2>/dev/null; do :; done
    ! "$1" -w -t "$2" -F RELAY-NET 2>/dev/null || "$1" -w -t "$2" -X RELAY-NET
}

"""
    ]
    for family in families:
        out += [f"unhook {_COMMANDS[family]} {which} {chain}\n" for which, chain in HOOKS]
    return "".join(out)


def stand(families: Iterable[int]) -> str:
    """A command that fails when a jump to our rules is gone."""
    checks = [
        f"{_COMMANDS[family]} -w -t {which} -C {chain} -j {CHAIN}" for family in families for which, chain in HOOKS
    ]
    return f"{{ {' && '.join(checks)}; }}"


def typed(family: int, path: str) -> list[str]:
    """The commands of `up`, for the page to read."""
    command = _COMMANDS[family]
    jumps = [f"{command} -t {which} -I {chain} 1 -j {CHAIN}" for which, chain in HOOKS]
    return [f"{command}-restore --noflush {path}", *jumps]


def programs(families: Iterable[int]) -> tuple[tuple[str, str], ...]:
    """Programs that `up` needs, with the Debian package of each."""
    return tuple((f"{_COMMANDS[family]}{end}", "iptables") for family in families for end in ("", "-restore"))
