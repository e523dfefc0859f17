"""Cache of dictionary entries, which inserts those that are new.

Used by the writer inside its transactions. After a rollback or a deletion of entries the caller calls `forget`.
"""

import sqlite3

from relay.core.audit.event import Event
from relay.store.rows import row_encoding, search_columns
from relay.store.rows.row_templates import DictionaryEntries, MatchedTemplate, Placed, RowTemplates

_REMEMBERED = 4096  # ids of entries kept at hand: one per person and client, or target and rule


class DictionaryCache:
    """The entries that one node's rows refer to."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._ids: dict[tuple[object, ...], int] = {}
        self._patterns = RowTemplates(node)

    def forget(self) -> None:
        """Empty the cache, because cached entries may not exist."""
        self._ids.clear()
        self._patterns.clear()

    def find(self, event: Event) -> MatchedTemplate | None:
        """The row of `event`, if it is like others (see `pattern`)."""
        return self._patterns.find(event)

    def look_up(self, database: sqlite3.Connection, event: Event) -> tuple[DictionaryEntries, Placed, int | str]:
        """The entries of a row, the values of its columns, and its rest: an entry if it repeats, else the text."""
        placed = row_encoding.columns(event)
        text, repeats = row_encoding.rest(event.fields, placed)
        entries = DictionaryEntries(
            self._word(database, "nodes", self._node),
            self._word(database, "names", event.name),
            self._who(database, event),
            self._target(database, event),
            self._rest(database, text) if repeats else 0,
        )
        if not repeats:
            return entries, placed, text
        self._patterns.learn(event, entries, placed)
        return entries, placed, entries.rest

    def _remember(self, place: tuple[object, ...], number: int) -> int:
        if len(self._ids) >= _REMEMBERED:
            self._ids.clear()
        self._ids[place] = number
        return number

    def _word(self, database: sqlite3.Connection, table: str, word: str) -> int:
        known = self._ids.get((table, word))
        if known is not None:
            return known
        database.execute(f"INSERT INTO {table} (name) VALUES (?) ON CONFLICT DO NOTHING", (word,))  # noqa: S608 - one of our tables
        (number,) = database.execute(f"SELECT id FROM {table} WHERE name = ?", (word,)).fetchone()  # noqa: S608 - likewise
        return self._remember((table, word), number)

    def _who(self, database: sqlite3.Connection, event: Event) -> int | None:
        place = row_encoding.place("who", event.fields, row_encoding.WHO)
        known = self._ids.get(place)
        if known is not None:
            return known
        text = row_encoding.part(event.fields, row_encoding.WHO)
        if text is None:
            return None
        digest = row_encoding.short_digest(text)
        database.execute(
            "INSERT INTO who (digest, text, person, fingerprint, client) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (digest, text, *search_columns.of_who(event.fields)),
        )
        (number,) = database.execute("SELECT id FROM who WHERE digest = ?", (digest,)).fetchone()
        return self._remember(place, number)

    def _target(self, database: sqlite3.Connection, event: Event) -> int | None:
        place = row_encoding.place("target", event.fields, row_encoding.TARGET)
        known = self._ids.get(place)
        if known is not None:
            return known
        text = row_encoding.part(event.fields, row_encoding.TARGET)
        if text is None:
            return None
        digest = row_encoding.short_digest(text)
        database.execute(
            "INSERT INTO target (digest, text, host, address, port) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (digest, text, *search_columns.of_target(event.fields)),
        )
        (number,) = database.execute("SELECT id FROM target WHERE digest = ?", (digest,)).fetchone()
        return self._remember(place, number)

    def _rest(self, database: sqlite3.Connection, text: str) -> int:
        known = self._ids.get(("rests", text))
        if known is not None:
            return known
        digest = row_encoding.short_digest(text)
        database.execute("INSERT INTO rests (digest, text) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, text))
        (number,) = database.execute("SELECT id FROM rests WHERE digest = ?", (digest,)).fetchone()
        return self._remember(("rests", text), number)
