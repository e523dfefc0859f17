"""The shape of the repository: what is tracked, how large a file may be, which tests stand beside which module."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "relay"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}

LARGEST_FILE = 200_000  # bytes; everything that people read or edit is far smaller, a binary or a recording is not
LONGEST_MODULE = 400  # lines: what a reviewer holds in mind at once
# A sentence with such a subject has to be read twice: the term says at once which thing is meant
VAGUE_SUBJECTS = re.compile(
    r"(?:^|[.:;!?]\s+)(?:Who|Whoever|Nobody|Somebody|What)\s+(?:is|are|was|has|had|have|may|can|does|did|comes|waits)\b"
)


def dotted(path: Path) -> str:
    """The module's name, as an import statement has it."""
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that this one imports anywhere: at its top, in a function, for annotations only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in NAMES:
                    yield whole
                elif node.module in NAMES:
                    yield node.module


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (Tarjan's strongly connected components of more than one module)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == name:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_large_file_is_tracked() -> None:
    """A binary, a recording or a profile does not become a part of every clone."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    files = [CHECKOUT / name for name in listed.stdout.split("\0") if name]
    assert [path.name for path in files if path.is_file() and path.stat().st_size > LARGEST_FILE] == []


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_is_short_enough_to_review(path: Path) -> None:
    """No module has more lines than a reviewer holds in mind at once."""
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


def test_every_module_has_a_test_file_of_its_name() -> None:
    """relay/a/b.py is tested in tests/a/test_b.py, so that its tests are found by its name."""
    missing = [
        path.relative_to(CHECKOUT).as_posix()
        for path in MODULES
        if not path.name.startswith("__")
        and not (CHECKOUT / "tests" / path.relative_to(PACKAGE).parent / f"test_{path.name}").is_file()
    ]
    assert missing == []


def test_imports_form_no_circle() -> None:
    """Each module can be read without one that imports it, also where the import is for annotations only."""
    graph = {dotted(path): set(imported(path)) - {dotted(path)} for path in MODULES}
    # relay/cli/__init__.py is code: it loads the commands, and they import the context that it gives them
    assert circles({name: {one for one in used if one != "relay.cli"} for name, used in graph.items()}) == []


def test_a_circle_is_found() -> None:
    """The search above sees a circle of three and leaves a chain alone."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"d"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_docstrings_state_what_a_thing_is(path: Path) -> None:
    """The first line of a docstring is a statement, and no sentence of it has "who" or "what" as its subject."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if isinstance(node, ast.Module | ast.ClassDef):
                assert "?" not in text.partition("\n")[0], text
            vague = VAGUE_SUBJECTS.search(" ".join(text.split()))
            assert vague is None, text
