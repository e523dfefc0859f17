"""The kernel state that we own: as it is, as planned, and how to restore it.

It consists of the nft table TABLE, the routes of protocol PROTOCOL in the main table (managed_routes), and a few
settings below /proc/sys. States are compared as normalized text; rules are normalized by nft's own listing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relay.core.escape import escape
from relay.errors import RelayError
from relay.net import system_commands
from relay.net.apply import managed_routes
from relay.net.apply.managed_routes import ManagedRouteLine
from relay.net.kernel import interfaces
from relay.net.kernel.interfaces import Interface
from relay.net.plan.machine import PROTOCOL, TABLE, WAS, PlannedKernelState, PlannedRoute

_SETTINGS = Path("/proc/sys")
# only the network's; a part may be an interface's name, but never a way out
_SETTING = re.compile(r"net(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.:@-]{1,40}){1,8}")


@dataclass(frozen=True, slots=True)
class KernelState:
    """Kernel state that we own. The zero value: nothing."""

    rules: str = ""  # as `nft list table` prints them; "": no table
    routes: tuple[ManagedRouteLine, ...] = ()  # in order
    settings: tuple[tuple[str, str], ...] = ()  # the requested ones; "": this kernel has none of that name


@dataclass(frozen=True, slots=True)
class PlannedState:
    """Planned kernel state, and what has to wait for its interface."""

    state: KernelState = KernelState()
    waiting: tuple[str, ...] = ()


def read_kernel(settings: Iterable[str] = ()) -> KernelState:
    """The kernel state that we own now. Raises RelayError when nft or ip is missing or does not answer."""
    return KernelState(
        read_rules(), managed_routes.read_routes(), tuple((name, read_setting(name)) for name in sorted(set(settings)))
    )


def planned_state(kernel: PlannedKernelState, rules: str, routes: Iterable[ManagedRouteLine] = ()) -> PlannedState:
    """The state that `kernel` requires now; `rules` are normalized, `routes` are those present.

    Routes and settings of a missing interface are in `waiting`, and so is a route by an interface that is down or
    without an address. Raises RelayError where a pattern means more than one interface.
    """
    there = {at.name: at for at in interfaces.interfaces()}
    wanted: set[ManagedRouteLine] = set()
    settings: dict[str, str] = {}
    waiting: list[str] = []
    for route in kernel.routes:
        at = _meant(route.interface, there)
        line = managed_routes.route_line(route, at.name if at is not None else route.interface)
        if not route.interface or line in routes or (at is not None and _ready(at, route)):
            wanted.add(line)
        else:
            waiting.append(str(line))
    for name, value in kernel.settings:
        pattern = next((part for part in name.split("/") if interfaces.is_pattern(part)), "")
        at = _meant(pattern, there)
        if pattern and at is None:
            waiting.append(f"{name} = {value}")
        else:
            settings["/".join(at.name if at is not None and part == pattern else part for part in name.split("/"))] = (
                value
            )
    return PlannedState(KernelState(rules, tuple(sorted(wanted)), tuple(sorted(settings.items()))), tuple(waiting))


def _meant(pattern: str, there: dict[str, Interface]) -> Interface | None:
    names = interfaces.candidates(pattern, there) if pattern else []
    if len(names) > 1:
        interfaces.match(pattern, names)  # raises, naming them
    return there[names[0]] if names else None


def _ready(at: Interface, route: PlannedRoute) -> bool:
    """Whether the kernel would take the route: it asks for an address from which the gateway can be on-link."""
    gateway = route.gateway
    return at.up and (
        gateway is None
        or any(own.version == gateway.version and own.is_link_local <= gateway.is_link_local for own in at.addresses)
    )


def normalized_rules(rules: str) -> str:
    """Our table as nft lists it after reading `rules`, tried out in a temporary network namespace.

    Raises RelayError when nft refuses them.
    """
    if not rules:
        return ""
    script = f"nft -f - && exec nft -s list table inet {TABLE}"
    ended = system_commands.run("unshare", "--net", "sh", "-c", script, input=rules)
    if ended.status:
        raise RelayError(
            f"the rules for nft cannot be tried out: {ended.why}",
            "this needs root in the machine itself; inside a container, use the script: relayctl net plan",
        )
    return ended.output


def read_setting(name: str) -> str:
    """A setting's value, "" where this kernel has none of that name. Raises RelayError for one not of `net`."""
    try:
        return " ".join(_setting_path(name).read_text("ascii", "replace").split())[:100]
    except OSError:
        return ""


def write_settings(settings: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Set values until the next boot. Returns one line for each that could not be set."""
    problems = []
    for name, value in settings:
        try:
            if value and read_setting(name) not in {"", value}:
                _setting_path(name).write_text(value)
        except OSError as error:
            problems.append(f"{name} cannot be set to {escape(value, 40)}: {error.strerror}")
    return tuple(problems)


def parse_saved_settings(content: bytes) -> dict[str, str]:
    """The content of the file WAS: setting -> value before `up` changed it. Raises RelayError for a foreign line."""
    found: dict[str, str] = {}
    for line in content.decode("ascii", "replace").splitlines()[:1000]:
        name, _, value = line.partition(" ")
        if not _SETTING.fullmatch(name):
            raise RelayError(f"{WAS}: {escape(line, 80)} is no setting of the network", f"look at it, then: rm {WAS}")
        found.setdefault(name, " ".join(value.split()))
    return found


def restore(to: KernelState) -> tuple[str, ...]:
    """Make the kernel hold `to`, and nothing else of ours; a route is set before another is taken away.

    Gives what could not be done, one line each (the interface of a route is gone, say); the rest is done all the same.
    """
    problems: list[str] = []

    def attempt(*words: str, input: str = "") -> None:
        try:
            system_commands.demand(*words, input=input)
        except RelayError as error:
            problems.append(error.what)

    problems += write_settings(to.settings)
    now = read_kernel()
    if to.rules and to.rules != now.rules:  # one transaction: at no moment is there no table
        attempt("nft", "-f", "-", input=f"table inet {TABLE}\ndelete table inet {TABLE}\n{to.rules}")
    elif now.rules and not to.rules:
        attempt("nft", "delete", "table", "inet", TABLE)
    for line in to.routes:
        if line not in now.routes:
            attempt("ip", f"-{line.version}", "route", "replace", *line.words.split(), "proto", str(PROTOCOL))
    for line in managed_routes.read_routes():  # asked again: a replaced one is gone already
        if line not in to.routes:
            attempt("ip", f"-{line.version}", "route", "del", *line.words.split(), "proto", str(PROTOCOL))
    return tuple(problems)


def read_rules() -> str:
    """Our nft table as nft lists it, "" where it is not loaded. Raises RelayError when nft does not work."""
    ended = system_commands.run("nft", "-s", "list", "table", "inet", TABLE)
    if ended.status == 0:
        return ended.output
    # missing, or nft does not work: the second command distinguishes, and raises
    tables = system_commands.demand("nft", "list", "tables", "inet").splitlines()
    if f"table inet {TABLE}" in (line.strip() for line in tables):
        return system_commands.demand("nft", "-s", "list", "table", "inet", TABLE)  # made in between; else it says why
    return ""


def _setting_path(name: str) -> Path:
    if not _SETTING.fullmatch(name):
        raise RelayError(
            f"{escape(name, 80)} is not a setting of the network", "only those below /proc/sys/net are set"
        )
    return _SETTINGS / name
