"""What each process pays for: which modules are in memory after a process has been imported whole."""

import subprocess
import sys

import pytest

# why a process must not have a package
REASONS = {
    "pydantic": "validating documents costs 10 MB: only the command line and the compiling child do it",
    "rich": "tables are for terminals: no serving process has one",
    "click": "arguments are parsed once, before a serving process is exec'd",
    "yaml": "a serving process reads the compiled snapshot and keys, never a document",
    "jinja2": "only the report of the command line is a page",
    "asyncssh": "it takes 0.3 s to import, and only workers speak SSH",
    "sqlite3": "the supervisor is the only writer of the audit database, and a worker never reads it",
    "relay.store.writer": "the supervisor is the only writer of the audit database, and a worker never reads it",
    "relay.review": "the audit is read by the command line",
    "relay.people": "keys are added and taken away by the command line",
    "relay.cli": "imports go down only",
    "cryptography": "nothing is signed or decrypted there",
    "cryptography.hazmat.primitives.ciphers": "the supervisor reads no byte of a client, so it has nothing to decrypt",
    "pytest": "a test belongs to no process",
}


def imported(statement: str) -> set[str]:
    """The names of all modules that are loaded in a fresh interpreter after `statement`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint('\\n' + '\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


def refused(statement: str, forbidden: tuple[str, ...]) -> list[str]:
    """One line with the reason for each forbidden package that `statement` loads."""
    loaded = imported(statement)
    return [f"{name}: {REASONS[name]}" for name in forbidden if name in loaded]


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        (
            "relay.serve.supervisor.process",
            (
                "pydantic",
                "rich",
                "click",
                "yaml",
                "jinja2",
                "asyncssh",
                "cryptography.hazmat.primitives.ciphers",
                "relay.review",
                "relay.people",
                "relay.cli",
            ),
        ),
        (
            "relay.serve.worker.process",
            (
                "pydantic",
                "rich",
                "click",
                "yaml",
                "jinja2",
                "sqlite3",
                "relay.store.writer",
                "relay.review",
                "relay.people",
                "relay.cli",
            ),
        ),
        (
            "relay.site.key_files",
            ("pydantic", "rich", "click", "yaml", "jinja2", "asyncssh", "cryptography", "sqlite3"),
        ),
        (
            "relay.serve.control_client",
            ("pydantic", "rich", "click", "yaml", "jinja2", "asyncssh", "cryptography", "sqlite3"),
        ),
    ],
)
def test_a_serving_process_imports_only_what_it_needs(module: str, forbidden: tuple[str, ...]) -> None:
    """A process that serves for months is small, and holds no library that it has no use for."""
    assert refused(f"import {module}", forbidden) == []


def test_a_forbidden_import_is_named_with_its_reason() -> None:
    """The rule above bites: it sees an import, and says why it must not be."""
    assert refused("import yaml, sqlite3", ("yaml", "rich")) == [f"yaml: {REASONS['yaml']}"]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_asking_for_help_imports_no_command(arguments: list[str]) -> None:
    """`relayctl --help` feels instant: it loads click, and none of the libraries behind the commands."""
    statement = (
        f"sys.argv = ['relayctl', *{arguments!r}]\n"
        "from relay.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    forbidden = (
        "pydantic",
        "rich",
        "yaml",
        "jinja2",
        "asyncssh",
        "cryptography",
        "sqlite3",
        "relay.store.writer",
        "relay.people",
    )
    assert refused(statement, forbidden) == []
