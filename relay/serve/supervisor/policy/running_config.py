"""What is the law, and how does it change? The applied policy and keys of the supervisor, and where they are kept.

The site's files are the wish. A policy becomes law whole, after a child has compiled and checked it, or not at all;
the last one is kept in STATE/applied and goes on when the files are broken. Keys: what vanishes from the files or is
revoked is out at once, what is new waits for `reload` or `add-key`.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay import atomic_file
from relay.core.keys import keyring as keyrings
from relay.core.keys.keyring import Keyring
from relay.core.policy import snapshot
from relay.core.settings import Settings, settings_from_json
from relay.errors import Fault, InputRejected, RelayError, SiteInvalid
from relay.site.key_files import read, unchanged
from relay.site.locate import Site

DIRECTORY = "applied"
CURRENT = "current.jsonl"
KEYS = "keys.jsonl"
HISTORY = "history"
KEPT = 500  # applied policies kept to explain old rows
COMPILE_SECONDS = 60.0
MOST_BYTES = 256 << 20  # of a compiled site


@dataclass(frozen=True)
class CompiledSite:
    """A compiled site as the child printed it."""

    version: str = ""
    settings: Settings = field(default_factory=Settings)
    settings_json: dict[str, Any] = field(default_factory=dict)
    policy: tuple[str, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()
    warnings: tuple[str, ...] = ()
    text: bytes = b""  # all of it, as it is kept


def parse(data: bytes) -> CompiledSite:
    """What the child printed. Raises SiteInvalid with the site's faults, InputRejected for a broken document."""
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
    """Have a child compile and check the site. Raises SiteInvalid, or RelayError when the child fails or is late."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "relay.site.policy.compiler",
        str(site.path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=MOST_BYTES,
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
    """The law. Reading and writing files happens in threads; switching is one assignment."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.document = CompiledSite()
        self.keyring = Keyring()
        self._files: Keyring | None = None

    async def start(self) -> tuple[Fault, ...]:
        """Take the files as law, or with a broken site what was applied last; the faults in that case."""
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
        with contextlib.suppress(OSError):  # a full disk: the files are there, what is kept is a copy
            await asyncio.to_thread(self._keep)
        return ()

    async def reload(self, document: CompiledSite | None = None) -> list[str]:
        """Make the files law, all or nothing; what changed, in words. Raises SiteInvalid or RelayError.

        `document` is what `compile_site` gave, for who must not let narrowing wait for a compilation.
        """
        document = document or await compile_site(self.site)
        keyring = await self._read(document)
        changed = _differences(self.document, document) + _key_differences(self.keyring, keyring)
        before = self.document, self.keyring
        self.document, self.keyring = document, keyring
        try:
            await asyncio.to_thread(self._keep)
        except OSError as error:
            self.document, self.keyring = before
            raise RelayError(f"the applied policy cannot be kept: {error.strerror}", "is there room?") from None
        return changed

    async def narrow(self) -> tuple[str, ...]:
        """Let what vanished from the files or was revoked take effect; the fingerprints that are out now."""
        files = self._files
        if files is None or not unchanged(self.site.path, files):  # looked at each second, and mostly nothing is new
            files = await self._read()
        return self._switch(keyrings.narrowed(self.keyring, files))

    async def apply_keys(self, persons: list[str]) -> tuple[str, ...]:
        """For these persons the files are the law; for all others only narrowing. The fingerprints that are out."""
        files = await self._read()
        return self._switch(keyrings.with_persons(self.keyring, files, persons))

    def _switch(self, keyring: Keyring) -> tuple[str, ...]:
        if keyring.version == self.keyring.version:
            return ()
        gone = tuple(sorted(self.keyring.keys.keys() - keyring.keys.keys()))
        self.keyring = keyring
        return gone

    async def _read(self, document: CompiledSite | None = None) -> Keyring:
        document = document or self.document  # its time zone is the one that expiry-time= is read in
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
            last = keyrings.load((directory / KEYS).read_text().splitlines())
        except (OSError, RelayError, ValueError):
            return  # nothing was ever applied: nothing is reachable
        document = self.document
        files = read(self.site.path, None, offsets=document.offsets, rsa_bits=document.settings.limits.rsa_bits)
        self.keyring = keyrings.narrowed(last, files)

    def _keep(self) -> None:
        directory = self.site.state / DIRECTORY
        history = directory / HISTORY
        history.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.document.text:
            old = history / f"{self.document.version}.jsonl"
            if not old.exists():
                atomic_file.replace(old, self.document.text)
            atomic_file.replace(directory / CURRENT, self.document.text)
        atomic_file.replace(directory / KEYS, "\n".join(keyrings.dump(self.keyring)).encode())
        for path in sorted(history.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            path.unlink(missing_ok=True)

    def keep_keys(self) -> None:
        """Keep the applied keys; not on a full disk: then a restart reads the files, which say the same or less."""
        try:
            (self.site.state / DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(self.site.state / DIRECTORY / KEYS, "\n".join(keyrings.dump(self.keyring)).encode())
        except OSError:
            return


def _differences(before: CompiledSite, after: CompiledSite) -> list[str]:
    changed = []
    if before.version != after.version:
        changed.append(f"policy {before.version or 'none'} -> {after.version}")
    told_before, told_after = _flat(before.settings_json), _flat(after.settings_json)
    for name in sorted(told_before.keys() | told_after.keys()):
        old, new = told_before.get(name), told_after.get(name)
        if before.settings_json and old != new:
            later = f"; {LATER[name]}" if name in LATER else ""
            changed.append(f"{name}: {json.dumps(old)} -> {json.dumps(new)}{later}")
    return changed


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting by its whole name: one changed limit is not a row of all limits, twice."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return found


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
