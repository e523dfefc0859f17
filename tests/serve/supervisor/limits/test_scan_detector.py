"""Scan detection: many denied targets of one key within a minute, and the freeze of the key."""

import pytest

from relay.core.audit.event import Event
from relay.core.settings import Limits
from relay.serve.supervisor.limits.scan_detector import ScanDetector
from tests.serve.kept import Kept


class World:
    """A scan detector with a clock that the test sets."""

    def __init__(self, **limits: float) -> None:
        self.now = 1_795_000_000.0
        self.record = Kept()
        self.told: list[dict[str, int]] = []
        self.limits = Limits(**{"scan_targets": 3, **limits})  # type: ignore[arg-type]  # numbers, as their fields want
        self.scans = ScanDetector(self.record, lambda: self.limits, self.tell, lambda: self.now)

    def tell(self) -> None:
        """Keep the message to workers."""
        self.told.append(self.scans.message()["keys"])

    def deny(self, *targets: str, key: str = "SHA256:a", person: str = "alice", reason: str = "no-rule") -> None:
        """Rows of denied forwards."""
        for target in targets:
            fields = {
                "connection": "0k3v9x2m4qz",
                "person": person,
                "fingerprint": key,
                "client": "192.0.2.1",
                "asked": target,
                "reason": reason,
            }
            self.scans.denied(Event("0k3v9x2m4q1", 1, "forward.denied", fields))


async def test_the_third_target_of_a_minute_is_a_scan() -> None:
    """Different targets count, the same target again does not; one row names them."""
    world = World()
    world.deny("a:22", "b:22", "a:22", "b:22")
    assert world.record.names() == []
    world.deny("c:22")
    (event,) = world.record.events
    assert event.name == "scan.seen"
    assert event.fields["count"] == 3
    assert event.fields["detail"] == "a:22, b:22, c:22"
    assert world.scans.shown() == []
    assert world.told == []


async def test_a_minute_is_a_minute() -> None:
    """Three targets within 61 seconds are no scan, and each key is counted alone."""
    world = World()
    world.deny("a:22", "b:22")
    world.now += 61
    world.deny("c:22", "d:22")
    world.deny("e:22", key="SHA256:b", person="bob")
    assert world.record.names() == []
    world.deny("e:22")
    assert world.record.names() == ["scan.seen"]


@pytest.mark.parametrize("reason", ["key-expired", "ambiguous-target", "no-policy", "key-frozen"])
async def test_denials_that_do_not_depend_on_the_target_are_no_scan(reason: str) -> None:
    """Denials of an expired key, and repeated denials of one target, are no scan."""
    world = World()
    world.deny(*(f"{number}:22" for number in range(50)), reason=reason)
    assert world.record.names() == []


async def test_one_row_in_ten_minutes() -> None:
    """A key that continues to scan gets a second row only after ten minutes; each scan is counted."""
    world = World()
    for turn in range(20):
        world.deny(*(f"{turn}.{number}:22" for number in range(50)))
    assert world.record.names() == ["scan.seen"]
    world.now += 601
    world.deny("a:1", "a:2", "a:3")
    assert world.record.names() == ["scan.seen"] * 2
    assert world.scans.scans == 2


async def test_a_freeze_lapses_by_itself() -> None:
    """With scan_freeze the key is frozen at once, workers are told, and the freeze ends by itself."""
    world = World(scan_freeze=900.0)
    world.deny("a:22", "b:22", "c:22")
    assert world.record.names() == ["scan.seen", "key.frozen"]
    assert world.told == [{"SHA256:a": 1_795_000_900}]
    (shown,) = world.scans.shown()
    assert (shown["person"], shown["until"]) == ("alice", 1_795_000_900)
    world.now += 899
    world.scans.lapse()
    assert world.told == [{"SHA256:a": 1_795_000_900}]
    world.now += 1
    world.scans.lapse()
    assert world.record.names()[2:] == ["key.thawed"]
    assert world.told[1:] == [{}]


async def test_a_freeze_is_lifted_by_person_or_key() -> None:
    """A freeze is lifted by fingerprint, by person, or for all keys; other freezes stay."""
    world = World(scan_freeze=900.0)
    for person in ("alice", "bob", "carol"):
        world.deny("a:22", "b:22", "c:22", key=f"SHA256:{person}", person=person)
    assert world.scans.lift("nobody", {}) == []
    assert world.scans.lift("alice", {"by_uid": 0}) == ["SHA256:alice"]
    assert world.scans.lift("SHA256:bob", {}) == ["SHA256:bob"]
    assert world.scans.lift("", {}) == ["SHA256:carol"]
    assert world.record.events[-3].fields == {
        "person": "alice", "fingerprint": "SHA256:alice", "reason": "lifted", "by_uid": 0
    }  # fmt: skip


async def test_old_denials_are_forgotten() -> None:
    """A key without recent denials takes no memory."""
    world = World()
    world.deny("a:22")
    world.now += 61
    world.scans.lapse()
    assert world.scans._denials == {}


async def test_a_successor_goes_on_with_it() -> None:
    """A frozen key stays frozen under the next supervisor."""
    world, successor = World(scan_freeze=900.0), World()
    world.deny("a:22", "b:22", "c:22")
    successor.scans.remember(world.scans.shown())
    assert successor.scans.message() == world.scans.message()
