"""RELAY_STRICT=1: what was skipped is not what was tested."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no moon')\ndef test_a(): pass\n",
    "call": "import pytest\ndef test_a(): pytest.skip('no moon')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef f(): pytest.skip('no moon')\ndef test_a(f): pass\n",
    "module": "import pytest\npytest.skip('no moon', allow_module_level=True)\n",
    "import": "import pytest\npytest.importorskip('no_moon', reason='no moon')\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(("strict", "status"), [("1", 1), ("0", 0), ("", 0)])
def test_a_skip_is_a_failure_when_strict(tmp_path: Path, strict: str, status: int) -> None:
    """Every way to skip fails the run under the switch, with its reason, and none does without."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    for name, text in SKIPS.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    (tmp_path / "test_passes.py").write_text("def test_a(): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "RELAY_STRICT": strict},
        cwd=tmp_path,
    )
    assert done.returncode == status, done.stdout
    closing = done.stdout.splitlines()[-1]
    if status:
        assert "1 passed" in closing
        assert "skipped" not in closing
        assert sum(int(count) for count in re.findall(r"(\d+) (?:failed|error)", closing)) == len(SKIPS), closing
        assert done.stdout.count("no moon") >= len(SKIPS)
    else:
        assert "1 passed, 5 skipped" in closing
