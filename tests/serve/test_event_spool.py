"""The spool of events that a worker could not deliver."""

from collections.abc import Callable
from pathlib import Path

from relay.core.audit.event import Event
from relay.serve import event_spool


def replay(run: Path) -> tuple[list[tuple[Event, Callable[[str], None] | None]], list[str]]:
    """What is recorded, and what is said."""
    recorded: list[tuple[Event, Callable[[str], None] | None]] = []
    said: list[str] = []
    event_spool.replay(run, lambda event, answer: recorded.append((event, answer)), said.append)
    return recorded, said


def test_a_spool_is_removed_when_its_last_event_is_durable(tmp_path: Path) -> None:
    """Until then a supervisor that dies leaves it to the next one; ids make each event count once."""
    path = tmp_path / "w1.rows"
    event_spool.write(path, [["n1", 1, "forward.closed", {"sent": 1}], ["n2", 2, "connection.closed", {}]])
    recorded, said = replay(tmp_path)
    assert [event.id for event, _ in recorded] == ["n1", "n2"]
    assert said == []
    last = recorded[-1][1]
    assert last is not None
    last("the disk is full")
    assert path.exists()
    last("")
    assert not path.exists()


def test_a_damaged_spool_is_named_and_kept(tmp_path: Path) -> None:
    """The others are replayed all the same."""
    (tmp_path / "w1.rows").write_bytes(b"{")
    event_spool.write(tmp_path / "w2.rows", [["n1", 1, "forward.closed", {}]])
    recorded, said = replay(tmp_path)
    assert len(recorded) == 1
    assert "w1.rows cannot be read" in said[0]
    assert (tmp_path / "w1.rows").exists()


def test_an_empty_spool_is_removed(tmp_path: Path) -> None:
    """Nothing is recorded for it."""
    event_spool.write(tmp_path / "w1.rows", [])
    assert replay(tmp_path) == ([], [])
    assert list(tmp_path.iterdir()) == []
