"""What do the scripts say? POSIX sh, for dash and busybox: `set -eu`, idempotent, and no program that a NAS has not.

Values are put in quoted (`quote`); nothing of a plan is ever read as shell text.
"""

from shlex import quote

__all__ = ["HEAD", "header", "interface", "lines", "need", "quote"]

# of every script of ours; sbin is not in the PATH of every cron, sudo and NAS
HEAD = """set -eu
PATH=$PATH:/usr/sbin:/sbin
say() { printf 'relay-net: %s\\n' "$*" >&2; }
die() { say "$*"; exit 1; }
"""

_NEED = """need() { command -v "$1" >/dev/null 2>&1 || die "there is no $1 here; install the package $2"; }
"""

# /proc/net/dev needs no program and belongs to the network namespace, which /sys does not always
_INTERFACE = """# the one interface that is called like $1; status 1 if there is none, and the end for several
interface() {
    found=
    while IFS=': ' read -r name rest; do
        # shellcheck disable=SC2254  # it is a pattern
        case $name in
            *'|'* | '') ;;
            $1) [ -z "$found" ] || die "$found and $name are both called like $1: name one in network.yaml"
                found=$name ;;
        esac
    done </proc/net/dev
    [ -n "$found" ] && printf '%s\\n' "$found"
}
"""


def header(title: str) -> str:
    """The first lines of a script: what it does, in a comment."""
    return "#!/bin/sh\n" + "".join(f"# {line}\n" for line in title.splitlines()) + HEAD


def need(*programs: tuple[str, str]) -> str:
    """That each (program, Debian package) is there, or the end with the package's name."""
    return _NEED + lines(*(f"need {program} {package}" for program, package in programs))


def interface() -> str:
    """The function `interface PATTERN`."""
    return _INTERFACE


def lines(*texts: str) -> str:
    """Lines with their ends."""
    return "".join(f"{text}\n" for text in texts)
