"""One relay with one worker for all tests of a file: each test leaves it as it found it."""

from collections.abc import Iterator

import pytest

from tests.relay_process import Relay, echo_server, relay


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A running relay that is shared by the file, and must be as alive after its tests as before."""
    with relay(tmp_path_factory.mktemp("relay"), settings="workers: 1\n") as shared:
        before = shared.worker_pids()
        yield shared
        assert shared.worker_pids() == before, shared.log()
        assert "a bug of ours" not in shared.log(), shared.log()[-5000:]


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of an echo server at the host `remote`."""
    with echo_server() as port:
        yield port
