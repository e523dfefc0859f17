"""The items of the running configuration, each with the lines that a reviewer would remove."""

from collections.abc import Iterator, Mapping

from relay.core.keys.keyring import Keyring
from relay.core.policy.policy import Policy
from relay.core.policy.site_item import SiteItem
from relay.site.yaml import yaml_document
from relay.site.yaml.yaml_document import Path, YamlDocument


def holdings(texts: Mapping[str, str], policy: Policy, keyring: Keyring | None) -> tuple[SiteItem, ...]:
    """The persons, keys, hosts and rules of a site, from its files' texts, its policy and its keyring."""
    entries = {
        file: _Entries(yaml_document.read(file, text.encode("utf-8", "replace"))) for file, text in texts.items()
    }
    return (*_people(keyring or Keyring()), *_hosts(entries, policy), *_rules(entries, policy))


def _people(keyring: Keyring) -> Iterator[SiteItem]:
    files: dict[str, str] = {}
    for key in sorted(keyring.keys.values(), key=lambda key: (key.person, key.file, key.line)):
        files.setdefault(key.person, key.file)
        yield SiteItem("key", key.fingerprint, key.file, key.line, key.line, owner=key.person, until=key.expires)
    for person, file in files.items():
        yield SiteItem("person", person, file)


def _hosts(entries: Mapping[str, "_Entries"], policy: Policy) -> Iterator[SiteItem]:
    for file, found in entries.items():
        section = found.section("hosts")
        for name, entry in section.items() if isinstance(section, dict) else ():
            zone = entry.get("zone") if isinstance(entry, dict) else None
            host = policy.inventory.hosts.get(f"{name}.{zone}")
            if host is not None:
                lines = found.extent(("hosts", name))
                yield SiteItem("host", name, file, *lines, zone=host.zone, address=str(host.address))


def _rules(entries: Mapping[str, "_Entries"], policy: Policy) -> Iterator[SiteItem]:
    places: dict[tuple[str, int, str], Path] = {}
    for file, found in entries.items():
        section = found.section("rules")
        for number, entry in enumerate(section if isinstance(section, list) else ()):
            if isinstance(entry, dict):
                places[file, found.document.line(("rules", number)), str(entry.get("name"))] = ("rules", number)
    for rule in policy.rules():
        path = places.get((rule.file, rule.line, rule.name))
        lines = entries[rule.file].extent(path) if path else (rule.line, rule.line, False)
        yield SiteItem("rule" if rule.allow else "deny rule", rule.name, rule.file, *lines, until=rule.until)


class _Entries:
    """The lines of each entry of a file, collected in one pass."""

    def __init__(self, document: YamlDocument) -> None:
        self.document = document
        self._lines = document.text.splitlines()
        self._last: dict[Path, int] = {}
        self._starts: dict[int, set[Path]] = {}
        for path, line in document.lines.items():
            entry = path[:2]
            self._last[entry] = max(line, self._last.get(entry, line))
            self._starts.setdefault(line, set()).add(entry)

    def section(self, name: str) -> object:
        return self.document.data.get(name) if isinstance(self.document.data, dict) else None

    def extent(self, path: Path) -> tuple[int, int, bool]:
        """First and last line of the entry at `path`, and whether other items share these lines."""
        first = self.document.line(path)
        last = self._last.get(path, first)
        depth = self._depth(first)
        while last < len(self._lines) and last + 1 not in self._starts and self._depth(last + 1) > depth:
            last += 1  # multi-line values, closing brackets
        return first, last, any(self._starts.get(line, {path}) != {path} for line in range(first, last + 1))

    def _depth(self, number: int) -> int:
        """The indentation of a line; -1 for an empty line."""
        line = self._lines[number - 1] if number <= len(self._lines) else ""
        return len(line) - len(line.lstrip()) if line.strip() else -1
