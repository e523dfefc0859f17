"""One relay with one worker for all tests of a file: each test leaves it as it found it."""

from collections.abc import Iterator

import pytest

from tests.relay_process import Relay, echo_server, relay, wait_for


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A running relay that is shared by the file, and must be as alive after its tests as before."""
    with relay(tmp_path_factory.mktemp("relay"), settings="workers: 1\n") as shared:
        before = wait_for(shared.worker_pids, "there is no worker")
        yield shared
        wait_for(lambda: shared.worker_pids() == before, "the worker is not the same any more", 5)
        assert "a bug of ours" not in shared.log(), shared.log()[-5000:]


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of an echo server at the host `remote`."""
    with echo_server() as port:
        yield port
