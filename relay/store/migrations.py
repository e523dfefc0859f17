"""Schema of the audit database, and the numbered migrations to it.

Migrations are numbered and additive within a major version, so that the previous
version of the program still works on the migrated database. SQLite's user_version holds major * 1000 + number.

Repeated values are stored once: who (person, key, client), target (asked, decided, rule) and rests are dictionaries of
canonical JSON, with columns and indexes for searching; a row refers to them and keeps only numbers and ids (seven
bytes each, core.ids). The hash of a row is over the whole text put together again, so a change in a dictionary breaks
the chain as a change in a row does. A forward takes about 350 bytes in all, opened and closed (bench/store.py).

There is no index on time: rows are written nearly in order of time, so the table `hours` has the first row
of each hour and its late rows (rows.time_index).
"""

import os
import sqlite3

from relay.errors import StoreUnavailable

MAJOR = 2
APPLICATION = 0x52454C41  # "RELA": tells our database from any other SQLite file

EVENTS = (
    """CREATE TABLE events (seq INTEGER PRIMARY KEY, id NOT NULL, time INTEGER NOT NULL,
        node INTEGER NOT NULL, name INTEGER NOT NULL, schema INTEGER NOT NULL, who INTEGER, target INTEGER,
        connection, forward, client_port INTEGER, sent INTEGER, received INTEGER, duration INTEGER,
        rest NOT NULL, hash BLOB NOT NULL)""",
    # what left neither text of its own nor words in a dictionary: see dictionary.py
    "CREATE TABLE rests (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL)",
    "CREATE TABLE hours (hour INTEGER PRIMARY KEY, first INTEGER NOT NULL, late INTEGER NOT NULL)",
)
INDEXES = (
    "CREATE UNIQUE INDEX events_id ON events (id)",
    "CREATE INDEX events_name ON events (name) WHERE name > 2",
    "CREATE INDEX events_who ON events (who) WHERE who IS NOT NULL",
    "CREATE INDEX events_target ON events (target) WHERE target IS NOT NULL",
    # closing rows are found by their forward, and an opening row by its own id (forward 1 stands for that)
    "CREATE INDEX events_connection ON events (connection) WHERE connection IS NOT NULL AND name <> 2",
    "CREATE INDEX events_forward ON events (forward) WHERE forward <> 1",
    # a reason or an obstacle, though it is rare; 24 bytes a forward
    "CREATE INDEX events_rest ON events (rest) WHERE typeof(rest) = 'integer'",
    # rows with a text of their own: the few that a search for a text must read
    "CREATE INDEX events_own ON events (name) WHERE typeof(rest) = 'text'",
)
_FIRST = (
    # salt: of the hashes of strangers' login names; base_seq, base_hash: the last row that was archived away
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE nodes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # 1 and 2 are the two that come in masses; the partial index on names leaves them out
    "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "INSERT INTO names (id, name) VALUES (1, 'forward.opened'), (2, 'forward.closed')",
    """CREATE TABLE who (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL,
        person TEXT, fingerprint TEXT, client BLOB)""",
    "CREATE INDEX who_person ON who (person)",
    "CREATE INDEX who_fingerprint ON who (fingerprint)",
    "CREATE INDEX who_client ON who (client)",
    """CREATE TABLE target (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL,
        host TEXT, address BLOB, port INTEGER)""",
    "CREATE INDEX target_host ON target (host)",
    "CREATE INDEX target_address ON target (address)",
    *EVENTS,
    *INDEXES,
    # kept in the same transaction as the rows: what is open is known without a scan
    "CREATE TABLE open_forwards (forward TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    # outside the chain, bounded, pruned: see strangers.py
    """CREATE TABLE strangers (minute INTEGER NOT NULL, prefix TEXT NOT NULL, kind TEXT NOT NULL,
        count INTEGER NOT NULL, reference TEXT NOT NULL, fingerprint TEXT NOT NULL, login TEXT NOT NULL,
        PRIMARY KEY (minute, prefix, kind)) WITHOUT ROWID""",
    "CREATE INDEX strangers_reference ON strangers (reference)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
CURRENT = MAJOR * 1000 + len(MIGRATIONS)


def migrate(database: sqlite3.Connection) -> None:
    """Bring the database to CURRENT in one transaction; one of a newer program with the same major is left as it is.

    Raises StoreUnavailable for a database of another major version or of another program, sqlite3.Error as it comes.
    """
    version = check(database)
    if version >= CURRENT:
        return
    database.execute("BEGIN IMMEDIATE")
    for statements in MIGRATIONS[version % 1000 :]:
        for statement in statements:
            database.execute(statement)
    if version == 0:
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute("INSERT INTO meta VALUES ('salt', ?)", (os.urandom(16),))
    database.execute(f"PRAGMA user_version = {CURRENT}")
    database.execute("COMMIT")


def check(database: sqlite3.Connection) -> int:
    """The database's version, 0 when it is empty. Raises StoreUnavailable when this program cannot use it as it is."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION:
        raise StoreUnavailable("this is not an audit database of the relay", "look at `state:` in relay.yaml")
    strange = database.execute("SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view') LIMIT 1")
    for type, name in strange:  # no release makes one: it could keep rows from being recorded, and nothing would tell
        raise StoreUnavailable(
            f"the audit database has a {type} that no relay made: {str(name)[:80]!r}",
            "whose deed is it? relayctl restore FILE brings a backup back",
        )
    if version and version // 1000 != MAJOR:
        raise StoreUnavailable(
            f"the audit database has format {version // 1000}, this program knows format {MAJOR}",
            "use the release of relayctl that wrote it",
        )
    return int(version)
