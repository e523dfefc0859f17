"""One machine's share of a plan: files, rules, routes, settings. Printed as a script, or applied by `net apply`.

Everything owned is below OWN, in the files listed, in the nft table TABLE, or a route of protocol PROTOCOL: so an undo
touches nothing else.
"""

from dataclasses import dataclass

from relay.core.policy.model import Address, Network

OWN = "/etc/relay-net"  # our directory
TABLE = "relay_net"  # our nft table, of family inet
PROTOCOL = 114  # of our routes (`ip route ... proto 114`), to distinguish ours from others'; 114 is "r"
UNIT = "relay-net.service"
WAS = f"{OWN}/was"  # what `up` found where it changed a setting: lines of "net/ipv4/ip_forward 0", for `down`


@dataclass(frozen=True, slots=True)
class ManagedFile:
    """One file that is wholly ours."""

    path: str  # absolute
    text: str
    mode: int = 0o644
    why: str = ""


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """One route of protocol PROTOCOL in the main table: unreachable (the fallback), or by a gateway and interface."""

    network: Network
    metric: int
    gateway: Address | None = None
    interface: str = ""  # a name or a pattern, as in the zone; "": an unreachable route


@dataclass(frozen=True, slots=True)
class PlannedKernelState:
    """Kernel state that `up` makes, and that `net apply` compares with."""

    rules: str = ""  # the path of one of the files: `nft -f` of it makes the table TABLE, whole; "" for no table
    routes: tuple[PlannedRoute, ...] = ()
    # ("net/ipv4/ip_forward", "1"); ("net/ipv4/conf/zt*/rp_filter", "2"): of the one interface that the pattern means
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine's share of a plan.

    `before`, `after`: what a person or the overlay's own tools do, in words and commands (joining, the controller's
    web panel, the Moon). `files`: written whole. `up` and `down`: paths of two of the files; running `up` (idempotent)
    makes the kernel fit them, `down` takes it back; `kernel` says in values what `up` makes of it, where `net apply`
    has to compare (the relay). `typed`: what that comes down to, for the page to read. `printed_by`: the command line
    that prints the share as a script. `warnings`: clashes and risks, a sentence each.
    """

    name: str  # relay, gateway, lan-host, client
    zone: str = ""  # "" for the relay, which is one machine for all zones
    title: str = ""
    files: tuple[ManagedFile, ...] = ()
    up: str = ""
    down: str = ""
    kernel: PlannedKernelState = PlannedKernelState()
    typed: str = ""
    printed_by: str = ""
    before: tuple["PlanStep", ...] = ()
    after: tuple["PlanStep", ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One thing to do: why, and how. `script` is idempotent POSIX sh; "" where a person does it elsewhere."""

    why: str
    script: str = ""
    by_hand: str = ""  # what to do in words, where no command can
    typed: str = ""  # what a person would type for `script`
