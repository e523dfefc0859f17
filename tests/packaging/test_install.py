"""Installing for real: from the built wheel, and with `make install`. Slow; its wheels come from the package index."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("installing"),  # they share what is made once
]


def run(*command: str | Path, **environ: str) -> str:
    """What `command` printed on stdout; a failure shows all that it said."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**clean, **environ}, cwd="/", stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_is_an_ordinary_package(
    sources: Path, python: str, wheels: Path, from_wheels: dict[str, str], tmp_path: Path
) -> None:
    """A fresh environment with nothing but the wheel (as pipx or uv make it) has a relayctl that works."""
    (wheel,) = wheels.glob("ssh_jump_relay-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {path.relative_to(sources).as_posix() for path in (sources / "relay").rglob("*.py")}
    assert ours <= names
    assert "relay/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"relay", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}

    run(python, "-m", "venv", "--without-pip", tmp_path / "env")
    run(sys.executable, "-m", "pip", "--python", tmp_path / "env/bin/python", "install", "-q", wheel, **from_wheels)
    relayctl = tmp_path / "env/bin/relayctl"
    assert run(relayctl, "--version").startswith("relayctl, version ")
    listing = run(relayctl, "--help")
    assert "Run and look after an SSH jump relay" in listing
    commands = re.findall(r"^  ([a-z-]+)  ", listing.split("Commands:")[1], re.M)
    assert len(commands) > 10
    for command in commands:
        assert "Usage:" in run(relayctl, command, "--help"), command
    assert "relayctl, version " in run(tmp_path / "env/bin/python", "-m", "relay", "--version")


def test_make_install_never_touches_what_is_in_place(
    sources: Path, from_wheels: dict[str, str], tmp_path: Path
) -> None:
    """Two installations stand side by side, the link selects one, and none is removed while a process runs from it."""
    sources = shutil.copytree(sources, tmp_path / "checkout")
    places = {"PREFIX": str(tmp_path / "opt"), "BIN": str(tmp_path / "bin"), **from_wheels}
    install = ("make", "--no-print-directory", "-C", sources, "install")
    link, relayctl = tmp_path / "opt/current", tmp_path / "bin/relayctl"

    run(*install, **places)
    first = os.readlink(link)
    assert run(relayctl, "--version") == f"relayctl, version {first}\n"
    assert "exactly these contents already" in run(*install, **places)

    (sources / "relay/__init__.py").write_text((sources / "relay/__init__.py").read_text() + "# a change\n")
    said = run(*install, **places)
    assert os.readlink(link) == f"{first}-2"
    assert "# a change" not in next((tmp_path / "opt" / first).rglob("relay/__init__.py")).read_text()

    step_back = next(line for line in said.splitlines() if "a step back" in line).split(": ")[1].split(" && ")[0]
    run("sh", "-c", step_back)
    assert os.readlink(link) == first
    assert run(relayctl, "--version")

    uninstall = ("make", "--no-print-directory", "-C", sources, "uninstall")
    with subprocess.Popen([link / "bin/python", "-c", "input()"], stdin=subprocess.PIPE) as process:
        done = subprocess.run(uninstall, env={**os.environ, **places}, capture_output=True, text=True)
        assert "1 processes still run from" in done.stderr
        process.communicate(b"\n")
    run(*uninstall, **places)
    assert not relayctl.is_symlink()
    assert not (tmp_path / "opt").exists()


def test_make_install_leaves_the_relayctl_of_somebody_else(tmp_path: Path) -> None:
    """A relayctl that is not our link (from pipx, say) is not replaced."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/relayctl").write_text("#!/bin/sh\n")
    done = subprocess.run(
        [CHECKOUT / "tools/install.sh"],
        env={**os.environ, "PREFIX": str(tmp_path / "opt"), "BIN": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "exists and is not a link of ours" in done.stderr
    assert (tmp_path / "bin/relayctl").read_text() == "#!/bin/sh\n"
