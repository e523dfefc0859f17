"""One lab for all tests of a file: each test breaks what it wants, and finds it well."""

from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    """The office alone, everything running."""
    with Lab(plant=False) as lab:
        yield lab
        assert "a bug of ours" not in lab.log(), lab.log()[-5000:]


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    """The same, well before and after each test, nothing counted yet."""
    built.forget()
    yield built
    built.heal()
