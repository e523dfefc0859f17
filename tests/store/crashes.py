"""Kill the writer of the audit log again and again: `python -m tests.store.crashes [ROUNDS] [SEED]`.

Each round forks a process that appends, archives and deletes without pause, and kills it (SIGKILL) some instants later.
Then every row that was acknowledged must be there, once, in archives and database together, and the chain must hold.
Forking one that has imported everything makes a round as short as the life of its process.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from relay.core.audit.hash_chain import GENESIS, digest
from relay.store.archive import archive_job
from relay.store.archive.archive_reader import DIRECTORY, MANIFEST, ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON, Relay
from tests.store import archived

LIFE = 0.03  # seconds that a process lives at the most, after it has come so far
CHECK = 50  # rounds between two looks at every row; each round looks at the newest


@dataclass(slots=True)
class Tally:
    """What came of it."""

    rounds: int = 0
    rows: int = 0
    archives: int = 0
    amid: Counter[str] = field(default_factory=Counter)  # what the killed process was doing
    acknowledged: dict[int, str] = field(default_factory=dict)  # number -> hash


def live(state: Path, number: int, told: int) -> None:
    """Append, archive and delete for ever; each durable head is told."""
    archive_job.MOST_ROWS = (60, 60, 3000)[number % 3]
    relay = Relay(NOON + number * 1000 * archived.HOUR)
    writer = AuditWriter(state / FILE, "relay")

    def tell(what: str) -> None:
        seq, hash = writer.head()
        os.write(told, f"{what} {seq} {hash}\n".encode())

    writer.append([relay.closed(opened, "worker-lost") for opened in writer.open_forwards().values()])
    tell("append")
    while True:
        for _ in range(number % 2, 3):  # every second life begins with fewer rows, and so sees more of archiving
            events = archived.day(relay)
            writer.append([*events[:-1], relay.opened(relay.connect()), events[-1]])
            tell("append")
            relay.now += archived.HOUR
        writer.append([relay.closed(opened) for opened in writer.open_forwards().values()])
        relay.now += archived.HOUR
        tell("archive")
        for entry in archive_job.run(state, archived.EVER, lambda: relay.now + archived.LATER, relay.now):
            tell("settle")
            archive_job.settle(writer, entry, {}, 25)
            tell("archive")


def round(state: Path, number: int, chance: random.Random, tally: Tally) -> None:
    """One life and its end."""
    reading, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            live(state, number, telling)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(1)
    os.close(telling)
    said = b""
    with os.fdopen(reading, "rb", 0) as pipe:
        # nine of ten have opened the database, else they may die in that too; a third has begun to delete
        until = chance.choices((b"", b"append", b"settle"), (1, 6, 3))[0]
        while until not in said:
            said += pipe.read(1 << 16)
        time.sleep(chance.random() * LIFE)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == -signal.SIGKILL, f"round {number}: it ended by itself with {status}"
        while piece := pipe.read(1 << 16):
            said += piece
    heads = [line.split() for line in said.decode().split("\n")[:-1]]
    tally.acknowledged |= {int(seq): hash for _, seq, hash in heads}
    tally.amid[heads[-1][0] if heads else "open"] += 1
    tally.rounds += 1


def look(state: Path, tally: Tally, *, whole: bool) -> None:
    """Whether every acknowledged row is there, once."""
    archives = ArchiveReader(state)
    with AuditReader(state / FILE) as reader:
        base, _ = reader.base()
        last = archives.last()
        assert last >= base, f"rows {last + 1} to {base} are nowhere"
        assert reader.head() >= max(tally.acknowledged, default=0), "an acknowledged row is lost"
        if not whole:
            newest = reader.after(reader.head() - 1)
            assert not newest or newest[0].hash == tally.acknowledged.get(newest[0].seq, newest[0].hash)
            return
        prev, seq = GENESIS, 0
        ids: set[str] = set()
        forwards: Counter[tuple[str, str | None]] = Counter()
        for source in (archives.lines(), reader.lines(last)):
            for line in source:
                seq += 1
                assert (line.seq, line.hash) == (seq, digest(prev, line.text)), f"row {seq} does not follow"
                assert tally.acknowledged.get(seq, line.hash) == line.hash, f"row {seq} was another"
                assert line.id not in ids, f"row {seq} is there twice"
                ids.add(line.id)
                if line.forward and line.name.startswith("forward."):
                    forwards[line.name, line.forward] += 1
                prev = line.hash
        assert seq >= max(tally.acknowledged, default=0)
        assert set(forwards.values()) <= {1}, "a forward was opened or closed twice"
        tally.rows, tally.archives = seq, len(archives.entries())
    known = {entry.file for entry in archives.entries()} | {MANIFEST}
    strange = {path.name for path in archives.directory.iterdir()} - known
    assert len(strange) <= 2, strange  # what the last one was writing: read by nobody, removed by the next


def run(state: Path, rounds: int, seed: int) -> Tally:
    """So many rounds."""
    chance = random.Random(seed)
    tally = Tally()
    AuditWriter(state / FILE, "relay").close()
    for number in range(rounds):
        round(state, number, chance, tally)
        look(state, tally, whole=number % CHECK == CHECK - 1)
    AuditWriter(state / FILE, "relay").close()
    look(state, tally, whole=True)
    assert (state / DIRECTORY).is_dir()
    return tally


def main() -> None:
    """Run it, and say what came of it."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tally = run(Path(directory), rounds, seed)
    sys.stdout.write(
        f"{tally.rounds} kills in {time.monotonic() - began:.0f} s (seed {seed}): {tally.rows} rows,"
        f" {len(tally.acknowledged)} acknowledged groups, {tally.archives} archives; none lost, none twice;"
        f" killed amid {dict(tally.amid)}\n"
    )


if __name__ == "__main__":
    main()
