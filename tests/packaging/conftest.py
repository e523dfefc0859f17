"""What installing needs, made once: a copy of the checkout, and every package that pip will ask for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as git has it, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("sources")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--deduplicate"]
    for name in subprocess.run(listing, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CHECKOUT / name).read_bytes())
            (copy / name).chmod((CHECKOUT / name).stat().st_mode)
    return copy


@pytest.fixture(scope="session")
def python() -> str:
    """The Python that `make install` takes, which need not be the one that runs the tests."""
    return subprocess.run(
        [CHECKOUT / "tools/python.sh", "--service"], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def wheels(sources: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with our wheel, with all that it depends on, and with what builds it."""
    directory = tmp_path_factory.mktemp("wheels")
    wanted = (f"{sources}[report]", "setuptools>=77")  # the extra is what make install asks for
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "wheel", "-q", "-w", directory, *wanted],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MAKE"))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for made in ("build", "ssh_jump_relay.egg-info"):
        subprocess.run(["rm", "-rf", sources / made], check=True)
    return directory


@pytest.fixture(scope="session")
def from_wheels(wheels: Path) -> dict[str, str]:
    """The environment in which pip takes what lies there and asks nobody; and compiles only what is then used."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_COMPILE": "1"}
