"""`relayctl completion` as it is typed."""

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Relayctl = Callable[..., Any]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script(relayctl: Relayctl, shell: str) -> None:
    """Each shell gets a script that calls relayctl for completions."""
    done = relayctl("completion", shell)
    assert done.returncode == 0
    assert f"_RELAYCTL_COMPLETE={shell}_complete" in done.stdout


def test_bash_takes_it(relayctl: Relayctl) -> None:
    """The script is bash, as bash itself says."""
    bash = shutil.which("bash")
    assert bash is not None
    script = relayctl("completion", "bash").stdout
    assert subprocess.run([bash, "-n"], input=script, text=True).returncode == 0


def test_commands_are_completed(relayctl: Relayctl) -> None:
    """What the script asks for is answered: the commands that begin so."""
    done = relayctl(_RELAYCTL_COMPLETE="bash_complete", COMP_WORDS="relayctl ch", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,check"]


def test_unknown_shell(relayctl: Relayctl) -> None:
    """Another shell is wrong usage."""
    assert relayctl("completion", "tcsh").returncode == 2
