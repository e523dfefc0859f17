"""The exceptions of the relay: what they show and which exit status they have."""

import pytest

from relay.errors import Fault, InputRejected, NotPermitted, RelayError, RelayNotRunning, RowDamaged, SiteInvalid


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("a.yaml", 3, "no zone"), "a.yaml:3: no zone"),
        (Fault("a.yaml", 0, "not UTF-8", "save it as UTF-8"), "a.yaml: not UTF-8; save it as UTF-8"),
    ],
)
def test_a_fault_shows_its_place_and_its_remedy(fault: Fault, text: str) -> None:
    """Line 0 stands for the whole file and is not shown."""
    assert str(fault) == text


def test_an_invalid_site_lists_every_fault() -> None:
    """One line for each fault, in the given order."""
    error = SiteInvalid((Fault("a", 1, "x"), Fault("b", 2, "y")), "relayctl check")
    assert (error.what, error.hint) == ("a:1: x\nb:2: y", "relayctl check")


@pytest.mark.parametrize(
    ("kind", "status"), [(RelayError, 1), (InputRejected, 1), (NotPermitted, 1), (RelayNotRunning, 3)]
)
def test_exit_status(kind: type[RelayError], status: int) -> None:
    """A relay that is not running has an exit status of its own."""
    assert kind("what", "hint").exit_status == status


def test_a_damaged_row_is_named() -> None:
    """The error carries the row's number."""
    assert RowDamaged(7, "what").seq == 7
