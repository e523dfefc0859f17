"""A site in a temporary directory, for the tests of relay/site."""

from collections.abc import Callable
from pathlib import Path

import pytest

MakeSite = Callable[..., Path]


@pytest.fixture
def make_site(tmp_path: Path) -> MakeSite:
    """Makes a site from its texts: relay.yaml, and one policy per keyword (a="..." is policies/a.yaml)."""

    def make(settings: str | None = None, **policies: str) -> Path:
        site = tmp_path / "site"
        for directory in (site, site / "policies", site / "keys"):
            directory.mkdir(mode=0o750, exist_ok=True)
        if settings is not None:
            (site / "relay.yaml").write_text(settings)
        for name, text in policies.items():
            (site / "policies" / f"{name}.yaml").write_text(text)
        for path in site.rglob("*"):
            path.chmod(0o750 if path.is_dir() else 0o640)
        return site

    return make
