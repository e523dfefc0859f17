"""A strict reader of Prometheus' text format and of its alert rules, for tests; written apart from what it checks."""

import re
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]

_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? ([^ ]+)')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')
_SELECTOR = re.compile(r"\b(relay_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?")
_FUNCTIONS = {"rate", "increase", "histogram_quantile", "predict_linear", "sum", "max"}
_WORDS = {"by", "and", "or"}


@dataclass
class Metric:
    """One family as it was read."""

    kind: str = ""
    meaning: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def labels(self) -> dict[str, set[str]]:
        """The values that each label has."""
        found: dict[str, set[str]] = {}
        for _, labels in self.samples:
            for name, value in labels:
                found.setdefault(name, set()).add(value)
        return found


def parse(page: str) -> dict[str, Metric]:
    """The families of a page. Any deviation from the format is an AssertionError."""
    assert page.endswith("\n")
    found: dict[str, Metric] = {}
    name = ""
    for line in page[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, meaning = line.removeprefix("# HELP ").partition(" ")
            assert name not in found, f"{name} twice"
            found[name] = Metric(meaning=meaning)
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name
            found[name].kind = line.split(" ")[3]
            assert found[name].kind in ("counter", "gauge", "histogram")
        else:
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            suffixes = ("_bucket", "_sum", "_count") if found[name].kind == "histogram" else ("",)
            assert match[1] in {name + suffix for suffix in suffixes}, line
            key = match[1], _labels(match[2] or "")
            assert key not in found[name].samples, f"twice: {line}"
            found[name].samples[key] = float(match[3])
    return found


def _labels(text: str) -> Labels:
    found = []
    while text:
        match = _LABEL.match(text)
        assert match is not None, text
        found.append((match[1], re.sub(r"\\(.)", lambda one: {"n": "\n"}.get(one[1], one[1]), match[2])))
        text = text[match.end() :]
    return tuple(sorted(found))


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """The metrics that an expression reads, each with the labels that it asks to be equal.

    Last come the labels by which it groups, of no metric. Only what our rules use is understood.
    """
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")
    groups = re.findall(r"\bby\s*\(([^)]*)\)", expression)
    found = []
    for name, inside in _SELECTOR.findall(expression):
        asked = dict(re.findall(r'([a-z_]+)="([^"]*)"', inside))
        assert inside.count("=") == len(asked), f"only = is read here: {inside}"
        found.append((name, asked))
    rest = _SELECTOR.sub("", re.sub(r"\bby\s*\([^)]*\)|\[[0-9]+[smhd]\]|\b[0-9.]+(e[0-9]+)?\b", "", expression))
    assert set(re.findall(r"[a-zA-Z_]+", rest)) <= _FUNCTIONS | _WORDS, rest
    grouped = {one.strip(): "" for group in groups for one in group.split(",")}
    return [*found, ("", grouped)]
