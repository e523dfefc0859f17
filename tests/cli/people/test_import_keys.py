"""relayctl import-keys."""

import json
from pathlib import Path

from tests.cli.people.command import ED25519, FIXTURES, ctl, rows


def test_import_keys_previews_then_writes(site: Path, tmp_path: Path) -> None:
    """Without --yes nothing is written; each rejected line has its reason; a map names the nameless."""
    given = tmp_path / "authorized_keys"
    text = ED25519.replace("ed25519-256@fixture", "root@box") + (FIXTURES / "rsa-3072.pub").read_text()
    given.write_text(text + (FIXTURES / "dsa.pub").read_text())
    out, err = ctl(site, "import-keys", given)
    assert "rsa-3072" in out
    assert f"{given}:1: not imported: the comment names no person" in err
    assert f"{given}:3: not imported: DSA" in err
    assert "nothing was written" in err
    assert list((site / "keys").iterdir()) == []
    names = tmp_path / "names"
    names.write_text("root@box alice\nrsa-3072@fixture bob\n")
    ctl(site, "import-keys", given, "--names", names, "--yes")
    assert sorted(path.name for path in (site / "keys").glob("*.pub")) == ["alice.pub", "bob.pub"]
    assert [row["person"] for row in rows(site)] == ["alice", "bob"]
    value = json.loads(ctl(site, "import-keys", given, "--names", names, "--json")[0])
    assert [one["already"] for one in value["keys"]] == [True, True]
    assert value["written"] is False
    given.write_text("rubbish\n")
    ctl(site, "import-keys", given, status=1)
