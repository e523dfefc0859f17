"""The input of the rules, on either machine, and how they are tried."""

from relay.net.diagnose.case import Case, Diagnosis, fault, first
from relay.net.diagnose.observation import Role
from tests.net import recorded


def case(state: str) -> Case:
    """A recorded state on the machine that recorded it."""
    overlay = recorded.overlay(network_id=recorded.NETWORK, lan_interface="lan0")
    seen = recorded.observation(state, overlay)
    return Case(seen, overlay, recorded.plan(overlay), Role(state.rpartition(".")[2]))


def test_the_other_end_depends_on_the_machine() -> None:
    """The relay asks about the gateway's node, the gateway about the relay's."""
    relay, gateway = case("healthy.relay"), case("healthy.gateway")
    assert (relay.on_gateway, relay.far_name, gateway.on_gateway, gateway.far_name) == (False, "gateway", True, "relay")
    assert relay.peer is not None
    assert gateway.peer is not None
    assert (relay.peer.node, gateway.peer.node) == ("e7c029fccf", "cf33a232e1")


def test_the_first_rule_that_applies_decides() -> None:
    """Later rules are not evaluated: what follows from a fault is no fault of its own."""

    def never(_: Case) -> Diagnosis | None:
        raise AssertionError

    found = fault("a", "what", "cure")
    assert first((lambda _: None, lambda _: found, never), case("healthy.relay")) is found
    assert first((), case("healthy.relay")) is None
