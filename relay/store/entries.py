"""Which entries of the dictionaries does a row refer to? Those used lately are at hand, new ones are made.

For the writer alone, inside its transactions. Whoever rolls one back, or deletes entries, says so (`forget`).
"""

import sqlite3

from relay.core.event import Event
from relay.store import columns, dictionary
from relay.store.pattern import Entries, Found, Patterns, Placed

_REMEMBERED = 4096  # ids of entries kept at hand: one per person and client, or target and rule


class Dictionaries:
    """The entries that one node's rows refer to."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._ids: dict[tuple[object, ...], int] = {}
        self._patterns = Patterns(node)

    def forget(self) -> None:
        """Some may not be there, or not any more."""
        self._ids.clear()
        self._patterns.clear()

    def find(self, event: Event) -> Found | None:
        """The row of `event`, if it is like others (see `pattern`)."""
        return self._patterns.find(event)

    def look_up(self, database: sqlite3.Connection, event: Event) -> tuple[Entries, Placed, int | str]:
        """What a row refers to, what stands in its columns, and its rest: an entry if it repeats, else the text."""
        placed = dictionary.columns(event)
        text, repeats = dictionary.rest(event.fields, placed)
        entries = Entries(
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
        place = dictionary.place("who", event.fields, dictionary.WHO)
        known = self._ids.get(place)
        if known is not None:
            return known
        text = dictionary.part(event.fields, dictionary.WHO)
        if text is None:
            return None
        digest = dictionary.short_digest(text)
        database.execute(
            "INSERT INTO who (digest, text, person, fingerprint, client) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (digest, text, *columns.of_who(event.fields)),
        )
        (number,) = database.execute("SELECT id FROM who WHERE digest = ?", (digest,)).fetchone()
        return self._remember(place, number)

    def _target(self, database: sqlite3.Connection, event: Event) -> int | None:
        place = dictionary.place("target", event.fields, dictionary.TARGET)
        known = self._ids.get(place)
        if known is not None:
            return known
        text = dictionary.part(event.fields, dictionary.TARGET)
        if text is None:
            return None
        digest = dictionary.short_digest(text)
        database.execute(
            "INSERT INTO target (digest, text, host, address, port) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (digest, text, *columns.of_target(event.fields)),
        )
        (number,) = database.execute("SELECT id FROM target WHERE digest = ?", (digest,)).fetchone()
        return self._remember(place, number)

    def _rest(self, database: sqlite3.Connection, text: str) -> int:
        known = self._ids.get(("rests", text))
        if known is not None:
            return known
        digest = dictionary.short_digest(text)
        database.execute("INSERT INTO rests (digest, text) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, text))
        (number,) = database.execute("SELECT id FROM rests WHERE digest = ?", (digest,)).fetchone()
        return self._remember(("rests", text), number)
