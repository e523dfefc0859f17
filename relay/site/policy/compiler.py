"""Compiler of a site: settings, policy and texts, or all faults at once.

As a program (`python -m relay.site.policy.compiler SITE`) it is the supervisor's compile child, so that no serving
process loads PyYAML and pydantic. It prints JSON lines:

    ["settings", {...}]                             exit status 0
    ["offsets", [[unix, offset], ...]]              the site's time zone (relay.core.policy.time_conditions)
    ["text", file, text]                            for each file
    ["policy", line]                                for each line of the snapshot
    ["done", version, ["file:line: warning", ...]]
or
    ["faults", [[file, line, what, cure], ...]]     exit status 1
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from relay.core.policy import snapshot
from relay.core.policy.model import Rule
from relay.core.policy.policy import Policy, build_policy
from relay.core.settings import Settings, settings_to_json
from relay.errors import Fault, InputRejected, RelayError, SiteInvalid
from relay.site import files, locate, times
from relay.site.policy import policy_tests, validation
from relay.site.policy.merge import Merged, merge
from relay.site.policy.policy_tests import FailedPolicyTest, PolicyTest
from relay.site.yaml import scalars, yaml_document
from relay.site.yaml.yaml_document import YamlDocument

HINT = "relayctl check"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A valid site, without its keys."""

    settings: Settings
    policy: Policy
    expectations: tuple[PolicyTest, ...]
    warnings: tuple[Fault, ...]
    texts: Mapping[str, str]  # by name relative to the site
    version: str  # 12 hex digits of the texts


@dataclass(frozen=True, slots=True)
class Examination:
    """The findings about a site's files. `compiled` is set only without faults and failures."""

    settings: Settings
    texts: Mapping[str, str]
    version: str
    faults: tuple[Fault, ...]
    failures: tuple[FailedPolicyTest, ...]
    warnings: tuple[Fault, ...]
    compiled: Compiled | None


def load(path: Path, *, now: int) -> Compiled:
    """Compile the site at `path` at `now` (Unix seconds). Raises SiteInvalid with all faults, sorted by place."""
    examination = examine(path, now=now)
    if examination.compiled is None:
        raise SiteInvalid((*examination.faults, *(failure.fault() for failure in examination.failures)), HINT)
    return examination.compiled


def examine(path: Path, *, now: int) -> Examination:
    """Read and compile the site at `path`. Faults in its files are findings, not exceptions."""
    read = files.read(path)
    return compile_documents(read.contents, read.persons, now=now, path=path, faults=read.faults)


def compile_documents(
    contents: Mapping[str, bytes],
    persons: frozenset[str],
    *,
    now: int,
    path: Path | None = None,
    faults: Sequence[Fault] = (),
) -> Examination:
    """Compile the bytes of a site's files. `faults` are those of reading them; of `path` only `state:` is read."""
    documents = {name: yaml_document.read(name, raw) for name, raw in sorted(contents.items())}
    all_faults = list(faults)
    settings, zone = _settings(documents.pop(locate.SETTINGS, None), all_faults, path)
    gathered = validation.PolicyEntries(whole=not faults)
    for document in documents.values():
        validation.policy(document, gathered)
    merged = merge(gathered, persons, zone, now, settings.public.rpartition(":")[0])
    expectations, wrong = policy_tests.read(gathered.expect, tuple(merged.groups), zone)
    all_faults += [*gathered.faults, *merged.faults, *wrong]
    texts = {name: raw.decode("utf-8", "replace") for name, raw in sorted(contents.items())}
    version = version_of(texts)
    failures: tuple[FailedPolicyTest, ...] = ()
    compiled = None
    if not all_faults:
        build = _builder(settings, merged, version, times.offsets(zone, now))
        try:
            built = build(merged.rules)
            failures = policy_tests.failures(expectations, merged.rules, built, build, now)
        except InputRejected as error:  # a limit of the core, such as too many rules
            all_faults.append(Fault(locate.POLICIES, 0, error.what, error.hint))
        else:
            if not failures:
                compiled = Compiled(settings, built, expectations, tuple(sorted(merged.warnings)), texts, version)
    return Examination(
        settings, texts, version, tuple(sorted(set(all_faults))), failures, tuple(sorted(merged.warnings)), compiled
    )


def _settings(document: YamlDocument | None, faults: list[Fault], path: Path | None) -> tuple[Settings, ZoneInfo]:
    if document is None:
        return Settings(), ZoneInfo("UTC")
    model, wrong = validation.settings(document)
    faults += wrong
    settings = model.settings()
    if path is not None and document.whole and locate.scan_state(path) != settings.state:
        # the control client reads `state` by the scan of locate.py, which must agree with the YAML parser
        line = document.line(("state",))
        faults.append(
            Fault(document.file, line, "`state` is written in an unusual way", "on a line of its own: state: /DIR")
        )
    for index, listener in enumerate(settings.listen):
        if listener in settings.listen[:index]:
            faults.append(
                Fault(document.file, document.line(("listen", index)), f"{listener} is listed twice", "remove one")
            )
    return settings, ZoneInfo(settings.timezone)


def _builder(
    settings: Settings, merged: Merged, version: str, offsets: Sequence[tuple[int, int]]
) -> Callable[[Sequence[Rule]], Policy]:
    # the relay's own metrics are not reachable through it either
    listening = settings.listen + ((settings.metrics,) if settings.metrics[:1] not in ("", "/") else ())

    def build(rules: Sequence[Rule]) -> Policy:
        return build_policy(
            version=version,
            zones=merged.zones,
            hosts=merged.hosts,
            groups=merged.groups,
            rules=rules,
            listeners=tuple(scalars.listener_parts(listener) for listener in listening),
            public=settings.public,
            offsets=offsets,
        )

    return build


def version_of(texts: Mapping[str, str]) -> str:
    """12 hexadecimal digits that identify these texts and their names."""
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        for part in (name.encode("utf-8", "backslashreplace"), text.encode("utf-8", "backslashreplace")):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()[:12]


def lines(compiled: Compiled) -> Iterator[str]:
    """The compiled site as the JSON lines of the module's docstring, without line ends."""
    yield _line("settings", settings_to_json(compiled.settings))
    yield _line("offsets", compiled.policy.offsets)
    for name, text in compiled.texts.items():
        yield _line("text", name, text)
    for line in snapshot.dump(compiled.policy):
        yield _line("policy", line)
    yield _line("done", compiled.version, [str(warning) for warning in compiled.warnings])


def _fault(fault: Fault) -> list[str | int]:
    return [fault.file, fault.line, fault.what, fault.cure]


def _line(*parts: object) -> str:
    return json.dumps(parts, separators=(",", ":"))


def main(arguments: Sequence[str]) -> int:
    """The supervisor's child: the site's directory is its only argument. The exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m relay.site.policy.compiler SITE\n")
        return 2
    path = Path(arguments[0])
    try:
        for line in lines(load(path, now=int(time.time()))):
            sys.stdout.write(line + "\n")
    except SiteInvalid as error:
        sys.stdout.write(_line("faults", [_fault(fault) for fault in error.faults]) + "\n")
        return 1
    except RelayError as error:
        sys.stdout.write(_line("faults", [[str(path), 0, error.what, error.hint]]) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
