"""flock(2) with a deadline."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import file_lock


@pytest.fixture
def descriptors(tmp_path: Path) -> Iterator[list[int]]:
    """Two open files on one path; each can hold the lock."""
    opened = [os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2)]
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_a_second_open_file_does_not_get_a_lock_that_is_held(descriptors: list[int]) -> None:
    """While the lock is held, a second attempt returns False at its deadline."""
    holder, waiter = descriptors
    assert file_lock.acquire(holder, 0)
    assert not file_lock.acquire(waiter, 0)
    assert not file_lock.acquire(waiter, 0.05)


def test_a_waiter_gets_the_lock_when_its_holder_closes_the_file(tmp_path: Path, descriptors: list[int]) -> None:
    """An attempt within its deadline succeeds as soon as the holder's file is closed."""
    holder = os.open(tmp_path / "lock", os.O_RDWR)
    assert file_lock.acquire(holder, 0)
    timer = threading.Timer(0.05, os.close, (holder,))
    timer.start()
    assert file_lock.acquire(descriptors[0], 30)
    timer.join()
