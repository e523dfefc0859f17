"""docs/reference/site.md: its examples are valid, and its defaults are those of the program."""

import re
from pathlib import Path

from relay.core.settings import Settings
from relay.site.policy import compiler

CHECKOUT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "docs" / "reference" / "site.md").read_text(), re.S)


def site(tmp_path: Path, settings: str, policy: str) -> Path:
    """Write a site with these settings and this policy."""
    for part in ("policies", "keys"):
        (tmp_path / part).mkdir()
    (tmp_path / "relay.yaml").write_text(settings)
    (tmp_path / "policies" / "main.yaml").write_text(policy)
    return tmp_path


def test_the_page_shows_a_valid_site_with_the_real_defaults(tmp_path: Path) -> None:
    """The settings block equals the defaults, and the policy block can be applied."""
    settings, policy = BLOCKS
    compiled = compiler.load(site(tmp_path, settings, policy), now=1_780_000_000)
    assert compiled.settings == Settings()
    assert len(compiled.expectations) == 2


def test_every_setting_is_on_the_page() -> None:
    """Every setting is documented."""
    from dataclasses import fields

    from relay.core.settings import Limits

    text = (CHECKOUT / "docs" / "reference" / "site.md").read_text()
    names = {field.name for field in (*fields(Settings), *fields(Limits))} - {"audit_keep_days", "strangers_keep_days"}
    assert [name for name in sorted(names) if name.removeprefix("audit_") not in text] == []
