"""`relayctl audit verify`, `anchor` and `rows`: on a real database, tampered with as somebody with root would do it."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.serve.supervisor.audit.checkpoint_signer import CheckpointTerms
from relay.serve.supervisor.audit.group_commit import GroupCommit
from relay.store.writer import FILE
from tests.audit_rows import Relay
from tests.sealed_log import SealedLog

Run = Callable[..., "Done"]
PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "verify-the-audit-log.md").read_text()


class Done:
    """As tests/cli/conftest.py has it."""

    returncode: object
    stdout: str
    stderr: str


async def _live(state: Path, days: int) -> None:
    """Write `days` days. Each day's rows are queued before the writer starts: one transaction, then one checkpoint."""
    relay = Relay(time.time_ns() // 1000 - 600_000_000 * days)
    for _ in range(days):
        writer = GroupCommit(
            state / FILE,
            "relay",
            lambda events: None,
            terms=lambda: CheckpointTerms(rows=5, after=60.0, policy="3f2a9c01b7de"),
        )
        durable: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        *rows, last = relay.day()[1:]
        for event in rows:
            writer.note(event)
        writer.note(last, durable.set_result)
        writer.start()
        await durable
        await writer.close()


@pytest.fixture
def log(tmp_path: Path, relayctl: Run) -> tuple[Path, str]:
    """A site whose relay has written and sealed some days: its directory, and the first public key."""
    made = relayctl("init", tmp_path / "site").stdout
    asyncio.run(_live(tmp_path / "site" / "state", 3))
    key = re.search(r"made audit key (\S{44})", made)
    assert key is not None
    return tmp_path / "site", key[1]


def tamper(site: Path, *statements: str) -> None:
    """Change the database behind the relay's back."""
    database = sqlite3.connect(site / "state" / FILE)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def verify(relayctl: Run, site: Path, *arguments: str) -> tuple[object, dict[str, list[int]]]:
    """Exit status, and the rows that are named for each verdict that is a fault."""
    done = relayctl("--site", site, "audit", "verify", *arguments, "--json")
    found = json.loads(done.stdout)
    names = ("integrity", "completeness", "authenticity")
    return done.returncode, {
        name: [fault["row"] for fault in found[name]["faults"]] for name in names if found[name]["faults"]
    }


def first_checkpoint(relayctl: Run, site: Path) -> dict[str, Any]:
    """The oldest signed row."""
    rows = [json.loads(line.split("\t")[1]) for line in relayctl("--site", site, "audit", "rows").stdout.splitlines()]
    return next(row for row in rows if row["name"] == "audit.sealed")


def test_a_whole_log_is_told_in_words(log: tuple[Path, str], relayctl: Run) -> None:
    """Three verdicts, the key, up to where it is sealed; a command's row while the relay is stopped is not yet."""
    site, key = log
    anchor = relayctl("--site", site, "audit", "anchor").stdout.strip()
    relayctl("--site", site, "backup", site.parent / "a.tar.gz")
    done = relayctl("--site", site, "audit", "verify", "--key", key, "--anchor", anchor)
    assert done.returncode == 0
    assert re.findall(r"^(\w+) +(\w+):", done.stdout, re.M) == [
        ("ok", "integrity"),
        ("ok", "completeness"),
        ("ok", "authenticity"),
    ]
    assert f"key       {key} from row 1 (init): " in done.stdout
    assert "not yet sealed: 1 row" in done.stdout
    assert re.search(r"^anchored  up to row \d+$", done.stdout, re.M)
    unproven = relayctl("--site", site, "audit", "verify")
    assert (unproven.returncode, "unproven  authenticity: each signature" in unproven.stdout) == (0, True)


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["UPDATE events SET sent = sent + 1 WHERE seq = 10"], {"integrity": [10]}),
        (["UPDATE who SET text = replace(text, 'alice', 'carol')"], {"integrity": [4, 5, 8, 9]}),
        (["UPDATE events SET time = time - 1000000 WHERE seq = 5"], {"integrity": [5]}),
        (["UPDATE events SET rest = '{' WHERE seq = 3"], {"integrity": [3, 4]}),
        (["DELETE FROM who WHERE text LIKE '%bob%'"], {"integrity": [3, 4]}),
        (["DELETE FROM events WHERE seq = 9"], {"completeness": [9], "integrity": [10]}),
    ],
    ids=["field", "dictionary", "time", "no-json", "no-entry", "deleted"],
)
def test_what_was_changed_in_the_database_is_named(
    log: tuple[Path, str], relayctl: Run, statements: list[str], named: dict[str, list[int]]
) -> None:
    """In a row, in a dictionary, a row that is gone or no row any more: exit status 1, the first bad row first."""
    site, key = log
    tamper(site, *statements)
    status, found = verify(relayctl, site, "--key", key)
    assert status == 1
    for verdict, rows in named.items():
        assert found[verdict][: len(rows)] == rows, found


def test_a_changed_signature_is_named_with_its_checkpoint(log: tuple[Path, str], relayctl: Run) -> None:
    """A checkpoint whose signature was changed breaks the chain and is not authentic."""
    site, key = log
    checkpoint = first_checkpoint(relayctl, site)["seq"]
    tamper(site, f"UPDATE events SET rest = replace(rest, 'signature', 'signaturf') WHERE seq = {checkpoint}")
    status, found = verify(relayctl, site, "--key", key)
    assert status == 1
    assert found["integrity"][0] == found["authenticity"][0] == checkpoint


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE who SET person = 'carol' WHERE person = 'alice'", "of who: its columns"),
        ("UPDATE target SET address = NULL", "of target: its columns"),
        ("DELETE FROM hours", "a search in time would pass over"),
        ("INSERT INTO hours VALUES (1 << 40, 1, 0)", "a search in time would pass over"),
        ("UPDATE hours SET first = 'x'", "a search in time would go astray"),
        ("UPDATE names SET id = 99 WHERE id = 1", "entries 1 and 2 of names"),
        ("UPDATE who SET text = replace(text, 'alice', '\\u0061lice')", "not written as it was"),
        ("UPDATE events SET rest = CAST(rest AS BLOB) WHERE typeof(rest) = 'text'", "not written as it was"),
        ("UPDATE events SET rest = (SELECT text FROM who WHERE id = who), who = NULL WHERE rest = 1", "in its place"),
        ("UPDATE events SET rest = json_insert('{}', '$.sent', sent), sent = NULL WHERE sent > 0", "in its column"),
        ("UPDATE events SET forward = id WHERE forward = 1", "is not kept so"),
        ("UPDATE events SET id = CAST(x'00' || id AS BLOB) WHERE seq = 2", "is not an id"),
        (
            "INSERT INTO events SELECT -9, x'00000000000001', time, node, name, schema, who, target, connection, NULL,"
            " NULL, NULL, NULL, NULL, rest, hash FROM events WHERE seq = 3",
            "a search would show row -9",
        ),
    ],
)
def test_rows_hidden_from_searches_are_found(log: tuple[Path, str], relayctl: Run, statement: str, what: str) -> None:
    """No hash covers the columns that searches use: they are compared with the texts."""
    site, key = log
    tamper(site, statement)
    done = relayctl("--site", site, "audit", "verify", "--key", key)
    assert (done.returncode, what in done.stdout) == (1, True), done.stdout


def test_a_copy_is_verified_without_the_machines_keys(log: tuple[Path, str], relayctl: Run) -> None:
    """Without --copy their absence is a fault; where they cannot be seen it is said that it is not known."""
    site, key = log
    shutil.rmtree(site / "state" / "audit_key")
    assert verify(relayctl, site, "--key", key)[0] == 1
    assert verify(relayctl, site, "--key", key, "--copy") == (0, {})
    (site / "state" / "audit_key").write_text("")
    done = relayctl("--site", site, "audit", "verify", "--key", key)
    assert (done.returncode, "it is not known whether" in done.stderr) == (0, True)


def test_swapped_and_inserted_rows_are_named(log: tuple[Path, str], relayctl: Run) -> None:
    """Two rows that changed places; and one put between, all later ones moved on by one."""
    site, key = log
    tamper(
        site,
        "UPDATE events SET seq = -1 WHERE seq = 8",
        "UPDATE events SET seq = 8 WHERE seq = 9",
        "UPDATE events SET seq = 9 WHERE seq = -1",
    )
    assert verify(relayctl, site, "--key", key)[1]["integrity"][0] == 8
    tamper(
        site,
        "UPDATE events SET seq = -seq - 1 WHERE seq > 5",
        "UPDATE events SET seq = -seq WHERE seq < 0",
        """INSERT INTO events SELECT 6, x'00000000000001', time, node, name, schema, who, target, connection, forward,
        client_port, sent, received, duration, rest, hash FROM events WHERE seq = 5""",
    )
    assert verify(relayctl, site, "--key", key)[1]["integrity"][0] == 6


def test_a_deleted_tail_is_seen_on_the_machine_and_by_an_anchor_elsewhere(
    log: tuple[Path, str], relayctl: Run, tmp_path: Path
) -> None:
    """The newest rows gone with their checkpoints; then the machine's keys, too: the anchor is what is left."""
    site, key = log
    (tmp_path / "anchors").write_text(relayctl("--site", site, "audit", "anchor").stdout)
    last = first_checkpoint(relayctl, site)["seq"] + 2
    tamper(site, f"DELETE FROM events WHERE seq > {last}")
    assert verify(relayctl, site, "--key", key)[1] == {"completeness": [last]}
    shutil.rmtree(site / "state" / "audit_key")
    assert verify(relayctl, site, "--key", key)[1] == {"completeness": [last]}
    assert verify(relayctl, site, "--anchor", str(tmp_path / "anchors"))[1] == {"completeness": [last, last]}


def test_the_name_of_a_key_is_no_key(log: tuple[Path, str], relayctl: Run) -> None:
    """Who removes the newest checkpoints can write the name of the key that was to sign next then, and not the key."""
    site, key = log
    sealed = first_checkpoint(relayctl, site)
    tamper(site, f"DELETE FROM events WHERE seq > {sealed['seq']}", "DELETE FROM open_forwards")
    held = site / "state" / "audit_key"
    for file in held.iterdir():
        file.unlink()
    following = sealed["fields"]["next"].translate(str.maketrans("+/", "-_", "="))
    (held / f"{sealed['fields']['epoch'] + 1}-{following}").write_bytes(os.urandom(32))
    status, found = verify(relayctl, site, "--key", key)
    assert (status, found) == (1, {"completeness": [sealed["seq"]]})


def test_an_old_database_put_back_is_seen_before_and_after_the_next_start(log: tuple[Path, str], relayctl: Run) -> None:
    """Before by the key that is ahead of it, after by a line of keys that nobody vouches for."""
    site, key = log
    old = (site / "state" / FILE).read_bytes()
    asyncio.run(_live(site / "state", 1))
    anchor = relayctl("--site", site, "audit", "anchor").stdout
    (site / "state" / FILE).write_bytes(old)
    assert list(verify(relayctl, site, "--key", key)[1]) == ["completeness"]
    asyncio.run(_live(site / "state", 2))
    assert verify(relayctl, site)[0] == 0, "what is in the log fits together again"
    assert list(verify(relayctl, site, "--key", key)[1]) == ["authenticity"]
    assert list(verify(relayctl, site, "--anchor", anchor)[1]) == ["integrity"]


def test_a_restored_backup_reads_as_restored(log: tuple[Path, str], relayctl: Run, tmp_path: Path) -> None:
    """With both keys there is no fault; the anchor of a later time tells what went; the old private key is gone."""
    site, key = log
    relayctl("--site", site, "backup", tmp_path / "a.tar.gz")
    asyncio.run(_live(site / "state", 1))
    anchor = relayctl("--site", site, "audit", "anchor").stdout
    before = set(os.listdir(site / "state" / "audit_key"))
    done = relayctl("--site", site, "restore", tmp_path / "a.tar.gz", "--yes")
    new = re.search(r"audit key (\S{44}) signs", done.stdout)
    assert new is not None
    assert not before & set(os.listdir(site / "state" / "audit_key"))
    asyncio.run(_live(site / "state", 1))
    (tmp_path / "keys").write_text(f"first {key}\nafter the restore {new[1]}\n")
    told = relayctl("--site", site, "audit", "verify", "--key", tmp_path / "keys")
    assert (told.returncode, re.findall(r"^(\w+) +\w+:", told.stdout, re.M)) == (0, ["ok", "restored", "restored"])
    assert list(verify(relayctl, site, "--key", key)[1]) == ["authenticity"]
    assert list(verify(relayctl, site, "--anchor", anchor)[1]) == ["completeness"]
    assert "went when the backup was restored" in relayctl("--site", site, "audit", "verify", "--anchor", anchor).stdout


def test_archives_are_read_as_one_log_with_the_database(tmp_path: Path, relayctl: Run) -> None:
    """Moved, changed there, gone: the rows are named; discarded with a row that says so they are not missing."""
    log = SealedLog().key()
    for _ in range(2):  # two days of service, in two archives
        later = log.signer.public
        log.add(log.relay.event("server.started", version="0.1.0"))
        opened = log.relay.opened(log.relay.connect())
        log.add(opened, log.relay.closed(opened)).seal()
        log.add(log.relay.event("server.stopped")).seal()
        log.relay.now += 86_400_000_000
    site = tmp_path / "site"
    (site / "state").mkdir(parents=True)
    (site / "relay.yaml").write_text("")
    site.chmod(0o750)
    log.store(site / "state")
    key, anchor = log.first, str(log.anchor())
    assert verify(relayctl, site, "--key", key, "--anchor", anchor) == (0, {})
    for before in ("2026-10-02", "now"):
        done = relayctl("--site", site, "audit", "archive", "--before", before)
        assert done.returncode == 0, done
    file, _ = sorted((site / "state" / "archive").glob("*.gz"))
    lines = relayctl("--site", site, "audit", "rows").stdout.splitlines()
    assert [json.loads(line.split("\t")[1])["seq"] for line in lines] == list(range(1, 16))
    assert verify(relayctl, site, "--key", key, "--anchor", anchor) == (0, {})
    archived = sqlite3.connect(site / "state" / FILE)  # a changed row beside the archive that has the true one
    archived.execute("INSERT INTO events SELECT 2, x'00000000000001', time, node, name, schema, who, target, NULL,"
                     " NULL, NULL, NULL, NULL, NULL, rest, hash FROM events LIMIT 1")  # fmt: skip
    archived.commit()
    assert "row 2 of the database" in relayctl("--site", site, "audit", "verify").stdout
    archived.execute("DELETE FROM events WHERE seq = 2")
    archived.commit()
    archived.close()
    whole = file.read_bytes()
    file.write_bytes(whole[:-30] + b"x" + whole[-29:])
    assert verify(relayctl, site, "--anchor", anchor)[1]["integrity"] == [1]
    file.unlink()
    assert verify(relayctl, site, "--anchor", anchor)[1]["integrity"] == [1]
    file.write_bytes(whole)
    manifest = file.with_name("manifest.jsonl")
    named = manifest.read_text()
    manifest.write_text("nonsense\n")
    assert "completeness" in verify(relayctl, site, "--anchor", anchor)[1]
    manifest.write_text(named)
    assert relayctl("--site", site, "audit", "archive", "--discard", "2026-10-02", "--yes").returncode == 0
    asyncio.run(_live(site / "state", 1))  # the relay goes on, with the key that an archived row had announced
    assert verify(relayctl, site, "--key", later, "--anchor", anchor) == (0, {})
    assert list(verify(relayctl, site, "--key", key)[1]) == ["authenticity"]  # what it signed is gone


def test_the_doctor_looks_whether_the_key_is_there_that_signs_next(log: tuple[Path, str], relayctl: Run) -> None:
    """It is, with what is not sealed; then it is gone; or it is one that knows of later rows."""
    site, _ = log

    def finding() -> tuple[str, str]:
        found = json.loads(relayctl("--site", site, "doctor", "--json").stdout)
        return next((one["state"], one["what"]) for one in found if one["name"] == "audit key")

    assert finding()[0] == "ok"
    assert finding()[1].endswith("; 0 rows have no checkpoint yet")
    tamper(site, "DELETE FROM events WHERE seq > 20")
    assert finding()[0] == "fault"
    shutil.rmtree(site / "state" / "audit_key")
    assert finding()[0] == "fault"
    (site / "state" / "audit_key").write_text("")
    assert finding() == ("warning", "the keys cannot be read")
    tamper(site, "DELETE FROM events")
    (site / "state" / "audit_key").unlink()
    assert finding() == ("warning", "nothing is signed yet")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--key", "SHA256:x"), "neither a public key nor a file with one"),
        (("--anchor", "relay-audit relay 5"), "is not an anchor"),
        (("--anchor", "/dev/null"), "is not an anchor"),
    ],
)
def test_what_is_given_wrong_is_said(
    log: tuple[Path, str], relayctl: Run, arguments: tuple[str, ...], what: str
) -> None:
    """Wrong usage, not a fault of the log."""
    done = relayctl("--site", log[0], "audit", "verify", *arguments)
    assert done.returncode == 2
    assert what in done.stderr


def test_a_stranger_verifies_it_with_standard_tools(log: tuple[Path, str], tmp_path: Path) -> None:
    """The block of shell commands in the documents, as it stands; and it finds a changed row."""
    (block,) = re.findall(r"<!-- run by tests/cli/audit/test_verify.py -->\n```sh\n(.*?)```", PAGE, re.S)
    site, key = log
    program = tmp_path / "bin" / "relayctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m relay --site "{site}" "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "KEY": key}

    def run() -> str:
        (tmp_path / "work").mkdir(exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", block], cwd=tmp_path / "work", env=environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    assert run() == "every key was announced\nSignature Verified Successfully\n"
    tamper(site, "UPDATE events SET sent = sent + 1 WHERE seq = 10")
    assert re.findall(r'^broken: .*"seq":(\d+)', run(), re.M) == ["10"]
    environment["KEY"] = "7kR/YyfunhIT5+ayW230+dwTD6jYXaX4kxXJqWJ9ikI="
    assert "every key was announced" not in run()


def test_a_million_rows_are_progress_on_a_terminal(log: tuple[Path, str], tmp_path: Path) -> None:
    """On a terminal there is a bar, which is gone at the end; in a pipe there is none."""
    import pty

    site, key = log
    command = [sys.executable, "-c", _BAR, "--site", str(site), "audit", "verify", "--key", key]
    ours, theirs = pty.openpty()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (done.returncode, "rows" in shown) == (0, True)
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


_BAR = "from relay.cli.audit import verify; from relay.cli import main; verify._STEP = 5; main()"
