"""The health checks of `relayctl doctor`.

Each check yields findings about one thing. Checks change nothing and do not depend on each other.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from relay.cli.output import size
from relay.core.audit import archive_format
from relay.core.audit.archive_format import DatabaseUsage
from relay.core.escape import escape
from relay.core.settings import Settings
from relay.errors import RelayError, SiteInvalid
from relay.serve import control_client, ssh_algorithms
from relay.site import lint, locate
from relay.site.locate import Site
from relay.store import checkpoint_state, host_keys, signing_key
from relay.store.archive import archive_job
from relay.store.archive.archive_reader import ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE

State = Literal["ok", "warning", "fault"]
LONG_LOG = 64 << 20  # bytes of SQLite's WAL; the relay keeps it at one MiB unless another reader holds it
LITTLE_ROOM = 200 << 20  # free bytes of the audit log's disk below which there is a warning: a busy month
SECONDS = 5.0  # timeout for other processes


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A finding: the state of one thing, and the remedy if it is not ok."""

    name: str
    state: State
    what: str
    cure: str = ""


def run(site: Site) -> Iterator[HealthCheck]:
    """All findings, causes before effects."""
    found = lint.check_site(site, now=int(time.time()))
    settings = found.examination.settings
    yield from _guarded("modes", lambda: _modes(site))
    yield from _files(found)
    yield from _guarded("host keys", lambda: _host_keys(site))
    yield from _guarded("clock", lambda: _clock(site))
    yield from _guarded("database", lambda: _database(site, settings))
    yield from _guarded("audit key", lambda: _audit_key(site))
    try:
        status = control_client.call(site.state, {"do": "status"}, timeout=SECONDS)
    except RelayError as error:
        yield HealthCheck("relay", "fault", error.what, error.hint)
        status = {}
    else:
        yield from _running(status, found, settings)
    yield from _guarded("zones", lambda: _zones(site, status))
    for address in status.get("listening", [])[:1]:
        yield from _guarded("algorithms", partial(_algorithms, address))


def _guarded(name: str, check: Callable[[], Iterator[HealthCheck]]) -> Iterator[HealthCheck]:
    try:
        yield from check()
    except RelayError as error:
        yield HealthCheck(name, "fault", error.what, error.hint)
    except OSError as error:
        yield HealthCheck(name, "fault", f"{error.filename or name}: {error.strerror}", "run it with sudo")


def _modes(site: Site) -> Iterator[HealthCheck]:
    wrong = [
        (path, why)
        for path in [site.path, *(path for path in site.path.rglob("*") if site.state not in path.parents)]
        if (why := locate.writable_by_others(path))
    ]
    for path, why in wrong[:5]:
        yield HealthCheck("modes", "fault", f"{path} {why}", f"chmod go-w {path}")
    if site.state.exists():
        mode = site.state.stat().st_mode & 0o777
        if mode & 0o027:  # reviewers may have access by their group (docs/how-to/who-may-run-relayctl.md)
            yield HealthCheck("modes", "fault", f"{site.state} has mode {mode:o}", f"chmod 700 {site.state}")
            return
    if not wrong:
        yield HealthCheck("modes", "ok", f"only the owner can write {site.path}")


def _files(found: lint.LintResult) -> Iterator[HealthCheck]:
    for fault in found.faults[:5]:
        yield HealthCheck("site", "fault", str(fault), "relayctl check shows all")
    for failure in found.examination.failures[:5]:
        yield HealthCheck("site", "fault", str(failure.fault()), "relayctl check")
    for warning in found.warnings[:5]:
        yield HealthCheck("site", "warning", str(warning))
    if found.good:
        keys = len(found.keys.keys)
        yield HealthCheck("site", "ok", f"policy {found.examination.version} is valid, {keys} keys")
        if not keys:
            yield HealthCheck("site", "warning", "no person has a key", "relayctl add-key PERSON FILE.pub")
    for different in found.differences[:3]:
        yield HealthCheck(
            "applied", "warning", f"differs from the running configuration: {different}", "relayctl reload"
        )


def _host_keys(site: Site) -> Iterator[HealthCheck]:
    keys = host_keys.load(site.state)
    if not keys:
        yield HealthCheck("host keys", "warning", "there is none yet", "the first start makes one")
    for key in keys:
        yield HealthCheck("host keys", "ok", f"{key.algorithm} {key.fingerprint}")
    if keys and keys[0].algorithm != "ssh-ed25519":
        yield HealthCheck("host keys", "warning", "there is no Ed25519 host key", "relayctl host-key add")


def _clock(site: Site) -> Iterator[HealthCheck]:
    now = time.time()
    newest = 0.0
    if (site.state / FILE).exists():
        with AuditReader(site.state / FILE) as reader:
            newest = max((row.event.time / 1e6 for row in reader.after(reader.head() - 1)), default=0.0)
    if newest > now + 2:
        yield HealthCheck(
            "clock", "fault", f"the newest audit row lies {newest - now:.0f} s in the future", "timedatectl status"
        )
    elif Path("/run/systemd/timesync").is_dir() and not Path("/run/systemd/timesync/synchronized").exists():
        yield HealthCheck("clock", "warning", "it is not synchronised", "timedatectl set-ntp true")
    else:
        yield HealthCheck("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _database(site: Site, settings: Settings) -> Iterator[HealthCheck]:
    path = site.state / FILE
    if not path.exists():
        yield HealthCheck("database", "warning", f"{path} is not there yet", "it is made at the first start")
        return
    disk = os.statvfs(site.state)
    free = disk.f_bavail * disk.f_frsize
    if free < LITTLE_ROOM:
        yield HealthCheck(
            "database", "warning", f"only {free >> 20} MiB are free below {site.state}", f"df -h {site.state}"
        )
    with AuditReader(path) as reader:
        head, (base, _), room = reader.head(), reader.base(), reader.room()
        due = archive_job.standing(reader, archive_format.retention(settings), time.time_ns() // 1000)
        opened = reader.oldest_open()
    most = settings.audit_max_size
    bound = f" of {size(most)}" if most else ""
    yield HealthCheck("database", "ok", f"{head - base} rows, {size(room.used)}{bound}")
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > LONG_LOG:
        grown = f"its log has grown to {size(log.stat().st_size)}: another program keeps it open"
        yield HealthCheck("database", "warning", grown, f"fuser -v {path}")
    if most and room.used > most:
        held = f"forward {opened[1]} is open since row {opened[0]}" if opened else "see archives below"
        yield HealthCheck(
            "database", "warning", f"it is larger than max_size: {held}", "relayctl audit archive --dry-run"
        )
    yield from _archives(site, due, settings)


def _archives(site: Site, due: DatabaseUsage, settings: Settings) -> Iterator[HealthCheck]:
    """The archives, and the rows that will be archived next."""
    archives = ArchiveReader(site.state)
    entries = [entry for entry in archives.entries() if entry.kept]
    for entry in entries:
        archives.present(entry)
    rows, total = sum(entry.rows for entry in entries), sum(entry.bytes for entry in entries)
    archived = f"{len(entries)} archives, {rows} rows, {size(total)}; " if entries else "none yet; "
    wanted = archive_format.wanted(archive_format.retention(settings), due)
    soon = (
        f"rows up to {wanted} are due now"
        if wanted > due.base
        else f"rows go there after {settings.audit_keep_days} days"
    )
    yield HealthCheck("archives", "ok", archived + soon)


def _audit_key(site: Site) -> Iterator[HealthCheck]:
    """Whether the key that the audit log announced for its next checkpoint is on this machine."""
    path = site.state / FILE
    if not path.exists():
        return
    keys = signing_key.seen(
        site.state
    )  # before the log is read, because the running relay may write a checkpoint in between
    with AuditReader(path) as reader:
        at = checkpoint_state.standing(reader)
    if keys is None:
        yield HealthCheck("audit key", "warning", "the keys cannot be read", "run it with sudo")
    elif not at.key:
        yield HealthCheck("audit key", "warning", "nothing is signed yet", "a running relay signs within a minute")
    elif at.key not in keys and not any(epoch < at.epoch for epoch in keys.values()):
        what = f"the key of epoch {at.epoch}, which must sign next, is not on this machine: it or newer rows were lost"
        yield HealthCheck("audit key", "fault", what, "relayctl audit verify; the next start begins with a new key")
    else:
        rows = at.head - at.sealed
        yield HealthCheck("audit key", "ok", f"epoch {at.epoch}; {rows} rows have no checkpoint yet")


def _running(status: dict[str, Any], found: lint.LintResult, settings: Settings) -> Iterator[HealthCheck]:
    workers = status.get("workers", [])
    yield HealthCheck(
        "relay",
        "ok" if workers else "fault",
        f"version {status.get('version')}, {len(workers)} workers, {status.get('connections')} connections, "
        f"{status.get('forwards')} forwards",
        "" if workers else "journalctl -u relay",
    )
    for slow in sorted({str(worker["slow"]) for worker in workers if worker.get("slow")}):
        what = f"the fast path is not used, everything works at a higher cost: {escape(slow, 400)}"
        yield HealthCheck("fast path", "warning", what, "journalctl -u relay says what is missing")
    if status.get("faults"):
        yield HealthCheck("relay", "fault", f"it still runs an older policy: {status['faults'][0]}", "relayctl check")
    if status.get("database"):
        yield HealthCheck(
            "database", "fault", f"rows cannot be written, so forwards are refused: {status['database']}", "df -h"
        )
    kept = status.get("retention", {})
    if kept.get("failing"):
        yield HealthCheck(
            "archives",
            "fault",
            f"old rows stay in the database: {escape(str(kept['failing']), 300)}",
            escape(str(kept.get("hint", "")), 200) or "relayctl audit archive",
        )
    elif kept.get("held"):
        yield HealthCheck("archives", "warning", f"old rows wait: {escape(str(kept['held']), 300)}")
    if kept.get("ballast") is False and not status.get("database"):
        yield HealthCheck("database", "warning", "there is no reserve for closing rows on a full disk", "df -h")
    seal = status.get("seal", {})
    if seal.get("overdue"):
        why = escape(str(seal.get("problem") or "no reason is known"), 300)
        what = f"no checkpoint is signed, {seal.get('unsealed')} rows wait for one: {why}"
        yield HealthCheck(
            "audit key", "fault", what, f"df -h; ls -l STATE/{signing_key.DIRECTORY}; journalctl -u relay"
        )
    if seal.get("anchors"):
        what = f"anchors cannot be published: {escape(str(seal['anchors']), 300)}"
        yield HealthCheck(
            "audit key", "warning", what, "check `audit: {anchors}` in relay.yaml, and the mode of its target"
        )
    if status.get("rows_lost"):
        yield HealthCheck("database", "fault", f"{status['rows_lost']} rows were lost", "df -h; journalctl -u relay")
    listening, wanted = set(status.get("listening", [])), set(settings.listen)
    if listening == wanted:
        yield HealthCheck("sockets", "ok", f"listening at {' '.join(sorted(listening))}")
    elif missing := wanted - listening - ({"[::]:" + settings.listen[0].rpartition(":")[2]} & wanted):
        yield HealthCheck(
            "sockets",
            "fault",
            f"not listening at {' '.join(sorted(missing))}, but at {' '.join(sorted(listening))}",
            "systemctl restart relay.socket relay: `listen` and relay.socket must say the same",
        )
    if status.get("metrics", "") != settings.metrics and not settings.metrics.endswith(":0"):
        configured = f"relay.yaml puts metrics at {settings.metrics or 'no address'}"
        now = escape(str(status.get("metrics", "")), 120) or "no address"
        yield HealthCheck(
            "metrics", "warning", f"{configured}, but they are at {now}", "relayctl reload; journalctl -u relay"
        )
    if status.get("policy") != found.examination.version and not found.differences:
        yield HealthCheck("applied", "warning", "the files differ from the running configuration", "relayctl reload")


def _zones(site: Site, status: dict[str, Any]) -> Iterator[HealthCheck]:
    """Each zone as seen by `net status`, `net verify` and the relay itself."""
    from relay.cli.net import zone_findings, zones

    well = set()
    try:
        known = zones.read_zones(site)
        for zone, state, what, cure in zone_findings.path_findings(known):
            well |= {zone} if state == "ok" else set()
            yield HealthCheck(f"zone {zone}", state, what, cure)
        for state, what, cure in zone_findings.guard_findings(known):
            yield HealthCheck("network guard", state, what, cure)
    except SiteInvalid:  # reported above as faults of the site
        return
    for seen in status.get("zones", []):
        if seen.get("zone") in well and not seen.get("up", True):
            what = f"the relay reports it as down: {escape(str(seen.get('reason')), 40)}"
            yield HealthCheck(f"zone {seen['zone']}", "fault", what, "journalctl -u relay; systemctl restart relay")


def _algorithms(address: str) -> Iterator[HealthCheck]:
    """The algorithms in the relay's KEXINIT, which is sent in clear (RFC 4253 7.1)."""
    kex, host_key_algorithms, ciphers = offered(address)
    if ssh_algorithms.KEX[0] in kex:
        yield HealthCheck("algorithms", "ok", f"post-quantum key exchange {kex[0]}: OpenSSH 10.1 and newer do not warn")
    else:
        yield HealthCheck(
            "algorithms",
            "warning",
            "no post-quantum key exchange: OpenSSH 10.1 and newer warn users",
            "pip install -U cryptography",
        )
    yield HealthCheck("algorithms", "ok", f"host keys {' '.join(host_key_algorithms)}; ciphers {' '.join(ciphers)}")


def offered(address: str) -> tuple[list[str], list[str], list[str]]:
    """Key exchanges, host key algorithms and ciphers that the server at ADDRESS:PORT offers. Raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not listened at
    with socket.create_connection((host, int(port)), timeout=SECONDS) as sock, sock.makefile("rb") as stream:
        sock.sendall(b"SSH-2.0-relayctl-doctor\r\n")
        line = stream.readline(255)
        if not line.startswith(b"SSH-2.0-"):
            raise OSError(0, f"{address} does not speak SSH")
        size = int.from_bytes(stream.read(4), "big")
        packet = stream.read(min(size, 35000))
    payload = packet[1 + 1 + 16 :]  # padding length, message number, cookie
    lists = []
    for _ in range(3):
        length = int.from_bytes(payload[:4], "big")
        lists.append(payload[4 : 4 + length].decode("ascii", "replace").split(","))
        payload = payload[4 + length :]
    return lists[0], lists[1], lists[2]
