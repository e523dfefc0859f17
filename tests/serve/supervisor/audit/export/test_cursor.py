"""How far the export has come."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from relay.serve.supervisor.audit.export.cursor import FILE, ExportCursor, ExportPosition, load, save


def test_a_position_is_kept_and_a_broken_one_is_the_beginning(tmp_path: Path) -> None:
    """It comes back as it was; none, or one that cannot be read, sends everything again."""
    assert load(tmp_path) == ExportCursor()
    kept = ExportCursor(ExportPosition(7, "a" * 64)).moved(ExportPosition(9, "b" * 64))
    save(tmp_path, kept)
    assert load(tmp_path) == kept
    for text in ("", "{", "[]", '{"places": []}', '{"places": [["x", 1]]}', '{"places": 3}'):
        (tmp_path / FILE).write_text(text)
        assert load(tmp_path) == ExportCursor()


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60), st.floats(0, 1))
def test_a_trail_is_short_and_leads_near_to_every_row(steps: list[int], share: float) -> None:
    """Whichever row an older database ends with, a place before it was kept, not much farther away than it must be."""
    position, seq, visited = ExportCursor(), 0, [0]
    for step in steps:
        seq += step
        visited.append(seq)
        position = position.moved(ExportPosition(seq, str(seq)))
    assert len(position.trail) < 64
    end = int(seq * share)
    nearest = max(place for place in visited if place <= end)
    found = next(place.seq for place in position.places() if place.seq <= end)
    assert seq - found <= 4 * (seq - nearest)
