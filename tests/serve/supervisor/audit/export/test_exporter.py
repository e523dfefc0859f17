"""Every audit row as a line of JSON somewhere else: once at least, in order, and nobody waits for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.core.audit.hash_chain import digest
from relay.core.audit.row_json import flat
from relay.serve.control_client import call
from relay.serve.supervisor.audit.export import cursor
from relay.serve.supervisor.audit.export.exporter import Exporter, outlet
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON
from tests.audit_rows import Relay as Rows
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key
from tests.serve.supervisor.monitoring.test_metrics import Numbers


def lines(*files: Path) -> list[dict]:
    """What these files say; a torn line says nothing."""
    found = []
    for file in files:
        for line in file.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


@contextmanager
def exporting(state: Path, where: Path) -> Iterator[Exporter]:
    """An export of the database in `state` to a file, as its process makes it."""
    with AuditReader(state / FILE) as rows:
        yield Exporter(state, rows, outlet(str(where), 1 << 20, 3, state), lambda note: None)


def drain(state: Path, where: Path) -> None:
    """A whole life of an export: it sends all there is."""
    with exporting(state, where) as export:
        while export.step():
            pass
        export.save(time.monotonic())


def test_every_row_is_a_line_and_a_next_process_goes_on(tmp_path: Path) -> None:
    """What `audit tail --json` would say of each row, once; after a crash at most what was not yet noted again."""
    where, rows = tmp_path / "export" / "events.jsonl", Rows()
    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append(rows.day())
    drain(tmp_path, where)
    with AuditReader(tmp_path / FILE) as reader:
        assert lines(where) == [flat(row) for row in reader.after(0)]
    assert [line["prev"] for line in lines(where)[1:]] == [line["hash"] for line in lines(where)[:-1]]
    writer.append(rows.day())
    with exporting(tmp_path, where) as export:
        export.step()  # and is killed before the position is kept
    drain(tmp_path, where)
    assert [line["seq"] for line in lines(where)] == [*range(1, 23), *range(12, 23)]
    writer.close()


def test_another_database_in_its_place_is_sent_from_where_they_part(tmp_path: Path) -> None:
    """A restored backup: its own rows are all sent, those of before not from the beginning."""
    where, rows = tmp_path / "export" / "events.jsonl", Rows()
    writer = AuditWriter(tmp_path / FILE, "relay")
    for _ in range(40):
        writer.append(rows.day())
        if writer.head()[0] == 330:
            writer.backup(tmp_path / "backup")
        drain(tmp_path, where)
    writer.close()
    (tmp_path / FILE).unlink()
    (tmp_path / "backup").rename(tmp_path / FILE)
    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append([rows.event("backup.restored", file="b")])
    where.unlink()
    drain(tmp_path, where)
    sent = [line["seq"] for line in lines(where)]
    assert sent == list(range(sent[0], 332))
    assert 0 < sent[0] <= 331
    assert sent[0] > 1, "the trail was of no use"
    assert lines(where)[-1]["event"] == "backup.restored"
    writer.append(rows.day())
    drain(tmp_path, where)
    assert cursor.load(tmp_path).last.seq == 342
    writer.close()


@pytest.mark.parametrize("name", ["audit.jsonl", "applied/current.jsonl", "export/../x.jsonl"])
def test_the_state_directory_is_not_exported_into(tmp_path: Path, name: str) -> None:
    """Nothing of the relay's own is ever appended to; the one place for it is made."""
    (tmp_path / "applied").mkdir()
    with pytest.raises(OSError, match="only"):
        outlet(str(tmp_path / name), 1 << 20, 3, tmp_path)
    outlet(str(tmp_path / "export" / "events.jsonl"), 1 << 20, 3, tmp_path).write([b"{}\n"])
    assert (tmp_path / "export" / "events.jsonl").read_bytes() == b"{}\n"


def test_a_process_ends_with_its_supervisor_and_is_alone(tmp_path: Path) -> None:
    """One export writes at a time; at the end of its stdin it sends what is left and keeps its place."""
    where, rows = tmp_path / "export" / "events.jsonl", Rows()
    writer = AuditWriter(tmp_path / FILE, "relay")
    words = [
        sys.executable,
        "-P",
        "-m",
        "relay.serve.supervisor.audit.export.exporter",
        str(tmp_path),
        str(where),
        str(1 << 20),
        "3",
        "2",
    ]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as first,
        subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as second,
    ):
        writer.append(rows.day())
        wait_for(lambda: where.exists() and len(lines(where)) == 11, "nothing is sent")
        for process in (first, second):
            writer.append(rows.day())
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0
    writer.close()
    assert [line["seq"] for line in lines(where)] == list(range(1, 34))
    assert cursor.load(tmp_path).last.seq == 33


def jump(one: Relay, port: int) -> None:
    """One forward, from log-in to end."""
    with Client(one.port).login("alice", load_key(one.key)) as client:
        client.echo("remote", port)


@pytest.mark.slow
def test_an_export_that_is_stuck_killed_and_handed_over(tmp_path: Path) -> None:
    """Nobody waits for one that cannot write, and everybody is told; whatever ends, each row is in a file."""
    where = tmp_path / "missing" / "events.jsonl"
    elsewhere = f"workers: 1\nmetrics: {tmp_path / 'm.sock'}\naudit: {{export: stdout}}\n"
    with echo_server() as port, relay(tmp_path, settings=elsewhere) as one:
        wait_for(lambda: '"event": "server.started"' in one.log(), "stdout has no line")
        one.settings(elsewhere.replace("stdout", str(where)))
        one.ctl("reload")
        wait_for(lambda: call(one.state, {"do": "status"})["export"]["problem"], "nothing is said")
        jump(one, port)
        assert f"export to {where}: " in one.log()
        assert "No such file or directory" in one.ctl("doctor", status=None)
        wait_for(lambda: Numbers(one)("relay_export_failing") == 1, "the metric does not say it")
        where.parent.mkdir()
        wait_for(lambda: where.exists() and "forward.closed" in where.read_text(), "it does not heal")
        wait_for(lambda: "it goes on" in one.log(), "that is not said")
        (exporter,) = one._pids("relay.serve.supervisor.audit.export.exporter", one.state)
        os.kill(exporter, signal.SIGKILL)
        jump(one, port)
        wait_for(lambda: "ended with status -9" in one.log(), "its end is not said")
        one.take_over()
        jump(one, port)
        one.stop()
        wait_for(
            lambda: not one._pids("relay.serve.supervisor.audit.export.exporter", one.state), "it outlives its relay"
        )
        sent = {line["seq"]: line["id"] for line in (*lines(one.directory / "relay.log"), *lines(where))}
        assert [sent[seq] for seq in sorted(sent)] == [row["id"] for row in one.rows()]


def test_what_a_line_says_can_be_verified(tmp_path: Path) -> None:
    """The hash of a line is that of the row's canonical text, which its fields give back."""
    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append(Rows(NOON).day())
    writer.close()
    drain(tmp_path, tmp_path / "export" / "events.jsonl")
    for line in lines(tmp_path / "export" / "events.jsonl"):
        own = {key: line.pop(key) for key in ("seq", "node", "id", "time", "event", "schema", "prev", "hash")}
        micros = round(time.mktime(time.strptime(own["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone) * 1_000_000
        text = json.dumps(
            {
                "fields": line,
                "id": own["id"],
                "name": own["event"],
                "node": own["node"],
                "schema": own["schema"],
                "seq": own["seq"],
                "time": micros + int(own["time"][20:26]),
            },
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
        )
        assert digest(own["prev"], text) == own["hash"]
