"""The running configuration: the policy, settings and keys that the relay enforces, and their copy in STATE/applied.

A policy is applied whole, after a child process has compiled and checked the site's files, or not at all. The copy is
used when the files have faults at the start. A key that is removed from the files or revoked loses its effect at once;
a new key waits for `reload` or `add-key`.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay import atomic_file
from relay.core.keys.keyring import Keyring, dump, load, narrowed, with_persons
from relay.core.policy import snapshot
from relay.core.settings import Settings, settings_from_json
from relay.errors import Fault, InputRejected, RelayError, SiteInvalid
from relay.site.key_files import read, unchanged
from relay.site.locate import Site

DIRECTORY = "applied"
CURRENT = "current.jsonl"
KEYS = "keys.jsonl"
HISTORY = "history"
MAX_HISTORY = 500  # applied policies kept to explain old rows
COMPILE_SECONDS = 60.0
MAX_COMPILED = 256 << 20  # bytes of a compiled site


@dataclass(frozen=True)
class CompiledSite:
    """A compiled site, parsed from the output of the child process."""

    version: str = ""
    settings: Settings = field(default_factory=Settings)
    settings_json: dict[str, Any] = field(default_factory=dict)
    policy: tuple[str, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()
    warnings: tuple[str, ...] = ()
    text: bytes = b""  # the whole output, as it is stored


def parse(data: bytes) -> CompiledSite:
    """Parse the output of the child. Raises SiteInvalid with the site's faults, InputRejected for a broken document."""
    settings: dict[str, Any] = {}
    policy: list[str] = []
    try:
        for line in data.decode().splitlines():
            kind, *values = json.loads(line)
            if kind == "policy":
                policy.append(values[0])
            elif kind == "settings":
                settings = values[0]
            elif kind == "faults":
                raise SiteInvalid(tuple(Fault(*fault) for fault in values[0]))
            elif kind == "done":
                warnings = tuple(str(warning) for warning in (values[1] if len(values) > 1 else ()))
                offsets = snapshot.offsets(policy[0])
                return CompiledSite(
                    values[0], settings_from_json(settings), settings, tuple(policy), offsets, warnings, data
                )
    except (ValueError, TypeError, LookupError) as error:
        raise InputRejected(f"a compiled site is broken: {error}", "relayctl check") from None
    raise InputRejected("a compiled site ends too early", "relayctl check")


async def compile_site(site: Site) -> CompiledSite:
    """Compile and check the site in a child process.

    Raises SiteInvalid, or RelayError if the child fails or takes too long.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "relay.site.policy.compiler",
        str(site.path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_COMPILED,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(COMPILE_SECONDS):
            data = await process.stdout.read(-1)
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RelayError(f"checking {site.path} took more than {COMPILE_SECONDS:g} s", "relayctl check") from None
    if not data:
        raise RelayError(f"the check of {site.path} ended with status {process.returncode}", "relayctl check")
    return await asyncio.to_thread(parse, data)


class RunningConfig:
    """The running configuration. Files are read and written in threads; replacing it is one assignment."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.document = CompiledSite()
        self.keyring = Keyring()
        self._files: Keyring | None = None

    async def start(self) -> tuple[Fault, ...]:
        """Apply the files, or if they have faults what was applied last; returns the faults in that case."""
        try:
            document = await compile_site(self.site)
        except SiteInvalid as error:
            await asyncio.to_thread(self._load_last)
            return error.faults
        except (RelayError, OSError) as error:
            await asyncio.to_thread(self._load_last)
            return (Fault(str(self.site.path), 0, str(error), "relayctl check"),)
        self.document = document
        self.keyring = await self._read()
        with contextlib.suppress(OSError):  # a full disk: the files are there, this is only a copy
            await asyncio.to_thread(self._store)
        return ()

    async def reload(self, document: CompiledSite | None = None) -> list[str]:
        """Apply the files, all or nothing; returns the changes in words. Raises SiteInvalid or RelayError.

        `document` is the result of `compile_site`, for callers that must not delay revocations by a compilation.
        """
        document = document or await compile_site(self.site)
        keyring = await self._read(document)
        changed = _differences(self.document, document) + _key_differences(self.keyring, keyring)
        before = self.document, self.keyring
        self.document, self.keyring = document, keyring
        try:
            await asyncio.to_thread(self._store)
        except OSError as error:
            self.document, self.keyring = before
            raise RelayError(f"the applied policy cannot be kept: {error.strerror}", "is there room?") from None
        return changed

    async def narrow(self) -> tuple[str, ...]:
        """Apply removals and revocations in the key files; returns the fingerprints that lost their effect."""
        files = self._files
        if files is None or not unchanged(self.site.path, files):  # called each second, and mostly nothing has changed
            files = await self._read()
        return self._switch(narrowed(self.keyring, files))

    async def apply_keys(self, persons: list[str]) -> tuple[str, ...]:
        """Apply the key files of these persons, only removals of others; returns the fingerprints that are gone."""
        files = await self._read()
        return self._switch(with_persons(self.keyring, files, persons))

    def _switch(self, keyring: Keyring) -> tuple[str, ...]:
        if keyring.version == self.keyring.version:
            return ()
        gone = tuple(sorted(self.keyring.keys.keys() - keyring.keys.keys()))
        self.keyring = keyring
        return gone

    async def _read(self, document: CompiledSite | None = None) -> Keyring:
        document = document or self.document  # expiry-time= is read in its time zone
        self._files = await asyncio.to_thread(
            read,
            self.site.path,
            self._files,
            offsets=document.offsets,
            rsa_bits=document.settings.limits.rsa_bits,
        )
        return self._files

    def _load_last(self) -> None:
        directory = self.site.state / DIRECTORY
        try:
            self.document = parse((directory / CURRENT).read_bytes())
            last = load((directory / KEYS).read_text().splitlines())
        except (OSError, RelayError, ValueError):
            return  # nothing was ever applied, so nothing is reachable
        document = self.document
        files = read(self.site.path, None, offsets=document.offsets, rsa_bits=document.settings.limits.rsa_bits)
        self.keyring = narrowed(last, files)

    def _store(self) -> None:
        directory = self.site.state / DIRECTORY
        history = directory / HISTORY
        history.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.document.text:
            old = history / f"{self.document.version}.jsonl"
            if not old.exists():
                atomic_file.replace(old, self.document.text)
            atomic_file.replace(directory / CURRENT, self.document.text)
        atomic_file.replace(directory / KEYS, "\n".join(dump(self.keyring)).encode())
        for path in sorted(history.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)[:-MAX_HISTORY]:
            path.unlink(missing_ok=True)

    def store_keys(self) -> None:
        """Store the applied keys. A full disk is ignored: after a restart the files are read, which allow no more."""
        try:
            (self.site.state / DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(self.site.state / DIRECTORY / KEYS, "\n".join(dump(self.keyring)).encode())
        except OSError:
            return


def _differences(before: CompiledSite, after: CompiledSite) -> list[str]:
    changed = []
    if before.version != after.version:
        changed.append(f"policy {before.version or 'none'} -> {after.version}")
    flat_before, flat_after = _flat(before.settings_json), _flat(after.settings_json)
    for name in sorted(flat_before.keys() | flat_after.keys()):
        old, new = flat_before.get(name), flat_after.get(name)
        if before.settings_json and old != new:
            later = f"; {LATER[name]}" if name in LATER else ""
            changed.append(f"{name}: {json.dumps(old)} -> {json.dumps(new)}{later}")
    return changed


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting by its full name, so that a change of one limit does not show all limits."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


# settings that a running supervisor cannot change
LATER = {
    "listen": "not in force yet: relayctl upgrade (under systemd relay.socket has to say the same)",
    "node": "not in force yet: relayctl upgrade",
    "state": "not in force yet: stop the relay, move the directory, start it",
}


def _key_differences(before: Keyring, after: Keyring) -> list[str]:
    new = [after.keys[fingerprint] for fingerprint in sorted(after.keys.keys() - before.keys.keys())]
    gone = [before.keys[fingerprint] for fingerprint in sorted(before.keys.keys() - after.keys.keys())]
    return [f"key added: {key.person} {key.fingerprint}" for key in new] + [
        f"key gone: {key.person} {key.fingerprint}" for key in gone
    ]
