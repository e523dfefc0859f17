"""The layers of the package, as pyproject.toml's contracts give them."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "relay"
MODULES = {path.relative_to(CHECKOUT).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

# Everything that starts a program, by the module that may. No client's byte reaches any of these.
STARTERS = {
    "relay/serve/supervisor/worker_pool.py": "the workers",
    "relay/serve/supervisor/policy/running_config.py": "the child that compiles the site",
    "relay/serve/supervisor/audit/retention.py": "the child that archives old audit rows",
    "relay/cli/running/serve.py": "the supervisor, in its own place",
    "relay/cli/running/upgrade.py": "the relayctl of the new version, by `relayctl upgrade`",
    "relay/net/system_commands.py": "ip, nft, systemctl, by `relayctl net`; a contract keeps serving processes from it",
    "relay/site/systemd_units.py": "systemd-sysusers or useradd, by `relayctl init --systemd`",
}
STARTING = {
    "subprocess",
    "pty",
    "multiprocessing",
    "os.system",
    "os.popen",
    "os.fork",
    "os.forkpty",
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    *(
        f"os.{verb}{suffix}"
        for verb in ("exec", "spawn")
        for suffix in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
    ),
    "os.posix_spawn",
    "os.posix_spawnp",
}


def test_the_contracts_hold() -> None:
    """import-linter finds no import that goes up, sideways or to a package that a layer may not have."""
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert lint is not None, "type: make venv"
    done = subprocess.run([lint, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[done.stdout.find("Contracts") :] + done.stderr


def test_every_package_of_ours_has_its_place_in_the_layers() -> None:
    """A new package cannot stay outside the contract."""
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    placed = {name.strip() for layer in contracts[0]["layers"] for name in layer.split("|")}
    ours = {f"relay.{path.name.removesuffix('.py')}" for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    assert {name for name in ours if not name.endswith("py.typed")} == placed


def started(tree: ast.Module) -> set[str]:
    """The names in `tree` that start a program."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Attribute) and node.attr in ("subprocess_exec", "subprocess_shell"):
            found.add("subprocess")
    return found & STARTING


@pytest.mark.parametrize("name", [name for name in MODULES if name not in STARTERS])
def test_no_code_starts_a_program(name: str) -> None:
    """There is no code in the package that could start a program for a client; the few that start one are named."""
    assert started(ast.parse(MODULES[name].read_text())) == set(), f"only these may: {', '.join(STARTERS)}"


def test_the_first_line_of_every_module_says_what_it_answers() -> None:
    """A map of the package can be read from the modules' first lines."""
    silent = [
        name for name, path in MODULES.items() if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert silent == []


def test_the_version_is_said_in_one_way() -> None:
    """pyproject.toml, the package and the changelog name one version."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    version = re.search(r'^__version__ = "(.+)"$', (PACKAGE / "__init__.py").read_text(), re.M)
    assert version is not None
    assert project["version"] == version[1]
    assert f"## [{project['version']}]" in (CHECKOUT / "CHANGELOG.md").read_text()
