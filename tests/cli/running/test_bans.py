"""`relayctl bans` and `unban` with a running relay."""

from pathlib import Path

from tests.relay_process import relay


def test_without_penalties_the_list_is_empty_and_unban_says_so(tmp_path: Path) -> None:
    """No source is listed at first, and an address that is not penalised cannot be unbanned."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        assert "192.0.2.7" not in one.ctl("bans")
        assert "192.0.2.7" in one.ctl("unban", "192.0.2.7", status=1)
