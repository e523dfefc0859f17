"""The authorizer: decisions of one moment, and whether they still hold at a later one."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.core.policy.model import Destination, Identity, Rule, TimeWindow, Zone
from relay.core.policy.policy import build_policy
from relay.net.kernel import netlink
from relay.serve.authorizer import Authorizer

NOON = 1_790_856_000  # a multiple of a minute: where hours, rules, keys and freezes begin and end
ZONE = Zone("office", (ip_network("192.168.1.0/24"),), "zt0")
TO = Destination("office", ip_address("192.168.1.201"), 22)


def authorizer(until: int | None = None, expires: int | None = None, hours: int | None = None) -> Authorizer:
    """An authorizer by which alice's key reaches the office, until the times given."""
    minute = 0 if hours is None else hours % 86400 // 60
    windows = () if hours is None else (TimeWindow(frozenset(range(7)), 0, minute),)
    rule = Rule(
        *("all", True, frozenset(), True, frozenset(), (("office", ZONE.networks[0]),), ((22, 22),)),
        until=until,
        windows=windows,
    )
    made = Authorizer(lambda: None)
    made.policy = build_policy(version="1", zones=[ZONE], hosts=[], groups={}, rules=[rule])
    key = Key("SHA256:x", "ssh-ed25519", 256, "", b"", "alice", expires=expires, file="keys/alice.pub", line=1)
    made.keyring = Keyring({key.fingerprint: key})
    return made


@pytest.fixture(autouse=True)
def own() -> Iterator[None]:
    """Close the socket by which the authorizer asks the kernel for this machine's addresses."""
    yield
    netlink.close_thread_socket()


WHO = Identity("alice", "SHA256:x", ip_address("203.0.113.7"))
CHANGES: dict[str, Callable[[Authorizer], None]] = {
    "policy": lambda made: setattr(made, "policy", replace(made.policy)),
    "listening": lambda made: setattr(made, "policy", made._with_listeners(made.policy)),
    "keys": lambda made: setattr(made, "keyring", Keyring(made.keyring.keys)),
    "narrowed": lambda made: made.narrow(Keyring()),
    "frozen": lambda made: made.freeze({"SHA256:x": NOON + 60}),
    "addresses": lambda made: setattr(made, "_own", frozenset({ip_address("192.0.2.77")})),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing changes a decision holds; after each of these changes it has to be made again."""
    monkeypatch.setattr(time, "time", lambda: NOON + 0.2)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    made = authorizer()
    inputs = made.inputs()
    assert made.is_unchanged(inputs)
    monkeypatch.setattr(time, "time", lambda: NOON + 0.999)
    assert made.is_unchanged(inputs)
    CHANGES[change](made)
    assert not made.is_unchanged(inputs)


@pytest.mark.parametrize("kind", ["until", "expires", "hours", "frozen"])
@given(before=st.floats(-1.5, 1.5), after=st.floats(0, 2))
def test_times_take_effect_between_two_decisions(kind: str, before: float, after: float) -> None:
    """While the inputs are unchanged so is the decision, however near a rule, key, hours or freeze is to its end."""
    first, second = NOON + before, NOON + before + after
    made = authorizer(**({} if kind == "frozen" else {kind: NOON}))
    if kind == "frozen":
        made.freeze({"SHA256:x": NOON})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: first)
        inputs, decision = made.inputs(), made.decide(WHO, TO)
        patch.setattr(time, "time", lambda: second)
        assert made.decide(WHO, TO) == decision or not made.is_unchanged(inputs)
        assert decision.allowed == ((first < NOON) != (kind == "frozen"))
