"""Requests of the command line to a running supervisor: status, unknown requests, rows of commands."""

from pathlib import Path

from relay.serve.control_client import call
from tests.relay_process import relay


def test_each_request_has_one_answer(tmp_path: Path) -> None:
    """Status names the process and its workers, a row is durable when it is answered, an unknown request is refused."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        state = one.site / "state"
        status = call(state, {"do": "status"})
        assert (status["ok"], status["forwards"], status["connections"]) == (True, 0, 0)
        (worker,) = status["workers"]
        assert (worker["draining"], worker["answers"]) == (False, True)
        event = ["0k3v9x2m4qz", 1_790_000_000_000_000, "site.rejected", {"detail": "a test"}]
        assert call(state, {"do": "record", "events": [event]}) == {"ok": True}
        assert [row["detail"] for row in one.rows("site.rejected")] == ["a test"]
        answer = call(state, {"do": "make-tea"})
        assert answer["ok"] is False
        assert "does not know 'make-tea'" in answer["problem"]
