"""The result of a verification: three independent answers."""

from relay.core.audit.verification_result import MOST, VerificationAnswer, VerificationResult


def result(*, sealed: int = 0, first: int = 1, last: int = 10) -> VerificationResult:
    """A result without findings."""
    answers = (VerificationAnswer(), VerificationAnswer(), VerificationAnswer())
    return VerificationResult(
        *answers, first=first, last=last, hash="", time=0, sealed=sealed, sealed_time=0, anchored=0, lineages=()
    )


def test_a_fault_outweighs_unproven_and_unproven_outweighs_restored() -> None:
    """An answer has one state, the worst that applies."""
    answer = VerificationAnswer()
    assert answer.state == "ok"
    answer.restored = True
    assert answer.state == "restored"
    answer.unproven = "no key"
    assert answer.state == "unproven"
    answer.fault(1, "changed")
    assert answer.state == "fault"


def test_faults_beyond_the_limit_are_counted() -> None:
    """The first faults are listed, the others are a number."""
    answer = VerificationAnswer()
    for seq in range(MOST + 3):
        answer.fault(seq, "changed")
    assert [finding.seq for finding in answer.faults] == list(range(MOST))
    assert answer.as_json()["more_faults"] == 3


def test_one_fault_in_any_answer_makes_the_result_bad() -> None:
    """The log is good only if all three answers are."""
    for name in ("integrity", "completeness", "authenticity"):
        verified = result()
        assert verified.good
        getattr(verified, name).fault(1, "changed")
        assert not verified.good
        assert verified.as_json()["ok"] is False


def test_rows_after_the_last_checkpoint_are_unsealed() -> None:
    """Without a checkpoint all rows that were read are unsealed."""
    assert result(sealed=8).unsealed == 2
    assert result(first=5).unsealed == 6
