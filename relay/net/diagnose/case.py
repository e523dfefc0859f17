"""Input and output of the diagnosis rules: one observed zone with its plan, and one finding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from relay.core.network_plan import NetworkPlan, Overlay
from relay.net.diagnose.observation import Observation, Reachability, Role, peer_of
from relay.net.zerotier.node_view import JoinedNetwork, Peer

State = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding. `name` is stable, for programs; `cure` is a command, or an instruction where there is no command."""

    state: State
    name: str
    what: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One zone as observed on a machine of this role, and what the plan says about it."""

    seen: Observation
    overlay: Overlay
    plan: NetworkPlan
    role: Role

    @property
    def on_gateway(self) -> bool:
        """Whether the gateway was observed; otherwise the relay."""
        return self.role is Role.GATEWAY

    @property
    def far_name(self) -> str:
        """The other end of the overlay."""
        return "relay" if self.on_gateway else "gateway"

    @property
    def joined(self) -> JoinedNetwork | None:
        """The ZeroTier network of the zone."""
        return self.seen.joined(self.overlay)

    @property
    def peer(self) -> Peer | None:
        """The ZeroTier peer that is the other end."""
        return peer_of(self.seen, self.joined, self.plan.public if self.on_gateway else None)

    @property
    def lan_interface(self) -> str:
        """The gateway's interface into the LAN, "" where it is not known."""
        return self.overlay.lan_interface or self.seen.lan


Rule = Callable[[Case], Diagnosis | None]


def fault(name: str, what: str, cure: str) -> Diagnosis:
    """A finding because of which the zone does not work."""
    return Diagnosis("fault", name, what, cure)


def first(rules: tuple[Rule, ...], case: Case) -> Diagnosis | None:
    """The first finding of these rules, None when none applies."""
    return next((finding for rule in rules if (finding := rule(case)) is not None), None)


def answers(reach: Reachability | None) -> bool:
    """Whether it was probed and answered."""
    return reach is not None and reach.answers
