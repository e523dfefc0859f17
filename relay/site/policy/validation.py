"""Validation of documents entry by entry.

Each entry (a zone, host, group, rule, expectation or setting) is validated separately, so that a faulty one does not
hide the faults of others. pydantic's errors become faults here, with line and nearest known key.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from relay.core.escape import escape
from relay.errors import Fault
from relay.site import network_models, settings_models
from relay.site.field_types import EXPLICIT_NULL
from relay.site.network_models import NetworkFile, OverlayEntry
from relay.site.policy import policy_models
from relay.site.policy.policy_models import ExpectEntry, HostEntry, PolicyFile, RuleEntry, ZoneEntry
from relay.site.settings_models import LimitsEntry, PenaltiesEntry, SettingsFile
from relay.site.yaml.yaml_document import Path, YamlDocument

_ENTRIES = policy_models.ENTRIES | settings_models.ENTRIES
_POLICY_SECTIONS = tuple(PolicyFile.model_fields)
_WORDS = {"zones": "zone", "hosts": "host", "groups": "group", "rules": "rule", "expect": "expectation"} | {
    "overlays": "overlay"
}


@dataclass(frozen=True, slots=True)
class EntryLocation:
    """The place of an entry."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def fault(self, what: str, cure: str = "") -> Fault:
        """A fault or warning at this place."""
        return Fault(self.file, self.line, what, cure)


@dataclass(slots=True)
class PolicyEntries:
    """The valid entries of all policy files with their places, and the names of invalid ones."""

    zones: list[tuple[str, ZoneEntry, EntryLocation]] = field(default_factory=list)
    hosts: list[tuple[str, HostEntry, EntryLocation]] = field(default_factory=list)
    groups: list[tuple[str, list[str], EntryLocation]] = field(default_factory=list)
    rules: list[tuple[RuleEntry, EntryLocation, "EntryLines"]] = field(default_factory=list)
    expect: list[tuple[ExpectEntry, EntryLocation]] = field(default_factory=list)
    partial: list[tuple[list[object], "EntryLines"]] = field(default_factory=list)  # the `to` of malformed rules
    broken: set[str] = field(
        default_factory=set
    )  # names whose own fault is reported, so they are not reported as unknown
    whole: bool = True  # False if a file could not be read completely: then no name is reported as unknown
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EntryLines:
    """The places inside one entry."""

    document: YamlDocument
    path: Path

    def at(self, *path: str | int) -> EntryLocation:
        """The place of a key or item of the entry."""
        return EntryLocation(self.document.file, self.document.line((*self.path, *path)))


def settings(document: YamlDocument) -> tuple[SettingsFile, list[Fault]]:
    """relay.yaml as a model, and its faults. A faulty setting has its default, so that others can be checked."""
    faults = list(document.faults)
    data = _mapping(document, faults)
    for name in ("limits", "penalties", "audit"):
        if name in data and data[name] is None:
            del data[name]
    data = _marked(data)
    while True:
        try:
            return SettingsFile.model_validate(data), faults
        except ValidationError as error:
            errors = error.errors(include_url=False)
            if document.whole:
                faults += _faults(errors, document, SettingsFile)
            for detail in errors:
                data.pop(str(detail["loc"][0]), None)


def network(document: YamlDocument) -> tuple[NetworkFile, list[Fault]]:
    """network.yaml as a model, and its faults. A faulty overlay is left out."""
    faults = list(document.faults)
    data = _mapping(document, faults)
    data = _marked({name: value for name, value in data.items() if value is not None})
    overlays = data.get("overlays")
    if isinstance(overlays, dict):
        data["overlays"] = overlays = {
            name: {} if value is EXPLICIT_NULL else value for name, value in overlays.items()
        }
    while True:
        try:
            return NetworkFile.model_validate(data), faults
        except ValidationError as error:
            errors = error.errors(include_url=False)
            if document.whole:
                faults += _faults(errors, document, NetworkFile)
            for detail in errors:
                section, name = (*map(str, detail["loc"]), "")[:2]
                if section == "overlays" and isinstance(overlays, dict) and name in overlays:
                    del overlays[name]
                elif section not in data or not (section == "overlays" and isinstance(overlays, dict)):
                    data.pop(section, None)


def policy(document: YamlDocument, into: PolicyEntries) -> None:
    """Add the entries of one policy file, and its faults."""
    into.faults += document.faults
    into.whole &= document.whole
    data = _mapping(document, into.faults)
    data = _marked({name: value for name, value in data.items() if value is not None or name not in _POLICY_SECTIONS})
    kept = {name: list(range(len(data[name]))) for name in ("rules", "expect") if isinstance(data.get(name), list)}
    while True:
        try:
            model = PolicyFile.model_validate(data)
            break
        except ValidationError as error:
            errors = error.errors(include_url=False)
            if document.whole:  # else entries after the parser's error would be reported as missing
                into.faults += _faults(errors, document, PolicyFile)
            _drop(data, kept, {detail["loc"][:2] for detail in errors}, document, into)
    for name, zone in model.zones.items():
        into.zones.append((name, zone, EntryLocation(document.file, document.line(("zones", name)))))
    for name, host in model.hosts.items():
        into.hosts.append((name, host, EntryLocation(document.file, document.line(("hosts", name)))))
    for name, members in model.groups.items():
        into.groups.append((name, members, EntryLocation(document.file, document.line(("groups", name)))))
    for index, rule in zip(kept.get("rules", ()), model.rules, strict=True):
        lines = EntryLines(document, ("rules", index))
        into.rules.append((rule, lines.at(), lines))
    for index, expect in zip(kept.get("expect", ()), model.expect, strict=True):
        into.expect.append((expect, EntryLocation(document.file, document.line(("expect", index)))))


def _drop(
    data: dict[str, Any],
    kept: dict[str, list[int]],
    bad: Iterable[tuple[int | str, ...]],
    document: YamlDocument,
    into: PolicyEntries,
) -> None:
    """Remove faulty entries from `data`; `kept` has the original numbers of the remaining list items."""
    items: dict[str, set[int]] = {}
    for path in bad:
        section = str(path[0])
        if len(path) == 1 or not isinstance(data.get(section), (dict, list)):
            if data.pop(section, None) is not None and section in _POLICY_SECTIONS:
                into.whole = False  # its entries are unknown now
            kept.pop(section, None)
        elif isinstance(path[1], int):
            items.setdefault(section, set()).add(path[1])
            item = data[section][path[1]]
            if section == "rules" and isinstance(item, dict):
                to = item.get("to")
                lines = EntryLines(document, (section, kept[section][path[1]]))
                into.partial.append((to if isinstance(to, list) else [to], lines))
        else:
            into.broken.add(path[1])
            data[section].pop(path[1], None)
    for section, indices in items.items():
        kept[section] = [number for index, number in enumerate(kept[section]) if index not in indices]
        data[section] = [item for index, item in enumerate(data[section]) if index not in indices]


def _mapping(document: YamlDocument, faults: list[Fault]) -> dict[str, Any]:
    if document.data is None:
        return {}
    if isinstance(document.data, dict):
        return dict(document.data)
    what = f"{_kind(document.data)} where settings are expected"
    faults.append(Fault(document.file, document.line(()), what, "write `key: value` lines"))
    return {}


def _marked(value: Any) -> Any:
    """A copy with EXPLICIT_NULL for null, so that a key without a value is not taken for an absent key."""
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_marked(item) for item in value]
    return EXPLICIT_NULL if value is None else value


def _faults(errors: Iterable[Any], document: YamlDocument, root: type[BaseModel]) -> list[Fault]:
    return [_fault(error, document, root) for error in errors]


def _fault(error: Any, document: YamlDocument, root: type[BaseModel]) -> Fault:
    path = tuple(part for part in error["loc"] if part != "[key]")
    line = document.line(path)
    key = str(path[-1]) if path else ""
    models = network_models.ENTRIES if root is NetworkFile else _ENTRIES
    model = models.get(str(path[0]), root) if len(path) > 1 else root
    entry = _WORDS.get(str(path[0]), str(path[0])) if len(path) > 1 else "file"
    match error["type"]:
        case "site":
            named = next((part for part in reversed(path) if isinstance(part, str)), "")
            what, cure = error["ctx"]["what"], error["ctx"]["cure"]
            what = what if len(path) < 3 and entry in _WORDS.values() else f"{escape(named, 40)}: {what}"
        case "extra_forbidden":
            what, cure = f"unknown key {escape(key, 40)!r} in the {entry}", _nearest(key, model)
        case "missing":
            what, cure = f"the {entry} has no `{key}`", f"add `{key}: {_example(model, key)}`"
        case "dict_type" | "model_type" | "model_attributes_type":
            named = f"the {entry}" if path and isinstance(path[-1], int) else escape(key, 40)
            what = f"{named}: {_kind(error['input'])} where `key: value` pairs are expected"
            cure = "write them in lines below it, or { } for none"
        case "list_type":
            what = f"{escape(key, 40)}: {_kind(error['input'])} where a list is expected"
            cure = "write [a, b], or a line `- a` for each, or [] for none"
        case "too_short":
            what, cure = f"{escape(key, 40)}: an empty list", "name at least one, or remove the key"
        case _:
            what, cure = f"{escape(key, 40)}: {escape(error['msg'].lower())}", ""
    return Fault(document.file, line, what, cure)


def _names(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _nearest(key: str, model: type[BaseModel]) -> str:
    if model is SettingsFile and key in LimitsEntry.model_fields:
        return "it belongs under `limits:`"
    if model is SettingsFile and key in PenaltiesEntry.model_fields:
        return "it belongs under `penalties:`"
    near = difflib.get_close_matches(key, _names(model), n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if model is NetworkFile and key in OverlayEntry.model_fields:
        return "it belongs under `overlays: { ZONE: { ... } }`"
    if model in {SettingsFile, NetworkFile} and key in _POLICY_SECTIONS:
        return "it belongs in a file of policies/"
    if model is PolicyFile and key in SettingsFile.model_fields:
        return "it belongs in relay.yaml"
    return f"known here: {', '.join(_names(model))}"


def _example(model: type[BaseModel], key: str) -> str:
    for name, info in model.model_fields.items():
        if (info.alias or name) == key and info.examples:
            example = info.examples[0]
            return f"[{', '.join(map(str, example))}]" if isinstance(example, list) else str(example)
    return "..."


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    for kind, word in ((dict, "a mapping"), (list, "a list"), (str, "text"), ((int, float), "a number")):
        if isinstance(value, kind):
            return word
    return "nothing"
