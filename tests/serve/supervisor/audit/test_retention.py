"""The retention job of a running relay, as `relayctl audit archive` and `doctor` see it."""

from pathlib import Path

from relay.serve.control_client import call
from tests.relay_process import relay, wait_for


def test_a_young_log_is_measured_and_not_archived(tmp_path: Path) -> None:
    """The size of the log is known soon after start, and no row of the present hour leaves it, even on request."""
    with relay(tmp_path, settings="workers: 1\naudit: {seal_after: 1s}\n") as one:
        state = one.site / "state"
        one.wait_row("audit.sealed")
        wait_for(lambda: call(state, {"do": "status"})["retention"]["used"] > 0, "the log is not measured")
        assert "nothing to archive" in one.ctl("audit", "archive", "--before", "1s")
        retention = call(state, {"do": "status"})["retention"]
        assert (retention["failing"], retention["archived"], retention["ballast"]) == ("", 0, True)
        assert not one.rows("audit.archived")
