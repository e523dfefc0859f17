"""The verifier of the audit log: each known way to tamper with a log, and the finding it causes."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.anchor import Anchor
from relay.core.audit.log_verifier import Line, LogVerifier
from relay.core.audit.verification_result import MOST, VerificationResult
from relay.store.signing_key import proves
from tests.sealed_log import SealedLog, day, rechained, signer

DAY = day()
HOUR = 3600.0


def proof(lines: Iterable[Line], *, now: int | None = None, **known: Any) -> VerificationResult:
    """What is found in these rows."""
    walk = LogVerifier(proves, **known)
    walk.read(lines)
    return walk.end(now)


def told(found: VerificationResult) -> dict[str, list[tuple[int, str]]]:
    """The faults of each verdict."""
    verdicts = {
        "integrity": found.integrity,
        "completeness": found.completeness,
        "authenticity": found.authenticity,
    }
    return {name: [(one.seq, one.what) for one in each.faults] for name, each in verdicts.items() if each.faults}


def states(found: VerificationResult) -> tuple[str, str, str]:
    """The three words."""
    return found.integrity.state, found.completeness.state, found.authenticity.state


# ---- what is whole


def test_a_whole_log_is_whole() -> None:
    """With the first key, an anchor and the machine's keys at hand nothing is left to be asked."""
    found = proof(DAY.lines, keys=[DAY.first], anchors=[DAY.anchor(5), DAY.anchor()], live=DAY.live)
    assert states(found) == ("ok", "ok", "ok")
    assert (found.first, found.last, found.sealed, found.unsealed, found.anchored) == (1, 13, 13, 0, 13)
    assert [(line.seq, line.reason, line.epochs, line.given) for line in found.lineages] == [(1, "init", 4, True)]
    assert [note.what for note in found.completeness.notes] == ["the last row, with 1 open forwards"]
    assert found.as_json()["ok"] is True


def test_a_log_read_in_parts_is_the_same_log() -> None:
    """Archives first, then the database: as one."""
    walk = LogVerifier(proves, keys=[DAY.first])
    for line in DAY.lines:
        walk.read([line])
    assert walk.last == 13
    assert walk.end() == proof(DAY.lines, keys=[DAY.first])


def test_without_a_key_the_log_is_unproven() -> None:
    """The signatures follow from each other, and that is all that can be said: no fault, and no praise."""
    found = proof(DAY.lines)
    assert states(found) == ("ok", "ok", "unproven")
    assert "--key" in found.authenticity.as_json()["why"]
    assert found.good


def test_a_later_key_proves_what_was_before_it() -> None:
    """A key noted in the middle of a log proves it, and the result says from which row."""
    log, middle = SealedLog().key().seal(), ""
    middle = log.signer.public
    log.seal().seal()
    found = proof(log.lines, keys=[middle])
    assert states(found) == ("ok", "ok", "ok")
    assert [note.seq for note in found.authenticity.notes] == [3]


def test_rows_after_the_last_checkpoint_are_not_yet_sealed() -> None:
    """They are counted, and no fault."""
    log = day()
    log.add(log.relay.denied(log.relay.connect()), log.relay.denied(log.relay.connect()))
    found = proof(log.lines, keys=[log.first], live=log.live)
    assert (found.good, found.sealed, found.unsealed) == (True, 13, 2)


def test_a_log_without_rows_or_keys() -> None:
    """An empty log, an unsigned log and a key without checkpoints are reported as unproven."""
    assert states(proof([])) == ("ok", "ok", "unproven")
    old = SealedLog()
    old.add(old.relay.event("server.started", version="0.1.0"))
    assert proof(old.lines).authenticity.unproven.startswith("nothing is signed")
    assert told(proof(old.lines, keys=[DAY.first])) == {
        "authenticity": [(0, "nothing is signed: no row announces a key")]
    }
    new = SealedLog().key()
    assert proof(new.lines).authenticity.unproven == "there is no checkpoint yet"
    assert [seq for seq, _ in told(proof(new.lines, keys=[new.first]))["authenticity"]] == [1]


def test_a_log_that_was_sealed_later_in_its_life() -> None:
    """Rows before the first key are covered by later checkpoints, with a note."""
    log = SealedLog()
    log.add(log.relay.denied(log.relay.connect())).key().seal()
    found = proof(log.lines, keys=[log.first])
    assert found.good
    assert [note.seq for note in found.authenticity.notes] == [2]


# ---- integrity


def changed(at: int, old: str, new: str) -> list[Line]:
    """The day with one text changed."""
    lines = list(DAY.lines)
    assert old in lines[at - 1][6]
    lines[at - 1] = (*lines[at - 1][:6], lines[at - 1][6].replace(old, new))
    return lines


def test_a_changed_field_is_found() -> None:
    """The row is named."""
    assert told(proof(changed(5, "192.168.1.201", "192.168.1.202"))) == {
        "integrity": [(5, "not what was written, or not behind the row that was before it")]
    }


def test_swapped_rows_are_found() -> None:
    """Two rows of the same kind that changed places."""
    lines = list(DAY.lines)
    a, b = lines[5], lines[6]
    lines[5], lines[6] = (a[0], *b[1:]), (b[0], *a[1:])
    assert told(proof(lines))["integrity"][0][0] == 6


def test_an_inserted_row_is_found() -> None:
    """One put between two, with a hash that fits its place; and one that stands twice."""
    lines = [
        *DAY.lines[:5],
        *rechained(DAY.lines, 6, {6: DAY.lines[5][6].replace("alice", "carol")})[5:6],
        *DAY.lines[5:],
    ]
    assert told(proof(lines))["integrity"][0] == (6, "stands behind row 6")


def test_a_deleted_row_is_found() -> None:
    """In the middle, several, and the first ones."""
    found = told(proof([*DAY.lines[:5], *DAY.lines[6:]]))
    assert found["completeness"][0] == (6, "row 6 is missing")
    assert found["integrity"] == [(7, "cannot be proven, as the row before it is not here")]
    assert told(proof([*DAY.lines[:5], *DAY.lines[8:]]))["completeness"][0] == (6, "rows 6 to 8 are missing")
    assert told(proof(DAY.lines[3:]))["completeness"][0] == (1, "rows 1 to 3 are missing")


def test_rows_that_cannot_be_read_are_named_and_passed_over() -> None:
    """One row, a whole archive whose last hash is known elsewhere, and one that is not even the next."""
    walk = LogVerifier(proves, keys=[DAY.first])
    walk.read(DAY.lines[:5])
    walk.damaged(6, "row 6 is damaged")
    walk.read(DAY.lines[6:])
    assert [seq for seq, _ in told(walk.end())["integrity"]] == [6, 7]
    walk = LogVerifier(proves, keys=[DAY.first])
    walk.damaged(1, "an archive that was changed", 7, DAY.lines[6][5])
    walk.read(DAY.lines[7:])
    found = walk.end()
    assert told(found) == {
        "integrity": [(1, "an archive that was changed")],
        "authenticity": [(10, f"a line of keys begins that has none of those you gave: {found.lineages[0].key}")],
    }
    walk = LogVerifier(proves)
    walk.damaged(3, "row 3 is damaged")
    walk.stop("and no further")
    walk.beside("nor what is beside it")
    assert [seq for seq, _ in told(walk.end())["integrity"]] == [3, 3, 0]


def test_of_many_faults_the_first_are_told_and_the_rest_counted() -> None:
    """A log of which nothing holds is no endless list."""
    lines = [(*line[:5], "0" * 64, line[6]) for line in DAY.lines * 4]
    found = proof(lines).integrity
    assert len(found.faults) == MOST
    assert found.as_json()["more_faults"] == found.more > 0
    log = day()
    for _ in range(MOST + 5):
        log.add(log.relay.event("server.started", version="0.1.0"))
    assert len(proof(log.lines).completeness.notes) == MOST


# ---- authenticity


def test_a_log_written_anew_and_signed_with_todays_key_is_found() -> None:
    """Who has the key of today can sign no checkpoint of yesterday: neither with it, nor with a key made up."""
    for made_up in (DAY.signer, signer(2)):
        forged = SealedLog()
        forged.relay.now, forged.first = DAY.relay.now, DAY.first
        forged.lines, forged.sealed, forged.open = (
            rechained(DAY.lines[:7], 6, {6: DAY.lines[5][6].replace("22", "23")}),
            5,
            {"a", "b"},
        )
        forged.seal(by=replace(made_up, epoch=2)).seal()
        faults = told(proof(forged.lines, keys=[DAY.first]))["authenticity"]
        assert faults[0] == (8, "a checkpoint of epoch 2 by a key that nothing before it announces")


def test_a_checkpoint_in_the_true_keys_name_is_found() -> None:
    """A row changed, all hashes made to fit, the checkpoints as they were: their signatures are of something else."""
    lines = rechained(DAY.lines, 5, {5: DAY.lines[4][6].replace("192.168.1.201", "192.168.1.202")})
    assert told(proof(lines)) == {
        "authenticity": [(seq, "a checkpoint whose signature is not its key's") for seq in (7, 10, 13)]
    }


def test_another_log_altogether_is_found_by_the_key() -> None:
    """Everything made up from the first row on fits together, and is not of the key that was kept."""
    found = proof(day().lines, keys=[DAY.first])
    assert [seq for seq, _ in told(found)["authenticity"]] == [1]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"signature": None}, "a checkpoint without a signature"),
        ({"signature": "x"}, "a checkpoint that is none"),
        ({"signature": 5}, "a checkpoint that is none"),
        ({"epoch": None}, "a checkpoint that is none"),
        ({"open": -1}, "a checkpoint that is none"),
        ({"next": "short"}, "a checkpoint that is none"),
    ],
)
def test_checkpoints_without_signature_or_sense_are_found(changes: dict[str, Any], what: str) -> None:
    """A row changed by root, with all later hashes recomputed, is detected."""
    import json

    told_ = json.loads(DAY.lines[6][6])
    told_["fields"].update(changes)
    told_["fields"] = {key: value for key, value in told_["fields"].items() if value is not None}
    text = json.dumps(told_, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert told(proof(rechained(DAY.lines, 7, {7: text})))["authenticity"][0] == (7, what)


def test_a_checkpoint_that_is_no_json_is_found() -> None:
    """Neither does it stop the walk."""
    for text in ("[" * 5000, "[]", "{", '{"fields":5}', '"x"'):
        assert told(proof(rechained(DAY.lines, 7, {7: text})))["authenticity"][0][0] == 7


def test_a_new_line_of_keys_is_said_and_must_be_given_too() -> None:
    """A key that was lost: what comes behind it is proven by the new key only."""
    log = day().key("lost", detail="the key of epoch 5 is not here").seal()
    new = log.lines[-1][6].split('"key":"')[1][:44]
    assert states(proof(log.lines)) == ("ok", "ok", "unproven")
    assert [note.seq for note in proof(log.lines).authenticity.notes] == [14]
    assert proof(log.lines, keys=[log.first, new]).good
    assert [seq for seq, _ in told(proof(log.lines, keys=[log.first]))["authenticity"]] == [14]


def test_a_second_first_key_is_a_fault() -> None:
    """Only a log without one begins with one; and a key must be one."""
    log = day()
    log.signer = signer(9)
    assert told(proof(log.key().lines))["authenticity"] == [(14, "announces a first key, but there had been one")]
    log = SealedLog().key(epoch="one")
    assert told(proof(log.lines))["authenticity"] == [(1, "announces a key that is none")]


def test_a_checkpoint_before_any_key_is_a_fault() -> None:
    """Its key could be anybody's."""
    log = SealedLog()
    log.add(log.relay.denied(log.relay.connect())).seal()
    assert told(proof(log.lines))["authenticity"] == [(2, "a checkpoint, and no row before it announces a key")]


# ---- completeness


def test_a_deleted_tail_is_found_by_an_anchor_or_on_the_machine() -> None:
    """The rows that are left hold together; what knows better is outside of them."""
    cut = DAY.lines[:9]
    assert proof(cut, keys=[DAY.first]).good
    assert told(proof(cut, anchors=[DAY.anchor()])) == {
        "completeness": [(9, "the last row, but an anchor of yours saw row 13: what was behind this one is missing")]
    }
    assert told(proof(cut, live=DAY.live)) == {
        "completeness": [(9, "the last row; 2 or more checkpoints that this machine signed are missing")]
    }
    assert told(proof(cut, live={})) == {
        "completeness": [(9, "the last row; the key that is to sign next is not on this machine")]
    }
    # a key of their own with a low number is none that this log knows
    assert not proof(cut, live={signer(1).public: 1}).good
    assert told(proof([], live=DAY.live))["completeness"][0][1].startswith("the last row; this machine has a key")


def test_a_checkpoint_between_looking_at_the_keys_and_at_the_rows_is_no_fault() -> None:
    """The relay went on meanwhile: the log is ahead of what lay on the machine."""
    earlier = DAY.lines[9][6].split('"key":"')[1][:44]  # it signed row 10
    assert proof(DAY.lines, live={earlier: 3}).good
    assert proof([], live={}).good


def test_an_old_database_put_back_is_found() -> None:
    """It goes on with a new key, as the relay cannot have the old one: the row is named, the anchor is not met."""
    log = SealedLog()
    log.lines, log.signer, log.open, log.sealed = DAY.lines[:9], signer(9), {"b"}, 7
    log.relay.now = DAY.relay.now
    log.key("lost").seal()
    found = told(proof(log.lines, keys=[DAY.first], anchors=[DAY.anchor(12)]))
    assert [seq for seq, _ in found["authenticity"]] == [10]
    assert found["completeness"] == [
        (11, "the last row, but an anchor of yours saw row 12: what was behind this one is missing")
    ]
    found = told(proof(log.lines, anchors=[DAY.anchor(11)]))
    assert found == {"integrity": [(11, "not the row that an anchor of yours saw: the log was written anew")]}


def restored() -> SealedLog:
    """Row 10 on of the day are gone: a backup that had nine was brought back, and the relay started."""
    log = SealedLog()
    log.lines, log.open, log.sealed, log.first = DAY.lines[:9], {"b"}, 7, DAY.first
    log.relay.now = DAY.relay.now + 7 * 86_400_000_000
    log.signer = signer(7)
    log.add(log.relay.event("backup.restored", file="relay.tar.gz")).key("restored")
    return log.add(log.relay.event("server.started", version="0.1.0")).seal()


def test_a_restored_backup_reads_as_restored() -> None:
    """No fault, though a week is silent and the keys are new; the new key is given beside the first."""
    log = restored()
    new = log.lines[-1][6].split('"key":"')[1][:44]
    found = proof(log.lines, keys=[log.first, new], live=log.live)
    assert (found.good, *states(found)) == (True, "ok", "restored", "restored")


def test_an_anchor_says_which_rows_went_with_a_restored_backup() -> None:
    """Discarded rows are reported as discarded, not as missing."""
    for seq, rows in ((13, "rows 10 to 13"), (10, "row 10")):
        found = told(proof(restored().lines, anchors=[DAY.anchor(seq)]))
        what = f"{rows} of before, which an anchor of yours saw, went when the backup was restored"
        assert found == {"completeness": [(10, what)]}
    assert proof(restored().lines, anchors=[DAY.anchor(9)]).good
    later = replace(restored().anchor(12), hash="0" * 40)  # of after the restore: nothing explains that it is not met
    assert [seq for seq, _ in told(proof(restored().lines, anchors=[later]))["integrity"]] == [12]


def test_the_clock_set_back_is_found() -> None:
    """A checkpoint that is earlier than the one before it."""
    log = day().seal(after=-120.0)
    assert told(proof(log.lines)) == {"completeness": [(14, "120 s earlier than row 13: the clock was set back")]}
    assert proof(day().seal(after=-0.5).lines).good
    for back, seen in ((60, False), (600, True)):
        log = day()
        log.relay.now -= back * 1_000_000
        log.add(log.relay.event("server.stopped"))
        assert bool(told(proof(log.lines))) == seen, "a stop may have waited for the disk behind a checkpoint"


def test_silence_is_found() -> None:
    """A relay that serves and does not seal as it promised: in the middle, before a stop, and now."""
    log = day().seal(after=2 * HOUR)
    what = "7200 s without a checkpoint, and one was promised every 900 s"
    assert told(proof(log.lines)) == {"completeness": [(14, what)]}
    log = day()
    log.relay.now += 7199_000_000
    log.add(log.relay.event("server.stopped"))
    assert told(proof(log.lines)) == {"completeness": [(14, what)]}
    now = DAY.relay.now + 7200_000_000
    assert told(proof(DAY.lines, now=now)) == {"completeness": [(13, what)]}
    assert proof(DAY.lines, now=DAY.relay.now + 900_000_000).good


def test_a_checkpoint_that_says_why_it_is_late_is_no_fault() -> None:
    """A full disk is a note and no fault."""
    log = day().seal(after=2 * HOUR, detail="late: the disk is full")
    found = proof(log.lines)
    assert found.good
    assert "the disk is full" in found.completeness.notes[0].what


def test_a_relay_that_is_stopped_or_dead_promises_nothing() -> None:
    """A week between stop and start, and after a crash, which is noted."""
    for how in ("stopped", "crashed"):
        log = day()
        if how == "stopped":
            log.add(log.relay.event("server.stopped")).seal()
        log.relay.now += 7 * 86_400_000_000
        log.add(log.relay.event("server.started", version="0.1.0")).seal(after=60.0)
        found = proof(log.lines)
        assert told(found) == {}
        assert ("a crash" in str(found.completeness.notes)) == (how == "crashed")


def test_forwards_without_checkpoints_are_found() -> None:
    """Checkpoints left out, with a key and without any: only a relay that serves opens forwards."""
    log = day()
    log.relay.now += 7199_000_000
    log.add(log.relay.opened(log.relay.connect()))
    assert told(proof(log.lines))["completeness"][0][0] == 14
    log = SealedLog().key()
    log.add(log.relay.event("server.started", version="0.1.0"))
    log.relay.now += 7199_000_000
    log.add(log.relay.opened(log.relay.connect()), log.relay.event("server.started", version="0.1.0"))
    assert told(proof(log.lines))["completeness"][0][0] == 3


def test_counts_that_do_not_fit_are_found() -> None:
    """Rows and open forwards that a checkpoint counts must be in the log."""
    assert told(proof(day().seal(count=5).lines)) == {"completeness": [(14, "speaks for 5 rows, and there are 0")]}
    assert told(proof(day().seal(open=3).lines)) == {"completeness": [(14, "counts 3 open forwards, and there are 1")]}


def test_openings_and_closings_come_in_pairs() -> None:
    """A closing without an opening, an opening of what is open."""
    log = day()
    stray = log.relay.opened(log.relay.connect())
    found = proof(log.add(log.relay.closed(stray)).lines)
    forward = stray.fields["forward"]
    assert told(found) == {"completeness": [(14, f"closes the forward {forward}, and no row opened it")]}
    log = day()
    found = proof(log.add(stray, replace(stray, id=log.relay.id())).lines)
    assert told(found) == {"completeness": [(15, f"opens the forward {forward}, which was open already")]}


def test_a_row_that_was_put_in_afterwards_is_noted() -> None:
    """Late rows after a full disk are one note and no fault."""
    log = day()
    old = replace(log.relay.denied(log.relay.connect()), time=log.relay.now - 49 * 3_600_000_000)
    found = proof(log.add(old, replace(old, id=log.relay.id())).lines)
    assert told(found) == {}
    first, _ = found.completeness.notes  # the other one is of a forward that is open
    assert (first.seq, first.what[:26]) == (14, "49 h older than row 13 bef")


# ---- ranges that were archived and given up


def given_up(first: int, last: int) -> SealedLog:
    """The day, and a row that says that these rows were discarded."""
    log = day()
    return log.add(log.relay.event("audit.discarded", first=first, last=last))


def test_rows_that_were_archived_and_discarded_are_not_missing() -> None:
    """A later row says so, and the manifest knows the hash that the next row follows. A later key proves the rest."""
    log = given_up(1, 4)
    log.seal()
    known = {4: log.lines[3][5]}
    key = log.lines[6][6].split('"key":"')[1][:44]
    found = proof(log.lines[4:], before=known, keys=[key], anchors=[log.anchor(3), log.anchor(4)])
    assert (found.good, *states(found)) == (True, "ok", "ok", "ok")
    assert (found.first, found.anchored) == (5, 4)
    assert [(note.seq, note.what[:35]) for note in found.completeness.notes] == [
        (1, "rows 1 to 4 are not here: archived,"),
        (3, "an anchor of yours is of a row that"),
        (15, "the last row, with 1 open forwards"),
    ]
    assert [line.reason for line in found.lineages] == [""]


def test_what_the_manifest_says_of_rows_that_are_gone_is_compared() -> None:
    """With the anchor of that very row, and with the row behind it."""
    log = given_up(1, 4)
    other = {4: "0" * 64}
    assert [seq for seq, _ in told(proof(log.lines[4:], before=other))["integrity"]] == [5]
    assert (4, "not the row that an anchor of yours saw: the log was written anew") in told(
        proof(log.lines[4:], before=other, anchors=[log.anchor(4)])
    )["integrity"]


def test_a_range_that_only_half_was_given_up_is_missing() -> None:
    """And a row that says nonsense gives nothing up."""
    for first, last in ((1, 3), (2, 4), (True, None)):
        log = given_up(first, last)  # type: ignore[arg-type] # nonsense on purpose
        assert (1, "rows 1 to 4 are missing") in told(proof(log.lines[4:]))["completeness"]
    log = given_up(1, 2)
    log.add(log.relay.event("audit.discarded", first=3, last=4))
    assert "completeness" not in told(proof(log.lines[4:], before={4: log.lines[3][5]}))


@pytest.mark.parametrize(("first", "last"), [(5, 5), (6, 6), (6, 9), (1, 5), (3, 4)])
def test_a_row_that_was_cut_out_is_not_excused_as_discarded(first: int, last: int) -> None:
    """Archives begin behind a checkpoint and end with one: a single row that is awkward is in none by itself."""
    log = given_up(first, last).seal()
    lines = [*log.lines[: first - 1], *log.lines[last:]]
    found = told(proof(lines, before={last: log.lines[last - 1][5]}, keys=[log.first] if first > 1 else []))
    assert "no archive begins or ends there" in found["completeness"][0][1]
    assert found["completeness"][0][0] == first


def test_forwards_that_were_opened_in_rows_that_are_gone_may_close() -> None:
    """As many as the first checkpoint counts, and no more."""
    log = given_up(1, 7)
    log.seal()
    known = {7: log.lines[6][5]}  # rows 5 and 6 opened what rows 8 and 12 close
    assert told(proof(log.lines[7:], before=known)) == {}
    stray = log.relay.opened(log.relay.connect())
    log.add(log.relay.closed(stray))
    assert [seq for seq, _ in told(proof(log.lines[7:], before=known))["completeness"]] == [16]
    # between two checkpoints, of which the first one counts an opening that is not here
    log = given_up(1, 10)
    relay, closing = log.relay, log.relay.closed(log.relay.opened(log.relay.connect()))
    log.add(closing).seal()
    assert [seq for seq, _ in told(proof(log.lines[10:], before={10: log.lines[9][5]}))["completeness"]] == [15]
    log = given_up(1, 7)
    log.seal()
    log.lines, log.sealed, log.open = log.lines[:10], 10, {"one"}
    log.add(*(relay.closed(relay.opened(relay.connect())) for _ in range(3))).seal(open=1)
    # row 10 counts one open forward that row 6 opened; three closings are two too many; rows 1 to 7 are gone
    assert [seq for seq, _ in told(proof(log.lines[7:], before=known))["completeness"]] == [1, 12, 13, 14]
    log = given_up(1, 7)
    log.add(relay.closed(relay.opened(relay.connect())))
    assert [seq for seq, _ in told(proof(log.lines[7:], before=known))["completeness"]] == [15]


def test_a_line_of_keys_that_began_in_rows_that_are_gone() -> None:
    """Rows in the middle are gone, and with them the row that announced another key."""
    log = day().key("lost").seal().seal()
    log.add(log.relay.event("audit.discarded", first=5, last=15))
    found = proof([*log.lines[:4], *log.lines[15:]], before={15: log.lines[14][5]})
    assert [(line.seq, line.reason) for line in found.lineages] == [(1, "init"), (16, "")]
    assert told(found) == {}


# ---- anchors


def test_an_anchor_of_another_log_is_said() -> None:
    """It is not taken for tampering with this one."""
    other = replace(DAY.anchor(5), node="other")
    assert told(proof(DAY.lines, anchors=[other])) == {
        "integrity": [(5, "an anchor of yours is of the log of other, and this is that of relay")]
    }
    text = DAY.lines[4][6].replace('"node":"relay"', '"node":5')
    assert proof(rechained(DAY.lines, 5, {5: text}), anchors=[other]).integrity.faults[0].seq == 5
    assert proof(rechained(DAY.lines, 5, {5: "{"}), anchors=[other]).integrity.faults[0].seq == 5


def test_a_log_written_anew_is_found_by_an_anchor() -> None:
    """Everything fits, but for what was kept elsewhere."""
    lines = rechained(DAY.lines, 4, {})
    assert lines == DAY.lines
    lines = rechained(DAY.lines, 3, {3: DAY.lines[2][6].replace("alice", "carol")})
    assert told(proof(lines, anchors=[DAY.anchor(3)]))["integrity"] == [
        (3, "not the row that an anchor of yours saw: the log was written anew")
    ]


# ---- whatever is done


Deed = Callable[[list[Line]], list[Line]]


@st.composite
def deeds(draw: st.DrawFn) -> tuple[str, list[Line]]:
    """A log, a manipulation of it by root, and the log that the verifier then reads."""
    lines = list(DAY.lines)
    kind = draw(st.sampled_from(["change", "delete", "cut", "behead", "swap", "insert", "rewrite"]))
    at = draw(st.integers(0, len(lines) - 1))
    if kind in ("change", "rewrite"):
        text = lines[at][6]
        place = draw(st.integers(0, len(text) - 1))
        letter = draw(st.characters(codec="utf-8").filter(lambda one: one != text[place]))
        text = text[:place] + letter + text[place + 1 :]
        if kind == "rewrite":
            return kind, rechained(lines, at + 1, {at + 1: text})
        lines[at] = (*lines[at][:6], text)
    elif kind == "delete":
        del lines[at]
    elif kind == "cut":
        del lines[at:]
    elif kind == "behead":
        del lines[: at + 1]
    elif kind == "swap":
        other = draw(st.integers(0, len(lines) - 1).filter(lambda one: one != at))
        lines[at], lines[other] = lines[other], lines[at]
        if draw(st.booleans()):  # with the numbers that their places ask for
            lines[at], lines[other] = (at + 1, *lines[at][1:]), (other + 1, *lines[other][1:])
    else:
        lines.insert(at, draw(st.sampled_from(DAY.lines)))
    return kind, lines


@given(deeds())
def test_any_single_deed_is_found(deed: tuple[str, list[Line]]) -> None:
    """One letter, one row, one cut, one swap, with and without all hashes made to fit: there is a fault."""
    _, lines = deed
    head: Anchor = DAY.anchor()
    assert not proof(lines, keys=[DAY.first], anchors=[head], live=DAY.live).good


@given(
    st.lists(
        st.tuples(
            st.integers(-1, 20),
            st.integers(0, 2**62),
            st.sampled_from([line[2] for line in DAY.lines]),
            st.text(),
            st.text(),
            st.text(),
            st.text(),
        )
    )
)
def test_any_rows_are_judged(lines: list[Line]) -> None:
    """Whatever stands in a file: it is judged, and nothing is raised."""
    proof(lines, keys=[DAY.first], anchors=[DAY.anchor()], live=DAY.live, now=0).as_json()
