"""Parts of the printed scripts. POSIX sh, for dash and busybox: `set -eu`, idempotent, only programs that a NAS has.

Values are quoted (`quote`); nothing of a plan is ever parsed as shell text.
"""

from shlex import quote

from relay.net.plan.machine import OWN, PROTOCOL

__all__ = ["INTERFACE", "LOOSE", "ROUTES", "SETTING", "UNSET", "header", "lines", "need", "quote"]

# sbin is not in the PATH of every cron, sudo and NAS
_HEAD = """set -eu
PATH=$PATH:/usr/sbin:/sbin
say() { printf 'relay-net: %s\\n' "$*" >&2; }
note() { [ "$quiet" ] || say "$@"; }
die() { say "$*"; exit 1; }
"""

_NEED = """need() { command -v "$1" >/dev/null 2>&1 || die "there is no $1 here: install the package $2"; }
"""

# /proc/net/dev needs no program and belongs to the network namespace, which /sys does not always
INTERFACE = """
# interface PATTERN: `found` is the one interface called like it; status 1 if there is none, the end for several
interface() {
    found=
    while IFS=': ' read -r name _; do
        # shellcheck disable=SC2254  # it is a pattern
        case $name in
            '' | *'|'*) ;;
            $1) [ -z "$found" ] || die "$found and $name are both called like $1: name the one in network.yaml"
                found=$name ;;
        esac
    done </proc/net/dev
    [ "$found" ]
}
"""

SETTING = f"""
# setting NAME VALUE: a setting below /proc/sys has this value; what it was is kept for `down`
setting() {{
    was=$(cat "/proc/sys/$1") || die "this kernel has no setting $1"
    [ "$was" != "$2" ] || return 0
    grep -q "^$1 " {OWN}/was 2>/dev/null || printf '%s %s\\n' "$1" "$was" >>{OWN}/was
    printf '%s\\n' "$2" >"/proc/sys/$1" || die "the setting $1 cannot be changed: are you root?"
}}
"""

LOOSE = """
# loose INTERFACE: a strict rp_filter becomes a loose one there (the larger of `all` and the interface's own counts)
loose() {
    case $(cat /proc/sys/net/ipv4/conf/all/rp_filter "/proc/sys/net/ipv4/conf/$1/rp_filter") in
        *2* | 0*0) ;;
        *) setting "net/ipv4/conf/$1/rp_filter" 2 ;;
    esac
}
"""

UNSET = f"""
if [ -f {OWN}/was ]; then
    while read -r name value; do
        [ ! -f "/proc/sys/$name" ] || printf '%s\\n' "$value" >"/proc/sys/$name"
    done <{OWN}/was
    rm {OWN}/was
fi
"""

ROUTES = f"""
# shown FAMILY: our routes, each up to its metric
shown() {{
    ip "-$1" route show table main proto {PROTOCOL} |
        sed 's/ dev lo metric/ metric/; s/\\( metric [0-9]*\\).*/\\1/'
}}
# route FAMILY ROUTE: it is there already, or is made; never taken away first
planned='
'
route() {{
    planned="$planned$1 $2
"
    # shellcheck disable=SC2086  # the route is words
    shown "$1" | grep -qxF -- "$2" || ip "-$1" route replace $2 proto {PROTOCOL}
}}
# our routes that are not planned any more
sweep() {{
    for family in 4 6; do
        shown "$family" | while read -r line; do
            # shellcheck disable=SC2086  # the route is words
            case $planned in
                *"
$family $line
"*) ;;
                *) ip "-$family" route del $line proto {PROTOCOL} ;;
            esac
        done
    done
}}
"""


def header(title: str) -> str:
    """The first lines of a script: what it does, in a comment; `quiet` is set by a first argument "quiet"."""
    return "#!/bin/sh\n" + "".join(f"# {line}".rstrip() + "\n" for line in title.splitlines()) + "quiet=${1-}\n" + _HEAD


def need(*programs: tuple[str, str]) -> str:
    """That each (program, Debian package) is there, or the end with the package's name."""
    return _NEED + lines(*(f"need {program} {package}" for program, package in programs))


def lines(*texts: str) -> str:
    """Lines with their ends."""
    return "".join(f"{text}\n" for text in texts)
