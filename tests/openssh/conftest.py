"""One sshd for a test process, one relay in front of it for each module: starting them takes longer than most tests."""

from collections.abc import Iterator

import pytest

from tests.openssh.lan import BEYOND, HERE, Lan, Sshd
from tests.relay_process import relay


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """The host behind the relay."""
    one = Sshd(tmp_path_factory.mktemp("sshd"), (HERE, BEYOND))
    try:
        yield one.start()
    finally:
        one.end()


@pytest.fixture(scope="module")
def lan(sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    """A relay and the host behind it; shared by a module, so tests look for their own rows."""
    with relay(tmp_path_factory.mktemp("relay")) as one:
        yield Lan(one, sshd)
