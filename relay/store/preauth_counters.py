"""Counters of failed attempts per minute and source prefix, bounded in memory and on disk.

An unauthenticated client can try ten thousand times a second, so nothing durable is written per attempt. Attempts are
counted here, and `AuditWriter.strangers` stores the counts outside the chain. People type passwords in place of a login
name, so a name is stored only as its length and 32 bits of a salted hash: enough to recognise the same name, too few to
tell which of a thousand guesses it was.
"""

import hashlib
import hmac
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_network

PREFIXES_PER_MINUTE = 64  # rows a minute; a wider flood is one row "other" for each kind: the sums stay right
KINDS_PER_MINUTE = 16
ROWS = 20_000  # in all, about 3 MB: the oldest minutes give way
OTHER = "other"
_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """Attempts of one kind from one prefix in one minute, with the last attempt as a sample."""

    minute: int  # since 1970, UTC
    prefix: str  # a /24 or /48, or OTHER
    kind: str  # a short stable word: unknown-key, no-key, timeout, junk ...
    count: int
    reference: str = ""  # the id that the last one was told
    fingerprint: str = ""  # the last key it offered
    login: str = ""  # of its login name: `length/hash`


def prefix_of(address: IPv4Address | IPv6Address) -> str:
    """The network that stands for a source: /24 of IPv4, /48 of IPv6."""
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))


def veiled(login: str | bytes, salt: bytes) -> str:
    """The stored form of a login name: its length in bytes and 8 hexadecimal digits of a salted hash."""
    raw = login.encode("utf-8", "surrogateescape") if isinstance(login, str) else login
    return f"{len(raw)}/{hmac.digest(salt, raw[:4096], hashlib.sha256)[:4].hex()}"


class AttemptTally:
    """Adds attempts up until they are taken; holds at most 64 prefixes, 16 kinds and 10 minutes at a time."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._counts: dict[tuple[int, str, str], AttemptCount] = {}

    def add(
        self,
        now_us: int,
        address: IPv4Address | IPv6Address,
        kind: str,
        *,
        reference: str = "",
        fingerprint: str = "",
        login: str | bytes | None = None,
    ) -> None:
        """One attempt from `address`, seen at `now_us` (UTC microseconds)."""
        name = "" if login is None else veiled(login, self._salt)
        place = (now_us // _MINUTE, prefix_of(address), kind[:32])
        if place not in self._counts and len(self._counts) >= PREFIXES_PER_MINUTE:
            place = (place[0], OTHER, place[2])
            if place not in self._counts and len(self._counts) >= PREFIXES_PER_MINUTE + 10 * KINDS_PER_MINUTE:
                place = (place[0], OTHER, OTHER) if len(self._counts) < 1000 else next(reversed(self._counts))
        before = self._counts.get(place)
        self._counts[place] = AttemptCount(
            *place,
            count=before.count + 1 if before else 1,
            reference=reference[:64] or (before.reference if before else ""),
            fingerprint=fingerprint[:64] or (before.fingerprint if before else ""),
            login=name or (before.login if before else ""),
        )

    def take(self) -> tuple[AttemptCount, ...]:
        """Everything added up so far; the tally is empty afterwards."""
        counts = tuple(self._counts.values())
        self._counts.clear()
        return counts

    def give_back(self, counts: Iterable[AttemptCount]) -> None:
        """Put back what could not be stored (a full disk), so that it is counted with the next; bounded as `add`."""
        for count in counts:
            place = (count.minute, count.prefix, count.kind)
            if place in self._counts:
                now = self._counts[place]
                self._counts[place] = replace(now, count=now.count + count.count)
            elif len(self._counts) < 1000:
                self._counts[place] = count


def store(database: sqlite3.Connection, counts: Iterable[AttemptCount]) -> None:
    """Add `counts` to the table, inside the caller's transaction, within the bounds of this module."""
    for count in counts:
        prefix, kind = count.prefix, count.kind
        known = database.execute(
            "SELECT 1 FROM strangers WHERE minute = ? AND prefix = ? AND kind = ?", (count.minute, prefix, kind)
        ).fetchone()
        if not known:
            (rows,) = database.execute("SELECT count(*) FROM strangers WHERE minute = ?", (count.minute,)).fetchone()
            if rows >= PREFIXES_PER_MINUTE:
                prefix = OTHER
            if rows >= PREFIXES_PER_MINUTE + KINDS_PER_MINUTE:
                kind = OTHER
        database.execute(
            """INSERT INTO strangers VALUES (?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (minute, prefix, kind) DO UPDATE SET count = count + excluded.count,
               reference = iif(excluded.reference = '', reference, excluded.reference),
               fingerprint = iif(excluded.fingerprint = '', fingerprint, excluded.fingerprint),
               login = iif(excluded.login = '', login, excluded.login)""",
            (count.minute, prefix, kind, count.count, count.reference, count.fingerprint, count.login),
        )
    (rows,) = database.execute("SELECT count(*) FROM strangers").fetchone()
    if rows > ROWS:
        (edge,) = database.execute(
            "SELECT minute FROM strangers ORDER BY minute LIMIT 1 OFFSET ?", (rows - ROWS,)
        ).fetchone()
        database.execute("DELETE FROM strangers WHERE minute < ?", (edge,))


def prune(database: sqlite3.Connection, before_minute: int) -> int:
    """Delete the counts of minutes before `before_minute`, inside the caller's transaction; how many rows went."""
    return database.execute("DELETE FROM strangers WHERE minute < ?", (before_minute,)).rowcount
