"""The audit log under SIGKILL."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_kills_at_random_lose_nothing() -> None:
    """A hundred lives that append, archive and delete, each killed at a random instant (`make soak` takes 1,000)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.crashes", "100", "7"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    said = re.match(r"100 kills .*: (\d+) rows, .* (\d+) archives; none lost, none twice", done.stdout)
    assert said is not None, done.stdout
    assert int(said[1]) > 500
    assert int(said[2]) > 5
