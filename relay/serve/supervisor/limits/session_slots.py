"""Exact counts of authenticated connections and of forwards, for each person, key and target.

Only the supervisor counts, so the limits hold over all workers.
"""

from collections import Counter
from dataclasses import dataclass

from relay.core.settings import Limits


@dataclass(frozen=True, slots=True)
class ForwardSlot:
    """The owners of one forward's slot."""

    worker: str
    connection: str
    person: str
    key: str
    target: str


class ForwardSlots:
    """The forwards that are open or being opened, and how many each person, key and target has."""

    def __init__(self) -> None:
        self.held: dict[str, ForwardSlot] = {}
        self._count: Counter[tuple[str, str]] = Counter()

    def take(self, forward: str, slot: ForwardSlot, limits: Limits | None) -> str:
        """Take a slot. Returns "", or the reached limit, beginning with `person`, `key` or `target` and its name.

        Without `limits` the slot is always taken.
        """
        if forward in self.held:
            return ""
        if limits is not None:
            for kind, name, most in (
                ("person", slot.person, limits.forwards_per_person),
                ("key", slot.key, limits.forwards_per_key),
                ("target", slot.target, limits.forwards_per_target),
            ):
                if self._count[kind, name] >= most:
                    return f"{kind} {name} has {most} forwards, which is the limit"
        self.held[forward] = slot
        self._count.update(_names(slot))
        return ""

    def free(self, forward: str) -> None:
        """Free the slot of a forward that has closed or was never opened."""
        slot = self.held.pop(forward, None)
        if slot is not None:
            for name in _names(slot):
                self._count[name] -= 1
                if not self._count[name]:
                    del self._count[name]

    def most(self, kind: str) -> tuple[str, int]:
        """The person, key or target with the most forwards, and their number."""
        return _most(Counter({name: count for (of, name), count in self._count.items() if of == kind}))

    def fullest_connection(self) -> tuple[str, int]:
        """The connection with the most forwards, and their number."""
        return _most(Counter(slot.connection for slot in self.held.values()))


class SessionCounts:
    """The authenticated connections, and how many each person and key has."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, str]] = {}
        self._count: Counter[tuple[str, str]] = Counter()

    def enter(self, connection: str, person: str, key: str, limits: Limits | None) -> str:
        """Count a connection. Returns "", or the limit that is reached. Without `limits` it is always counted."""
        if connection in self._held:
            return ""
        if limits is not None:
            for kind, name, most in (
                ("person", person, limits.connections_per_person),
                ("key", key, limits.connections_per_key),
            ):
                if self._count[kind, name] >= most:
                    return f"{kind} {name} has {most} connections, which is the limit"
        self._held[connection] = person, key
        self._count.update((("person", person), ("key", key)))
        return ""

    def leave(self, connection: str) -> None:
        """Forget a connection that has ended."""
        held = self._held.pop(connection, None)
        if held is not None:
            for name in (("person", held[0]), ("key", held[1])):
                self._count[name] -= 1
                if not self._count[name]:
                    del self._count[name]

    def most(self, kind: str) -> tuple[str, int]:
        """The person or key with the most connections, and their number."""
        return _most(Counter({name: count for (of, name), count in self._count.items() if of == kind}))

    def __contains__(self, connection: str) -> bool:
        return connection in self._held

    def __len__(self) -> int:
        return len(self._held)


def _names(slot: ForwardSlot) -> list[tuple[str, str]]:
    return [("person", slot.person), ("key", slot.key), ("target", slot.target)]


def _most(counter: Counter[str]) -> tuple[str, int]:
    return max(counter.items(), key=lambda item: item[1], default=("", 0))
