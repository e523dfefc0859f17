"""YAML documents as plain values, with the line of each key and item.

The YAML 1.2 core schema on PyYAML's C parser. Its events are resolved here, so that the YAML 1.1 types (`22:30` is
1350, `no` is False, `010` is 8) do not apply. Anchors, aliases, tags, merge keys, duplicate keys and second documents
are faults, because two readers of a policy could understand them differently.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from relay.core.escape import escape
from relay.errors import Fault, SiteInvalid

MOST_BYTES = 1 << 20  # of one file; the parser takes about 2 s for the worst megabyte
MOST_DEPTH = 16  # a policy needs five levels
MOST_FAULTS = 200  # of one file; more are counted, not listed

Path = tuple[str | int, ...]

# YAML 1.2.2 section 10.3.2, the core schema
_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# not printable (section 5.1), or a line break in YAML 1.1 only, so that readers would count lines differently
_REFUSED_TEXT = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events, eight times slower, without libyaml


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One file: its plain value (dict, list, str, int, float, bool, None), the line of each path, its faults.

    `whole` is False if the parser stopped early, so the rest is unknown.
    """

    file: str
    text: str
    data: object
    lines: dict[Path, int]
    faults: tuple[Fault, ...] = ()
    whole: bool = True

    def line(self, path: Path) -> int:
        """The line of the key or item at `path`, or of its nearest ancestor in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load(file: str, raw: bytes) -> YamlDocument:
    """As `read`, but raises SiteInvalid for any fault."""
    document = read(file, raw)
    if document.faults:
        raise SiteInvalid(document.faults)
    return document


def read(file: str, raw: bytes) -> YamlDocument:
    """Read the file named `file` (only for faults) whose content is `raw`. Never raises: faults are in the document."""
    if len(raw) > MOST_BYTES:
        return _unreadable(file, 0, f"larger than {MOST_BYTES} bytes", "split it: all of policies/*.yaml are merged")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return _unreadable(file, line, "not UTF-8", "save the file as UTF-8")
    bad = _REFUSED_TEXT.search(text)
    if bad:
        what = f"the character U+{ord(bad[0]):04X} is not allowed in a YAML file"
        return _unreadable(file, text.count("\n", 0, bad.start()) + 1, what, "remove it; it may be invisible")
    composer = _Composer(file)
    whole = False
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            composer.add(event)
        whole = True
    except _StopError:
        pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = escape(" ".join(part for part in (error.context, error.problem) if part))
        composer.fault(
            mark.line + 1 if mark else 0, f"not YAML: {problem}", "check indentation, brackets and quotes here"
        )
    except yaml.YAMLError as error:
        composer.fault(0, f"not YAML: {escape(str(error))}", "check the file's encoding")
    return YamlDocument(file, text, composer.root, composer.lines, composer.finish(), whole)


def _unreadable(file: str, line: int, what: str, cure: str) -> YamlDocument:
    return YamlDocument(file, "", None, {}, (Fault(file, line, what, cure),), whole=False)


class _StopError(Exception):
    """The rest of the file cannot be read."""


class _Skip:
    """A key whose value is parsed but dropped."""


_SKIP = _Skip()


@dataclass(slots=True)
class _Frame:
    """One open mapping or sequence. `key` is the key of the next value, None if the next event is a key."""

    container: dict[str, object] | list[object]
    path: Path
    key: str | _Skip | None = None
    is_key: bool = False  # the container is used as a key


@dataclass(slots=True)
class _Composer:
    """Builds values from the parser's events, without recursion and without following aliases."""

    file: str
    root: object = None
    lines: dict[Path, int] = field(default_factory=dict)
    _faults: list[Fault] = field(default_factory=list)
    _more: int = 0
    _stack: list[_Frame] = field(default_factory=list)
    _documents: int = 0
    _dropped: int = 0

    def fault(self, line: int, what: str, cure: str) -> None:
        if len(self._faults) < MOST_FAULTS:
            self._faults.append(Fault(self.file, line, what, cure))
        else:
            self._more += 1

    def finish(self) -> tuple[Fault, ...]:
        if self._more:
            self._faults.append(Fault(self.file, 0, f"{self._more} more faults", "cure the ones above first"))
        return tuple(self._faults)

    def add(self, event: Any) -> None:
        line = event.start_mark.line + 1
        match event:
            case yaml.ScalarEvent():
                self._refuse_marks(event, line)
                self._scalar(event, line)
            case yaml.MappingStartEvent():
                self._refuse_marks(event, line)
                self._open({}, line)
            case yaml.SequenceStartEvent():
                self._refuse_marks(event, line)
                self._open([], line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self.fault(line, f"an alias (*{escape(event.anchor or '', 40)})", "write the value out")
                self._put_key(_SKIP, line) if self._wants_key() else self._put(None, line)
            case yaml.DocumentStartEvent():
                self._document(event, line)
            case _:  # stream start and end, document end
                pass

    def _document(self, event: Any, line: int) -> None:
        self._documents += 1
        if self._documents > 1:
            self.fault(line, "a second document", "one file, one document: remove the `---` or make another file")
            raise _StopError
        if event.tags or event.version not in (None, (1, 2)):
            self.fault(line, "a %TAG or %YAML directive", "remove it: these files are YAML 1.2 without tags")

    def _refuse_marks(self, event: Any, line: int) -> None:
        if event.anchor:
            self.fault(line, f"an anchor (&{escape(event.anchor, 40)})", "remove it: anchors and aliases are not read")
        if event.tag:
            self.fault(line, f"a tag ({escape(event.tag, 60)})", "remove it; use quotes for text")

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].container, dict) and self._stack[-1].key is None

    def _scalar(self, event: Any, line: int) -> None:
        text: str = event.value
        plain = not event.style  # "" from the C parser, None from the Python one
        if self._wants_key():
            if plain and text == "<<":
                self.fault(line, "a merge key (<<)", "write the keys out")
                self._put_key(_SKIP, line)
            else:
                self._put_key(text, line)
            return
        try:
            self._put(_resolve(text) if plain and not event.tag else text, line)
        except ValueError:
            self.fault(line, f"the number {escape(text, 20)} is too long", "put it in quotes if it is meant as text")
            self._put(None, line)

    def _put_key(self, key: str | _Skip, line: int) -> None:
        frame = self._stack[-1]
        frame.key = key
        if isinstance(key, _Skip):
            return
        path = (*frame.path, key)
        if path in self.lines:
            what = f"the key {escape(key, 40)!r} is set a second time"
            self.fault(line, what, f"the first is in line {self.lines[path]}: keep one of the two")
            frame.key = _SKIP
        else:
            self.lines[path] = line

    def _open(self, container: dict[str, object] | list[object], line: int) -> None:
        if len(self._stack) >= MOST_DEPTH:
            self.fault(line, f"nested more than {MOST_DEPTH} levels deep", "a policy needs five levels")
            raise _StopError
        if self._wants_key():
            self.fault(line, "a list or mapping as a key", "a key is a name")
            self._stack.append(_Frame(container, self._hidden(), is_key=True))
            return
        frame = self._stack[-1] if self._stack else None
        if frame is None:
            path: Path = ()
        elif isinstance(frame.container, list):
            path = (*frame.path, len(frame.container))
        else:
            path = self._hidden() if isinstance(frame.key, _Skip) else (*frame.path, str(frame.key))
        self._put(container, line)
        self._stack.append(_Frame(container, path))

    def _hidden(self) -> Path:
        """A unique path below a dropped key; it contains a NUL, which no key of a file can."""
        self._dropped += 1
        return (f"\0{self._dropped}",)

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.is_key:
            self._stack[-1].key = _SKIP

    def _put(self, value: object, line: int) -> None:
        if not self._stack:
            self.root = value
            self.lines.setdefault((), line)
            return
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            self.lines[(*frame.path, len(frame.container))] = line
            frame.container.append(value)
            return
        if isinstance(frame.key, str):
            frame.container[frame.key] = value
        frame.key = None


def _resolve(text: str) -> str | int | float | bool | None:
    """A plain scalar's value under the core schema. Raises ValueError for a number of more than 40 digits."""
    first = text[:1]
    if first.isalpha() and first not in "tTfFnN":  # most scalars: words
        return text
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    number = _INT.fullmatch(text)
    if (number or _FLOAT.fullmatch(text)) and len(text) > 40:
        raise ValueError("too long")
    if number:
        return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text if text[-1] not in "fFnN" else text.replace(".", ""))
    return text
