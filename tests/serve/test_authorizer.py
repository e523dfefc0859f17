"""relay.serve.authorizer: what is judged by now, and whether that is still so."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.core.policy import policy as policies
from relay.core.policy.model import Destination, Identity, Rule, TimeWindow, Zone
from relay.net.kernel import netlink
from relay.serve import authorizer as laws
from relay.serve.authorizer import Authorizer

NOON = 1_790_856_000  # a multiple of a minute: where hours, rules, keys and freezes begin and end
ZONE = Zone("office", (ip_network("192.168.1.0/24"),), "zt0")
TO = Destination("office", ip_address("192.168.1.201"), 22)


def law(until: int | None = None, expires: int | None = None, hours: int | None = None) -> Authorizer:
    """One in which alice's one key reaches the office, until the times given."""
    minute = 0 if hours is None else hours % 86400 // 60
    windows = () if hours is None else (TimeWindow(frozenset(range(7)), 0, minute),)
    rule = Rule(
        *("all", True, frozenset(), True, frozenset(), (("office", ZONE.networks[0]),), ((22, 22),)),
        until=until,
        windows=windows,
    )
    made = Authorizer(lambda: None)
    made.policy = policies.build(version="1", zones=[ZONE], hosts=[], groups={}, rules=[rule])
    key = Key("SHA256:x", "ssh-ed25519", 256, "", b"", "alice", expires=expires, file="keys/alice.pub", line=1)
    made.keyring = Keyring({key.fingerprint: key})
    return made


@pytest.fixture(autouse=True)
def own() -> Iterator[None]:
    """The law has asked the kernel for this machine's addresses; that socket is closed again."""
    yield
    netlink.unshare()


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
def test_after_any_change_it_is_judged_again(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as nothing changes a judgement is not repeated; after each of these it is."""
    monkeypatch.setattr(laws.time, "time", lambda: NOON + 0.2)
    monkeypatch.setattr(laws.time, "monotonic", lambda: 1000.0)
    made = law()
    moment = made.moment()
    assert made.is_still(moment)
    monkeypatch.setattr(laws.time, "time", lambda: NOON + 0.999)
    assert made.is_still(moment)
    CHANGES[change](made)
    assert not made.is_still(moment)


@pytest.mark.parametrize("kind", ["until", "expires", "hours", "frozen"])
@given(before=st.floats(-1.5, 1.5), after=st.floats(0, 2))
def test_what_begins_and_ends_by_the_clock_does_so_between_two_moments(kind: str, before: float, after: float) -> None:
    """At any two times of one moment the answer is one, however near to the end of a rule, a key, hours or a freeze."""
    first, second = NOON + before, NOON + before + after
    made = law(**({} if kind == "frozen" else {kind: NOON}))
    if kind == "frozen":
        made.freeze({"SHA256:x": NOON})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laws.time, "time", lambda: first)
        moment, verdict = made.moment(), made.judge(WHO, TO)
        patch.setattr(laws.time, "time", lambda: second)
        assert made.judge(WHO, TO) == verdict or not made.is_still(moment)
        assert verdict.allowed == ((first < NOON) != (kind == "frozen"))
