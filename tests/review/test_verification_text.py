"""Verification results as digest items."""

from relay.core.audit.verification_result import VerificationAnswer, VerificationResult
from relay.review.verification_text import verification_items


def result(**answers: VerificationAnswer) -> VerificationResult:
    """A result with these answers; the others are without a fault."""
    three = [answers.get(name, VerificationAnswer()) for name in ("integrity", "completeness", "authenticity")]
    return VerificationResult(*three, 1, 9, "", 0, 0, 0, 0, ())


def test_a_log_without_a_fault_gives_one_item_for_each_of_the_three():
    """No item is grave and none has a command."""
    items = verification_items(result())
    assert [item.text() for item in items] == [
        "integrity (no row was changed): ok",
        "completeness (no row is missing): ok",
        "authenticity (this relay wrote it): ok",
    ]
    assert not any(item.grave or item.command for item in items)


def test_each_fault_names_its_row_and_is_grave():
    """The result and its faults are grave, with the command that shows more; the other two results are not."""
    answer = VerificationAnswer()
    answer.fault(5, "it was changed")
    items = verification_items(result(integrity=answer))
    assert [(item.kind, item.grave) for item in items] == [
        ("verdict", True),
        ("fault", True),
        ("verdict", False),
        ("verdict", False),
    ]
    assert items[1].text() == "the log has a fault at row 5: it was changed"
    assert items[1].command == "relayctl audit verify"


def test_the_reason_of_an_unproven_result_follows_it():
    """It is no fault."""
    items = verification_items(result(authenticity=VerificationAnswer(unproven="no key was given")))
    assert items[-1].text() == "not proven: no key was given"
    assert not items[-1].grave
