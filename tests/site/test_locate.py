"""Where is the site, and where is its state?"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import NotPermitted, RelayError
from relay.site import locate
from relay.site.yaml import yaml_document


def test_option_before_environment(tmp_path: Path) -> None:
    """--site wins over RELAY_SITE, and either is taken as an absolute path."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir(mode=0o755)
    assert locate.find(str(tmp_path / "one"), {"RELAY_SITE": str(tmp_path / "other")}).path == tmp_path / "one"
    assert locate.find(None, {"RELAY_SITE": str(tmp_path / "other")}).path == tmp_path / "other"


def test_current_directory_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory is a site only by `--site .`."""
    tmp_path.chmod(0o755)
    (tmp_path / "relay.yaml").touch(mode=0o644)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locate, "SYSTEM", tmp_path / "no-such-place")
    assert locate.find(".", {}).path == tmp_path
    with pytest.raises(RelayError, match="no site at"):
        locate.find(None, {})


def test_missing_site_says_how_to_make_one(tmp_path: Path) -> None:
    """A site that does not exist is an error whose cure is `relayctl init`."""
    with pytest.raises(RelayError) as caught:
        locate.find(str(tmp_path / "none"), {})
    assert "relayctl init" in caught.value.hint


def test_file_in_place_of_a_site(tmp_path: Path) -> None:
    """A file, and a path with a NUL, are refused as sites."""
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "file"), "a\0b"):
        with pytest.raises(RelayError):
            locate.find(path, {})


@pytest.mark.parametrize("part", ["", "relay.yaml", "policies", "keys"])
def test_writable_by_others_is_refused(tmp_path: Path, part: str) -> None:
    """A site with a world-writable part is refused, and the error names that part."""
    site = tmp_path / "site"
    for directory in (site, site / "policies", site / "keys"):
        directory.mkdir()
        directory.chmod(0o755)
    (site / "relay.yaml").touch()
    (site / "relay.yaml").chmod(0o644)
    locate.find(str(site), {})
    (site / part).chmod(0o777)
    with pytest.raises(NotPermitted, match="writable by everyone"):
        locate.find(str(site), {})


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("", "state"),
        ("state: /srv/relay\n", "/srv/relay"),
        ("listen: [x]\nstate: '/srv/relay'  # here\n", "/srv/relay"),
        ('state: "var"\r\n', "var"),
        ("# state: /srv/relay\n", "state"),
        ("limits:\n  state: /srv/relay\n", "state"),
        ("state:\n  /srv/relay\n", "state"),  # compile refuses this spelling
        ("[broken\nstate: /srv/relay\n", "/srv/relay"),
    ],
)
def test_state_directory(tmp_path: Path, text: str, state: str) -> None:
    """`state:` is found in one spelling only, also in a file that is broken elsewhere; else it is SITE/state."""
    tmp_path.chmod(0o755)
    (tmp_path / "relay.yaml").write_text(text, newline="")
    (tmp_path / "relay.yaml").chmod(0o644)
    assert locate.find(str(tmp_path), {}).state == tmp_path / state


def test_system_state() -> None:
    """The site /etc/relay keeps its state in /var/lib/relay."""
    assert locate.state_directory(Path("/etc/relay"), "") == Path("/var/lib/relay")
    assert locate.state_directory(Path("/etc/relay"), "/x") == Path("/x")


@given(st.text(alphabet="state: /var\"'#\n\r\t-.0é~", max_size=40))
def test_scan_agrees_with_yaml(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever relay.yaml says, the line scan gives what YAML gives, or compile can see that they differ."""
    site = tmp_path_factory.mktemp("site")
    (site / "relay.yaml").write_bytes(text.encode())
    found = yaml_document.read("relay.yaml", text.encode())
    scanned = locate.scan_state(site)
    if scanned and not found.faults and isinstance(found.data, dict) and "state" in found.data:
        value = found.data["state"]
        assert value == scanned or not isinstance(value, str) or not locate.STATE_LINE.match(f"state: {value}")
