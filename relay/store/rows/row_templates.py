"""Templates of rows that differ only in ids, numbers and time.

The rows of a connection's forwards to one target are alike but for their IDS and NUMBERS (see row_encoding). These are
filled into a template of the canonical text and its dictionary entries. Building the text and looking up the entries
each time took half of the cost of a row.
"""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import NamedTuple

from relay.core import ids
from relay.core.audit.event import SCHEMA, Event, Value
from relay.core.audit.hash_chain import compact
from relay.store.rows import row_encoding

_MOST = 1024  # patterns kept, of about 2 kB each
_MOST_SEEN = 4096
_MOST_LAYOUTS = 64  # orders of fields; a worker has two or three

Placed = tuple[bytes | str | int | None, ...]  # what stands in the columns IDS and NUMBERS
_Key = tuple[str, tuple[str, ...], tuple[Value, ...], tuple[type, ...]]


class DictionaryEntries(NamedTuple):
    """What all rows of one pattern refer to."""

    node: int
    name: int
    who: int | None
    target: int | None
    rest: int


class MatchedTemplate(NamedTuple):
    """A row of a known pattern, but for its number and the row before."""

    id: bytes
    entries: DictionaryEntries
    placed: Placed
    text: str  # the canonical one, as a %-format for the row's number and time


class _Layout(NamedTuple):
    """How the fields of rows with these keys are taken apart."""

    same: Callable[[Mapping[str, Value]], tuple[Value, ...]]
    own: tuple[str, ...]  # of IDS and NUMBERS, sorted


class RowTemplates:
    """The patterns of the rows that one node has written lately."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._seen: set[int] = set()  # hashes of what came once
        self._known: dict[_Key, tuple[DictionaryEntries, str, tuple[str, ...]]] = {}

    def clear(self) -> None:
        """Entries may not be there any more."""
        self._known.clear()

    def find(self, event: Event) -> MatchedTemplate | None:
        """The row of `event`; None when nothing like it was learnt, or it has something that is not plain."""
        id = ids.packed(event.id)
        if id is None or type(event.time) is not int:
            return None
        known = self._known.get(self._key(event))
        if known is None:
            return None
        entries, text, own = known
        placed = row_encoding.columns(event)
        if not _has_all(placed, own) or str in map(type, placed):
            return None  # a number that has no column, or an id that is none of ours
        fields = event.fields
        return MatchedTemplate(id, entries, placed, text % (*[fields[key] for key in own], event.id))

    def learn(self, event: Event, entries: DictionaryEntries, placed: Placed) -> None:
        """Rows like that of `event`, whose fields can be stored as they are (core.audit.event.bounded), refer to these.

        From the second one on: most rows of many people who come once each are never seen again. Not if one of IDS and
        NUMBERS has no column, and so stands in the rest that it refers to: that of others has none.
        """
        key = self._key(event)
        if key in self._known or not _has_all(placed, self._layouts[key[1]].own):
            return
        digest = hash(key)
        if digest not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(digest)
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        fields, own = event.fields, []
        parts = []
        for name in sorted(fields):
            if name in _OWN:
                own.append(name)
                parts.append(f'"{name}":"%s"' if name in row_encoding.IDS else f'"{name}":%d')
            else:
                parts.append(compact({name: fields[name]})[1:-1].replace("%", "%%%%"))
        said = compact({"name": event.name, "node": self._node, "schema": SCHEMA})[1:-1].replace("%", "%%%%")
        text = f'{{"fields":{{{",".join(parts)}}},"id":"%s",{said},"seq":%%d,"time":%%d}}'
        self._known[key] = entries, text, tuple(own)

    def _key(self, event: Event) -> _Key:
        keys = tuple(event.fields)
        layout = self._layouts.get(keys) or self._lay_out(keys)
        same = layout.same(event.fields)
        return event.name, keys, same, tuple(map(type, same))  # 1 equals True, and its text does not

    def _lay_out(self, keys: tuple[str, ...]) -> _Layout:
        if len(self._layouts) >= _MOST_LAYOUTS:
            self._layouts.clear()
        same = [key for key in keys if key not in _OWN]
        # of one key alone itemgetter gives no tuple, and of none it cannot be made
        take = itemgetter(*same) if len(same) > 1 else lambda fields: tuple(fields[key] for key in same)
        layout = self._layouts[keys] = _Layout(take, tuple(sorted(_OWN.intersection(keys))))
        return layout


def _has_all(placed: Placed, own: tuple[str, ...]) -> bool:
    """Whether all of the fields `own` have a value in their column."""
    return placed.count(None) == len(placed) - len(own)


_OWN = frozenset((*row_encoding.IDS, *row_encoding.NUMBERS))
