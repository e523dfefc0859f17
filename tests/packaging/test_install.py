"""Installing for real: from the built wheel, and with `make install`. Slow, and it asks the package index."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, **environ: str) -> str:
    """What `command` printed on stdout; a failure shows all that it said."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**clean, **environ}, cwd="/", stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is built from, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("sources")
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--deduplicate"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in names.split("\0"):
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CHECKOUT / name).read_bytes())
            (copy / name).chmod((CHECKOUT / name).stat().st_mode)
    return copy


def test_the_wheel_is_an_ordinary_package(sources: Path, tmp_path: Path) -> None:
    """A fresh environment with nothing but the wheel (as pipx or uv make it) has a relayctl that works."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, sources)
    (wheel,) = tmp_path.glob("ssh_jump_relay-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {path.relative_to(sources).as_posix() for path in (sources / "relay").rglob("*.py")}
    assert ours <= names
    assert "relay/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"relay", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}

    run(sys.executable, "-m", "venv", tmp_path / "env")
    run(tmp_path / "env/bin/python", "-m", "pip", "install", "--quiet", wheel)
    relayctl = tmp_path / "env/bin/relayctl"
    assert run(relayctl, "--version").startswith("relayctl, version ")
    listing = run(relayctl, "--help")
    assert "Run and look after an SSH jump relay" in listing
    commands = re.findall(r"^  ([a-z-]+)  ", listing.split("Commands:")[1], re.M)
    assert len(commands) > 10
    for command in commands:
        assert "Usage:" in run(relayctl, command, "--help"), command
    assert "relayctl, version " in run(tmp_path / "env/bin/python", "-m", "relay", "--version")


def test_make_install_never_touches_what_is_in_place(sources: Path, tmp_path: Path) -> None:
    """Two installations stand side by side, the link says which one runs, and a step back is the link."""
    places = {"PREFIX": str(tmp_path / "opt"), "BIN": str(tmp_path / "bin")}
    install = ("make", "--no-print-directory", "-C", sources, "install")
    link, relayctl = tmp_path / "opt/current", tmp_path / "bin/relayctl"

    run(*install, **places)
    first = os.readlink(link)
    assert run(relayctl, "--version") == f"relayctl, version {first}\n"
    assert "exactly this already" in run(*install, **places)

    (sources / "relay/__init__.py").write_text((sources / "relay/__init__.py").read_text() + "# a change\n")
    said = run(*install, **places)
    assert os.readlink(link) == f"{first}-2"
    assert "# a change" not in next((tmp_path / "opt" / first).rglob("relay/__init__.py")).read_text()

    step_back = next(line for line in said.splitlines() if "a step back" in line).split(": ")[1].split(" && ")[0]
    run("sh", "-c", step_back)
    assert os.readlink(link) == first
    assert run(relayctl, "--version")

    run("make", "--no-print-directory", "-C", sources, "uninstall", **places)
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
    assert "is there and not ours" in done.stderr
    assert (tmp_path / "bin/relayctl").read_text() == "#!/bin/sh\n"
