"""The supervisor process: its start and the reasons for which it does not start."""

import subprocess
import sys
from pathlib import Path

from tests.relay_process import relay


def started(site: Path) -> subprocess.CompletedProcess[str]:
    """A supervisor for this site that is expected to end at once."""
    words = [sys.executable, "-P", "-m", "relay.serve.supervisor", str(site)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_a_second_supervisor_of_a_site_does_not_start(tmp_path: Path) -> None:
    """The audit log has one writer: another supervisor ends with an error, and the first serves on."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        done = started(one.site)
        assert done.returncode != 0
        assert done.stderr.startswith("relay: ")
        assert "Traceback" not in done.stderr
        assert "policy" in one.ctl("reload", "--json") or one.ctl("connections") is not None


def test_a_site_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    """A missing directory is named on stderr with what to do, and nothing is created."""
    done = started(tmp_path / "missing")
    assert done.returncode != 0
    assert done.stderr.startswith("relay: ")
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "missing").exists()
