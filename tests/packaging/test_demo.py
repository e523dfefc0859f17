"""`make demo` works as described, and leaves no process and no file behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
pytestmark = [pytest.mark.system, pytest.mark.slow]


def demo(*options: str) -> str:
    """The output of the demo, after its success."""
    done = subprocess.run(
        [sys.executable, CHECKOUT / "tools/demo.py", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def named_demos() -> set[str]:
    """The directories of demos that command lines of processes name."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found |= set(re.findall(rf"{CHECKOUT}/\.demo/\d+", command))
    return found


@pytest.mark.parametrize("options", [(), ("--stand-in",)], ids=["sshd", "stand-in"])
def test_the_demo_shows_what_works_and_what_is_refused(options: tuple[str, ...]) -> None:
    """The demo shows a jump, a refused shell, a refused target and exactly their events, with and without sshd."""
    said = demo(*options)
    assert ("a real sshd" in said) == (not options)
    assert re.search(r"^ +hello from the .*LAN host", said, re.M)
    assert "this is a jump relay: it opens no shell" in said
    assert "you may not reach that" in said
    trail = said.split("audit search")[1]
    assert len(re.findall(r"login\.succeeded", trail)) == 3
    assert len(re.findall(r" forward +127\.0\.0\.201:\d+ +(?:client|target)-(?:closed|gone)", trail)) == 1
    assert len(re.findall(r" forward +127\.0\.0\.50:\d+ +denied: deny-rule", trail)) == 1
    assert len(re.findall(r"request\.refused +session", trail)) == 1
    directory = re.search(r"\.demo/\d+", said)
    assert directory is not None
    assert not (CHECKOUT / directory[0]).exists()
    assert str(CHECKOUT / directory[0]) not in named_demos()


def test_a_kept_demo_answers_to_what_it_says_to_type() -> None:
    """With --keep the printed ssh command works, and --stop ends that demo."""
    said = demo("--keep")
    ssh = re.search(r"^  (ssh -F (\.demo/\d+)/ssh_config -J relay remote)$", said, re.M)
    assert ssh is not None
    directory = CHECKOUT / ssh[2]
    try:
        done = subprocess.run([*ssh[1].split(), "true"], cwd=CHECKOUT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(
            [sys.executable, CHECKOUT / "tools/demo.py", "--stop", directory.name], check=True, capture_output=True
        )
    assert not directory.exists()
    assert str(directory) not in named_demos()
