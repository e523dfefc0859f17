"""Verification results as digest items."""

from collections.abc import Iterator

from relay.core.audit.verification_result import VerificationAnswer, VerificationResult
from relay.review.digest import DigestItem

_COMMAND = "relayctl audit verify"


def verification_items(proof: VerificationResult) -> tuple[DigestItem, ...]:
    """One item for each of the three results, and one for each fault with its row; faults are grave."""
    return (
        *_of("integrity (no row was changed): {state}", proof.integrity),
        *_of("completeness (no row is missing): {state}", proof.completeness),
        *_of("authenticity (this relay wrote it): {state}", proof.authenticity),
    )


def _of(sentence: str, verdict: VerificationAnswer) -> Iterator[DigestItem]:
    yield DigestItem("verdict", sentence, {"state": verdict.state}, grave=verdict.state == "fault")
    for fault in verdict.faults:
        gaps = {"row": str(fault.seq), "what": fault.what}
        yield DigestItem("fault", "the log has a fault at row {row}: {what}", gaps, _COMMAND, grave=True)
    if verdict.unproven:
        yield DigestItem("unproven", "not proven: {what}", {"what": verdict.unproven})
