"""The path of one forward, traced in both processes, and docs/design/path-of-a-forward.md, which lists it."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import relay
from tests.relay_process import Relay, echo_server, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, load_key

ROOT = Path(relay.__file__).parent.parent
PAGE = ROOT / "docs" / "design" / "path-of-a-forward.md"
ROUNDS = 3
IDLE_SECONDS = 2.2  # periodic work comes round once a second

Functions = set[tuple[str, str]]  # module (relay/serve/ipc.py) and qualified name


def listed(heading: str) -> list[str]:
    """The modules of the list below that heading."""
    section = PAGE.read_text().partition(f"## {heading}")[2].partition("\n## ")[0]
    return re.findall(r"^(?:\d+\.|-) `(relay/[a-z0-9_/]+\.py)`", section, re.MULTILINE)


def lines(module: str) -> int:
    """How many lines it has."""
    return (ROOT / module).read_text().count("\n")


def bound(what: str) -> int:
    """The number of the page before that word."""
    return int(re.findall(rf"at most \*\*([\d,]+) {what}\*\*", PAGE.read_text())[0].replace(",", ""))


class Tracer:
    """The processes of one relay, and what they enter between `begin` and `end`."""

    def __init__(self, one: Relay, directory: Path) -> None:
        self._pids = [one.pid, *one.worker_pids()]
        self._directory = directory
        self._round = 0

    def _tell(self, number: int, name: str) -> list[Path]:
        paths = [self._directory / f"{pid}.{name}.json" for pid in self._pids]
        for pid in self._pids:
            os.kill(pid, number)
        wait_for(lambda: all(path.exists() for path in paths), f"a process did not answer: {paths}")
        return paths

    def begin(self) -> None:
        """Record from now on."""
        self._round += 1
        self._tell(signal.SIGUSR1, f"begun{self._round}")

    def end(self) -> Functions:
        """All functions of the relay that were entered since `begin`."""
        found: Functions = set()
        for path in self._tell(signal.SIGUSR2, str(self._round)):
            for name, function in json.loads(path.read_text()):
                if name.startswith(f"{ROOT / 'relay'}{os.sep}"):
                    found.add((str(Path(name).relative_to(ROOT)), function))
        return found


@pytest.fixture(scope="module")
def entered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The modules that a forward enters in both processes, from CHANNEL_OPEN to its closing row.

    Periodic work is taken out: what an idle relay enters too, and what is not entered with each of several forwards.
    """
    directory = tmp_path_factory.mktemp("path")
    one = Relay(directory, settings="workers: 1\n")
    trace = directory / "trace"
    trace.mkdir()
    one.environ |= {"PYTHONPATH": str(Path(__file__).parent / "tracing"), "RELAY_TRACE": str(trace)}
    try:
        one.start()
        with echo_server(greeting=b"hello ") as target, Client(one.port) as client:
            client.login("alice", load_key(one.key))
            one.wait_row("login.succeeded")
            tracer = Tracer(one, trace)

            def forward(number: int) -> None:
                """Open it, send five bytes, read eleven, close it, and wait for its closing row."""
                ours, channel = client.open("remote", target)
                client.write(channel, b"%05d" % number)
                assert client.read(ours, 11) == b"hello %05d" % number
                client.send(bytes([hostile.EOF]) + hostile.uint32(channel))
                client.send(bytes([hostile.CLOSE]) + hostile.uint32(channel))
                client.expect(hostile.CLOSE)
                wait_for(lambda: len(one.rows("forward.closed")) == number + 1, "no closing row")

            forward(0)  # what is done only once is done with this one
            tracer.begin()
            began = time.monotonic()
            wait_for(lambda: time.monotonic() - began > IDLE_SECONDS, "time stands still")
            idle = tracer.end()
            rounds = []
            for number in range(ROUNDS):
                tracer.begin()
                forward(number + 1)
                rounds.append(tracer.end())
        yield {module for module, _ in set.intersection(*rounds) - idle}
    finally:
        one.end()


@pytest.mark.system
def test_the_page_lists_every_module_that_a_forward_enters(entered: set[str]) -> None:
    """A module that takes part in a forward and is on neither list of the page would escape a review."""
    believed, helping = listed("What has to be believed"), listed("Entered besides")
    assert sorted(entered - set(believed) - set(helping)) == []
    assert sorted(set(believed) - entered) == [], "the page lists a module that no forward enters"


@pytest.mark.system
def test_a_forward_enters_few_modules(entered: set[str]) -> None:
    """The bound of the page holds for what is really entered."""
    assert len(entered) <= bound("modules"), sorted(entered)


def test_what_has_to_be_believed_is_short() -> None:
    """Twelve files at most, each short enough to be read at once, and no more lines than the page says."""
    believed = listed("What has to be believed")
    assert len(believed) == len(set(believed)) <= 12
    assert {module: lines(module) for module in believed if lines(module) > 350} == {}
    assert sum(map(lines, believed)) <= bound("lines")


def test_the_page_names_files_that_exist() -> None:
    """A renamed module is renamed on the page."""
    for heading in ("What has to be believed", "Entered besides"):
        assert [module for module in listed(heading) if not (ROOT / module).is_file()] == []
