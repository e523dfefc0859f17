"""Texts shown to the client: a short reason, an id, and no detail that belongs to the operator."""

import pytest

from relay.core.policy.model import Decision, Reason
from relay.serve.worker import client_messages


@pytest.mark.parametrize("reason", Reason)
def test_every_refusal_is_one_short_line_with_the_id(reason: Reason) -> None:
    """The detail of the decision is not shown."""
    text = client_messages.refused(Decision(reason=reason, detail="10.1.2.3 in policies/x.yaml:7"), "abc")
    assert text.startswith("relay: ")
    assert text.endswith(" (id abc)")
    assert len(text) < 120
    assert "policies" not in text


def test_an_ambiguous_name_is_answered_with_the_choices() -> None:
    """The client can correct the command."""
    text = client_messages.refused(Decision(reason=Reason.BAD_TARGET, choices=("nas.office", "nas.plant")), "abc")
    assert "nas.office, nas.plant" in text


@pytest.mark.parametrize("reason", [*(reason.value for reason in Reason), "killed", "policy-changed", "anything"])
def test_every_revocation_has_a_text(reason: str) -> None:
    """Also a reason that a newer supervisor sends."""
    assert client_messages.ended(reason)


def test_unknown_keys_are_listed_up_to_four() -> None:
    """A full agent does not fill the screen; the id leads the administrator to the attempt."""
    text = client_messages.unknown_key([f"SHA256:{number}" for number in range(6)], "abc")
    assert [f"SHA256:{number}" in text for number in range(6)] == [True] * 4 + [False] * 2
    assert "and 2 more" in text
    assert "with the id abc" in text


@pytest.mark.parametrize(
    ("public", "jump"),
    [
        ("relay.example.com:22", "alice@relay.example.com "),
        ("relay.example.com:2222", "alice@relay.example.com:2222 "),
        ("", "alice@THIS-RELAY "),
    ],
)
def test_the_line_to_type_names_the_relay_as_people_reach_it(public: str, jump: str) -> None:
    """The port is left out if it is 22."""
    text = client_messages.no_shell("alice", None, ["nas:22"], public, "abc")
    assert f"ssh -J {jump}USER@nas" in text
    assert "your key does not expire" in text


def test_the_end_of_a_key_is_shown_in_utc() -> None:
    """A person with a contractor's key sees when it ends, and that no rule applies now."""
    text = client_messages.no_shell("alice", 1_790_856_000, [], "", "abc")
    assert "your key is valid until 2026-10-01 12:00 UTC" in text
    assert "no rule lets you reach anything at the moment" in text
