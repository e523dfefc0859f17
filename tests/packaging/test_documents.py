"""The documents: links and paths exist, every page can be reached, commands and examples are valid."""

import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
import yaml

from relay.cli import group
from relay.site.policy import compiler

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted(
    CHECKOUT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if (CHECKOUT / name).exists()
)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
# Files of the repository that a text names between backquotes
NAMED_PATH = re.compile(r"`((?:docs|tests|tools|bench|packaging|schemas|relay)/[\w./-]+\.(?:py|md|sh|ya?ml|json))`")
HOW_TO = sorted((CHECKOUT / "docs" / "how-to").glob("*.md"))
FRAME = """\
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
hosts:
  remote: {address: 192.168.1.201, zone: office}
"""


def links(page: Path) -> list[str]:
    """The targets of a page's links and images, without those that lead to other sites."""
    found = [link or image for link, image in LINK.findall(page.read_text())]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def target(page: Path, link: str) -> Path:
    """The file that a link leads to."""
    path = unquote(link.partition("#")[0])
    return (page.parent / path).resolve() if path else page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_and_paths_exist(page: Path) -> None:
    """Every relative link leads to a file and a heading that exist, and every path that a page names exists."""
    broken = []
    for link in links(page):
        heading = link.partition("#")[2]
        file = target(page, link)
        if not file.exists() or (heading and file.suffix == ".md" and unquote(heading) not in anchors(file)):
            broken.append(link)
    named = [path for path in NAMED_PATH.findall(page.read_text()) if not (CHECKOUT / path).exists()]
    named = [path for path in named if "NAME" not in path]
    if page.name != "CHANGELOG.md":  # older entries name files of their time
        broken += named
    assert broken == []


@pytest.mark.parametrize("root", ["README.md", "relay", "tests", "tools", "packaging", "bench", "Makefile"])
def test_documents_named_in_sources_exist(root: str) -> None:
    """Every page of docs/ that a source file names exists."""
    top = CHECKOUT / root
    files = [top] if top.is_file() else [path for path in top.rglob("*") if path.suffix in (".py", ".sh", ".yaml")]
    missing = {
        f"{path.relative_to(CHECKOUT)}: {name}"
        for path in files
        for name in re.findall(r"\b((?:docs|bench)/[\w/.-]+\.md)\b", path.read_text())
        if not (CHECKOUT / name).exists()
    }
    assert missing == set()


def test_every_page_can_be_reached_from_the_index() -> None:
    """From docs/README.md, links lead to every page of the repository's documentation."""
    reached, waiting = set(), [CHECKOUT / "docs" / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            waiting += [target(page, link) for link in links(page)]
    documentation = {page for page in PAGES if page.is_relative_to(CHECKOUT / "docs")}
    assert sorted(documentation - reached) == []


def commands(text: str) -> list[str]:
    """The `relayctl` commands in the code blocks of a page."""
    code = "\n".join(re.findall(r"^ *```(?:sh)?\n(.*?)^ *```", text, re.M | re.S)).replace("\\\n", " ")
    found = re.findall(r"^[ $]*(?:sudo )?(?:-u relay )?relayctl ((?:[a-z-]+ ?)[^|>\n]*)", code, re.M)
    return [command for command in found if "..." not in command and "…" not in command]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_commands_exist(page: Path) -> None:
    """Every `relayctl` command in a code block names a command, and options that the command has."""
    if page.name in ("relayctl.md", "CHANGELOG.md"):  # one is generated, the other one is history
        return
    for line in commands(page.read_text()):
        words = shlex.split(line, comments=True)
        command: click.Command = group
        context = click.Context(group, info_name="relayctl", **group.context_settings)
        while isinstance(command, click.Group):
            below = command.get_command(context, words.pop(0)) if words else None
            assert below is not None, line
            command, context = below, click.Context(below, parent=context)
        command.make_parser(context).parse_args(words)


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.name)
def test_policy_examples_are_valid(page: Path, tmp_path: Path) -> None:
    """A policy that a how-to page shows can be applied, together with the zone and host of the README."""
    for number, block in enumerate(re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(), re.M | re.S)):
        indent = len(block) - len(block.lstrip(" "))
        text = "\n".join(line[indent:] for line in block.splitlines()) + "\n"
        site = tmp_path / str(number)
        for part in ("policies", "keys"):
            (site / part).mkdir(parents=True)
        is_policy = set(yaml.safe_load(text)) & {"zones", "hosts", "groups", "rules", "expect"}
        (site / "policies" / "frame.yaml").write_text(FRAME)
        (site / ("policies/example.yaml" if is_policy else "relay.yaml")).write_text(text)
        compiler.load(site, now=1_780_000_000)


def test_quoted_refusals_are_the_program_s() -> None:
    """The page for colleagues quotes the texts that the relay sends, in both languages alike."""
    sources = "".join(path.read_text() for path in (CHECKOUT / "relay" / "serve").rglob("*.py"))
    tables = []
    for name in ("for-colleagues.md", "for-colleagues.zh-CN.md"):
        text = (CHECKOUT / "docs" / "how-to" / name).read_text()
        tables.append(re.findall(r"^\| `([^`]+)` \|", text, re.M))
    ours = [text for text in tables[0] if not text.startswith(("Permission", "REMOTE", "Connection", "ssh", "scp"))]
    assert len(ours) > 12
    assert [text for text in ours if text not in sources] == []
    assert [text for text in ours if text not in tables[1]] == []


def test_pictures_are_small() -> None:
    """Every picture of the documentation is under 200 kB."""
    pictures = [path for path in (CHECKOUT / "docs" / "img").iterdir() if path.suffix in (".png", ".svg")]
    assert len(pictures) >= 5
    assert [path.name for path in pictures if path.stat().st_size > 200_000] == []
