"""A machine's share as text: one runnable file, or a page to read.

The file embeds every file as a quoted here-document, writes those that differ, and runs `up`. It can be run again at
any time, on a NAS with busybox too. systemd starts it at every boot; without systemd it prints what to do.
"""

from hashlib import sha256

from relay.net.plan import shell
from relay.net.plan.machine import OWN, UNIT, Machine, ManagedFile, PlanStep
from relay.net.plan.persistence import UNIT_PATH

_PLACE = """
# place MODE PATH: the file is what comes in; written only when it differs, and never half
place() {
    mkdir -p "${2%/*}"
    cat >"$2.new"
    chmod "$1" "$2.new"
    if [ -f "$2" ] && [ "$(cat "$2")" = "$(cat "$2.new")" ]; then
        chmod "$1" "$2"
        rm "$2.new"
    else
        mv "$2.new" "$2"
        say "written: $2"
        changed=1
    fi
}
changed=
"""
_BOOT = (
    "no systemd here: let {up} run at every boot as root"
    " (OpenWrt: a line in /etc/rc.local; Alpine: /etc/local.d/relay-net.start; a NAS: a task at boot)"
)


def render(machine: Machine, form: str = "sh") -> str:
    """The machine's share as text; `form` is "sh" or "md"."""
    return _sh(machine) if form == "sh" else _md(machine)


def _sh(machine: Machine) -> str:
    out = [shell.header(_title(machine))]
    if machine.files:
        out.append('\n[ "$(id -u)" = 0 ] || die "run this as root: it writes /etc and the kernel\'s rules"\n')
    out += [_step(step) for step in machine.before]
    if machine.files:
        out.append(_PLACE)
        unit = next((file for file in machine.files if file.path == UNIT_PATH), None)
        out += ["\n" + _placed(file) for file in machine.files if file is not unit]
        out.append(_start(machine, unit))
    out += [_step(step) for step in machine.after]
    return "".join(out)


def _title(machine: Machine) -> str:
    lines = [f"{machine.title or machine.name}: written by `relayctl net plan`; run it there, as often as you like"]
    for warning in machine.warnings:
        lines += ["", f"Warning: {warning}"]
    return "\n".join(lines)


def _step(step: PlanStep) -> str:
    out = "\n" + "".join(f"# {line}\n" for line in step.why.splitlines())
    if step.script:
        out += step.script
    if step.by_hand:
        out += f"cat >&2 <<'BY-HAND'\nrelay-net: to do by hand: {step.by_hand}\nBY-HAND\n"
    return out


def _placed(file: ManagedFile) -> str:
    end = "END-OF-FILE"
    while end in file.text.splitlines():
        end = f"END-{sha256(file.text.encode() + end.encode()).hexdigest()[:16]}"
    why = f"# {file.why}\n" if file.why else ""
    return f"{why}place {file.mode:04o} {shell.quote(file.path)} <<'{end}'\n{file.text}{end}\n"


def _start(machine: Machine, unit: ManagedFile | None) -> str:
    if unit is None:
        return f"\n{machine.up}\n"
    return (
        "\nif [ -d /run/systemd/system ]; then\n"
        + _placed(unit)
        + '[ -z "$changed" ] || systemctl daemon-reload\n'
        + f"systemctl enable --quiet {UNIT}\n"
        + f'if [ "$changed" ]; then systemctl restart {UNIT}; else systemctl start {UNIT}; fi\n'
        + f'else\n    {machine.up}\n    [ -z "$changed" ] || say {shell.quote(_BOOT.format(up=machine.up))}\nfi\n'
    )


def _md(machine: Machine) -> str:
    out = [f"## On {machine.title or machine.name}", ""]
    for warning in machine.warnings:
        out += [f"> **Warning:** {warning}.", ""]
    for step in machine.before:
        out += _read(step)
    if machine.files:
        out += _files(machine)
    for step in machine.after:
        out += _read(step)
    if machine.printed_by:
        out += _how(machine)
    return "\n".join(out)


def _files(machine: Machine) -> list[str]:
    """The rules in full; of the scripts what they are for and what they come down to: they print themselves."""
    out = []
    for file in machine.files:
        if not file.mode & 0o100:
            out += [f"`{file.path}`: {file.why}:", "", _fenced(file.text), ""]
    scripts = [file for file in machine.files if file.mode & 0o100]
    out += [*(f"- `{file.path}` {file.why}" for file in scripts), ""]
    if machine.typed:
        out += [f"What `{machine.up}` comes down to:", "", _fenced(machine.typed), ""]
    return out


def _how(machine: Machine) -> list[str]:
    if machine.name == "relay":
        out = ["Files, rules and unit, after a look at what would change:", "", _fenced(f"{machine.printed_by}\n"), ""]
        return [*out, f"To take it back: `{machine.printed_by.partition(' --')[0]} --undo`.", ""]
    file = f"{machine.name}.sh"
    sudo = "sudo " if machine.files else ""
    out = ["The script that does all of it, as often as it is run:", ""]
    out += [_fenced(f"{machine.printed_by} --format sh >{file}   # on the relay host\n{sudo}sh {file}   # there\n"), ""]
    if machine.down:
        out += [f"To take it back: `systemctl disable --now {UNIT}; {machine.down}; rm -r {OWN} {UNIT_PATH}`.", ""]
    return out


def _read(step: PlanStep) -> list[str]:
    out = [f"{step.why[:1].upper()}{step.why[1:]}:", ""]
    if step.by_hand:
        out += [step.by_hand, ""]
    if step.typed or step.script:
        out += [_fenced(step.typed or step.script), ""]
    return out


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}{fence}" if text.endswith("\n") else f"{fence}\n{text}\n{fence}"
