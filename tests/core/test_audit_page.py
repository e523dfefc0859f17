"""The tables of events and fields in docs/reference/audit-log.md equal those of relay/core/audit/event.py."""

import re
from pathlib import Path

from relay.core.audit.event import FIELDS, NAMES
from relay.net.kernel.route_guard import Obstacle

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "audit-log.md"
BEGIN, END = re.compile(r"<!-- events: [^\n]*-->\n"), "<!-- end of events -->"


def tables() -> str:
    """Both tables, as the page must show them."""
    lines = ["| event | what happened | always has | may have |", "|---|---|---|---|"]
    for name, entry in NAMES.items():
        always, maybe = (" ".join(f"`{field}`" for field in fields) for fields in (entry.always, entry.maybe))
        lines.append(f"| `{name}` | {entry.meaning} | {always} | {maybe} |")
    lines += ["", "## Fields", "", "| field | | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {field.kind} | {field.meaning} |" for name, field in FIELDS.items()]
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    """The text before, between and after the two marks of the page."""
    text = PAGE.read_text()
    begin = BEGIN.search(text)
    assert begin, "the page has no mark for the tables"
    return text[: begin.end()], text[begin.end() : text.index(END)], text[text.index(END) :]


def test_the_page_has_the_tables_of_the_code():
    """Every event and field is documented; `python -m tests.core.test_audit_page` writes the tables."""
    assert parts()[1] == tables()


def test_the_page_explains_each_obstacle_of_a_zone():
    """Every obstacle that an audit row can name is explained, and no other word."""
    section = parts()[0].partition("## When a zone goes down")[2].partition("\n## ")[0]
    words = re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)
    assert sorted(words) == sorted(obstacle for obstacle in Obstacle if obstacle is not Obstacle.NOT_ASKED)


if __name__ == "__main__":
    before, _, after = parts()
    PAGE.write_text(before + tables() + after)
