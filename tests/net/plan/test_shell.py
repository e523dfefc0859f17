"""What every printed script has in common, whatever share it is for."""

import subprocess
from pathlib import Path

import pytest

from relay.net.plan import shell
from tests.net.plan.conftest import SHELLS
from tests.net.plan.shares import scripts


@pytest.mark.system
def test_shellcheck(tmp_path: Path) -> None:
    """shellcheck has nothing to say about any of them, as POSIX sh."""
    files = []
    for number, script in enumerate(scripts()):
        files.append(tmp_path / f"{number}.sh")
        files[-1].write_text(script)
    done = subprocess.run(["shellcheck", "--shell", "sh", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.system
@pytest.mark.parametrize("program", SHELLS)
def test_syntax(program: tuple[str, ...]) -> None:
    """Each shell can read each of them."""
    for script in scripts():
        done = subprocess.run([*program, "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_stops_at_errors() -> None:
    """Each of them stops at the first command that fails, and at a name that is not set."""
    for script in scripts():
        assert "\nset -eu\n" in script


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    """The script stops before it changes anything, and names what to install."""
    text = shell.header("a test") + shell.need(("no-such-program", "its-package"))
    ended = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode != 0
    assert "no-such-program" in ended.stderr
    assert "its-package" in ended.stderr
