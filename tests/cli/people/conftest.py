"""A site for tests of the commands about keys."""

from pathlib import Path

import pytest

from tests.cli.people.command import POLICY


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one host and a rule for the group ops."""
    path = tmp_path / "site"
    for part in (path, path / "keys", path / "policies", path / "state"):
        part.mkdir(mode=0o750)
    (path / "relay.yaml").write_text("")
    (path / "policies" / "main.yaml").write_text(POLICY)
    return path
