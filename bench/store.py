"""How many forwards a second can be made durable, and how many bytes does one take in the audit database?

Run: python bench/store.py [--directory DIR] [--rows N]. The directory's disk is what is measured.
"""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from relay.core.question import Question
from relay.store.database import FILE, Reader, Writer
from relay.store.strangers import Tally
from tests.audit_rows import Relay


def fsyncs(directory: Path) -> float:
    """Median milliseconds of writing 4 KiB and making it durable: the floor of a group."""
    import os

    times = []
    with (directory / "probe").open("wb") as probe:
        for _ in range(100):
            begin = time.perf_counter()
            probe.write(b"x" * 4096)
            probe.flush()
            os.fdatasync(probe.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def people(count: int) -> list[tuple[str, str]]:
    """So many persons, each with an address."""
    chance = random.Random(1)
    return [(f"person{n}", f"203.0.{chance.randrange(256)}.{chance.randrange(256)}") for n in range(count)]


def forwards(relay: Relay, crowd: list[tuple[str, str]], chance: random.Random, whole: bool) -> list:
    """One forward as it stands in the log: opened and closed; with `whole`, log-in and end of its connection too."""
    person, client = chance.choice(crowd)
    connection = relay.connect(person, client, client_port=chance.randrange(1024, 65536))
    connection["fingerprint"] = "SHA256:" + (person * 8)[:43]
    host = chance.randrange(200)
    opened = relay.opened(connection, f"host{host}:22", f"192.168.{host // 100}.{host % 100}", worker="w1")
    closed = relay.closed(opened, sent=chance.randrange(10**7), received=chance.randrange(10**9), duration=10**7)
    return [relay.login(connection), opened, closed, relay.gone(connection)] if whole else [opened, closed]


def groups(directory: Path, size: int, seconds: float) -> tuple[float, float, float]:
    """Openings a second with groups of `size`, and the median and 99th percentile of a group in milliseconds."""
    path = directory / f"group-{size}"
    path.mkdir()
    relay, chance, crowd = Relay(), random.Random(2), people(50)
    writer = Writer(path / FILE, "bench")
    times: list[float] = []
    spent = 0.0
    while spent < seconds:
        group = [forwards(relay, crowd, chance, False)[0] for _ in range(size)]
        begin = time.perf_counter()
        writer.append(group)
        times.append(time.perf_counter() - begin)
        spent += times[-1]
    writer.close()
    shutil.rmtree(path)
    times.sort()
    return len(times) * size / spent, times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000


def growth(directory: Path, count: int) -> None:
    """Bytes a forward, and whether appending and the usual questions slow down, at `count` forwards."""
    path = directory / "growth" / FILE
    path.parent.mkdir()
    for label, whole in (("a forward (opened and closed)", False), ("ssh -J: log-in, opened, closed, end", True)):
        relay, chance, crowd = Relay(), random.Random(3), people(50)
        writer = Writer(path, "bench")
        empty = path.stat().st_size
        rates = []
        for _ in range(count // 500):
            group = [event for _ in range(500) for event in forwards(relay, crowd, chance, whole)]
            begin = time.perf_counter()
            writer.append(group)
            rates.append(len(group) / (time.perf_counter() - begin))
        writer.close()
        size = path.stat().st_size - empty
        print(f"{label:<40} {size / count:8.0f} bytes; {rates[0]:,.0f} rows/s empty, {rates[-1]:,.0f} rows/s full")
        if whole:
            questions(path)
        path.unlink()


def questions(path: Path) -> None:
    """Milliseconds that the usual questions take, the opening of the database included."""
    from ipaddress import ip_address, ip_network

    for label, question in (
        ("one person", Question(person="person7")),
        ("one address", Question(address=ip_address("192.168.1.50"))),
        ("clients of a network", Question(client=ip_network("203.0.113.0/24"))),
        ("all denials (there are none)", Question(verdict="denied")),
        ("a rare text", Question(text="nobody has said this")),
    ):
        begin = time.perf_counter()
        with Reader(path) as reader:
            found = len(reader.search(question, limit=100))
        print(f"    {label:<36} {(time.perf_counter() - begin) * 1000:8.1f} ms, {found} rows")


def junk(directory: Path) -> None:
    """What 10^5 strangers add to the disk."""
    from ipaddress import IPv4Address

    path = directory / "junk" / FILE
    path.parent.mkdir()
    writer = Writer(path, "bench")
    chance, tally = random.Random(4), Tally(writer.salt)

    def size() -> int:
        return sum(file.stat().st_size for file in path.parent.iterdir() if not file.name.endswith("-shm"))

    before, relay = size(), Relay()
    begin = time.perf_counter()
    for number in range(100_000):
        tally.add(relay.now + number * 600, IPv4Address(chance.getrandbits(32)), "junk", reference="0k3v9x2m4qz")
        if number % 10_000 == 9_999:
            writer.strangers(tally.take())
    took = time.perf_counter() - begin
    print(f"10^5 strangers of as many networks in a minute: {(size() - before) / 1000:.0f} kB, {took:.2f} s")
    writer.close()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where to write (default: a temporary directory)")
    parser.add_argument("--rows", type=int, default=50_000, help="forwards in the growth table")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each group size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        print(f"4 KiB durable on this disk: {fsyncs(directory):.3f} ms\n")
        print("group   openings/s   median ms      p99 ms")
        for size in (1, 4, 16, 64, 256):
            rate, median, worst = groups(directory, size, options.seconds)
            print(f"{size:5} {rate:12,.0f} {median:11.3f} {worst:11.3f}")
        print()
        growth(directory, options.rows)
        junk(directory)


if __name__ == "__main__":
    main()
