"""A site's keys/ for the tests of people, and recorded public keys."""

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures" / "keys"


@pytest.fixture
def lines() -> dict[str, str]:
    """Recorded public lines by name (ed25519, rsa-2048, ...), each with its line feed."""
    return {path.stem: path.read_text() for path in FIXTURES.glob("*.pub")}


@pytest.fixture
def prints() -> dict[str, str]:
    """Their fingerprints, as ssh-keygen printed them."""
    rows = (FIXTURES / "fingerprints.txt").read_text().splitlines()
    return {row.split("\t")[0]: row.split()[2] for row in rows if not row.startswith("#")}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with empty keys/ and policies/."""
    for name in ("keys", "policies"):
        (tmp_path / name).mkdir(mode=0o750)
    return tmp_path
