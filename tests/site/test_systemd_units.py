"""The systemd units: rendered texts, hostile values, and the check by systemd-analyze."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.errors import InputRejected, NotPermitted
from relay.site import systemd_units

CHECKOUT = Path(__file__).parents[2]
EXPORT_UNIT = CHECKOUT / "packaging" / "audit-export" / "relay-audit-export.service"
LISTEN = ("0.0.0.0:22", "[::]:22")
SITE, STATE = Path("/etc/relay"), Path("/var/lib/relay")


def settings(text: str) -> dict[str, list[str]]:
    """A unit's settings, each with its values in order; comments and sections left out."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def test_the_packaged_texts_are_what_is_rendered() -> None:
    """packaging/systemd is never edited by hand: `make units` writes it."""
    directory = CHECKOUT / "packaging" / "systemd"
    assert {path.name: path.read_text() for path in directory.iterdir()} == systemd_units.packaged(), "type: make units"


def test_the_socket_holds_every_listener() -> None:
    """Each address of `listen` becomes one socket, and IPv6 ones take no IPv4 client."""
    texts = systemd_units.render(LISTEN, site=SITE, state=STATE)
    socket = settings(texts[systemd_units.SOCKET])
    assert socket["ListenStream"] == ["0.0.0.0:22", "[::]:22"]
    assert socket["BindIPv6Only"] == ["ipv6-only"]
    assert socket["FileDescriptorName"] == ["relay"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "60"),
        ("ExecReload", "/opt/relay/current/bin/relayctl --site /etc/relay reload"),
        ("User", "relay"),
        ("KillMode", "process"),
        ("OOMPolicy", "continue"),
        ("LimitNOFILE", "65536"),
        ("MemoryMax", "60%"),
        ("ProtectSystem", "strict"),
        ("Restart", "always"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectory", "relay"),
        ("StateDirectoryMode", "0700"),
        ("LogsDirectory", "relay"),
        ("LogsDirectoryMode", "0750"),
        ("ExecStart", "/opt/relay/current/bin/relayctl --site /etc/relay serve"),
    ],
)
def test_the_service_says_what_the_design_asks(name: str, value: str) -> None:
    """The settings that the design names are there, once, with that value."""
    assert settings(systemd_units.render(LISTEN, site=SITE, state=STATE)[systemd_units.SERVICE])[name] == [value]


def test_systemd_waits_longer_than_open_forwards_are_given() -> None:
    """`systemctl stop` does not kill the supervisor before limits.stop is over."""
    for stop in (Limits().stop, 0.0, 3600.0):
        service = settings(systemd_units.render(LISTEN, site=SITE, state=STATE, stop=stop)[systemd_units.SERVICE])
        assert int(service["TimeoutStopSec"][0]) > stop


def test_a_state_elsewhere_is_the_only_path_it_may_write() -> None:
    """A site with its own `state:` gets that directory, and not /var/lib/relay besides."""
    service = settings(systemd_units.render(LISTEN, site=SITE, state=Path("/srv/relay/state"))[systemd_units.SERVICE])
    assert service["ReadWritePaths"] == ["/srv/relay/state"]
    assert "StateDirectory" not in service


@pytest.mark.parametrize(
    "listen",
    [
        "0.0.0.0:22\nExecStart=/bin/sh",
        "relay.example.com:22",
        "/run/relay.sock",
        "22",
        "[::]:22 ",
        "[::%zt0]:22",
        "",
    ],
)
def test_what_is_not_an_address_and_port_never_reaches_a_unit(listen: str) -> None:
    """A listener that is not ADDRESS:PORT is refused, a line break above all."""
    with pytest.raises(InputRejected, match="cannot listen on"):
        systemd_units.render([listen], site=SITE, state=STATE)


@pytest.mark.parametrize(
    "path", ["/etc/re lay", "/etc/relay\nUser=root", "etc/relay", "/etc/%i", "/etc/../root", "/a$b"]
)
def test_a_path_that_systemd_would_read_differently_is_refused(path: str) -> None:
    """Blanks, specifiers, variables and line breaks in a path are refused rather than quoted."""
    for values in ({"site": Path(path), "state": STATE}, {"site": SITE, "state": Path(path)}):
        with pytest.raises(InputRejected, match="cannot name the path"):
            systemd_units.render(LISTEN, **values)


def test_no_listener_is_a_fault() -> None:
    """A relay that listens nowhere is refused instead of becoming a socket unit without sockets."""
    with pytest.raises(InputRejected, match="nothing to listen on"):
        systemd_units.render([], site=SITE, state=STATE)


@given(listen=st.text(max_size=60), user=st.text(max_size=20))
def test_any_text_gives_whole_units_or_a_refusal(listen: str, user: str) -> None:
    """Whatever is asked for, no rendered unit has a line that the template did not have."""
    try:
        texts = systemd_units.render([listen], site=SITE, state=STATE, user=user)
    except InputRejected:
        return
    plain = systemd_units.render(["0.0.0.0:22"], site=SITE, state=STATE)
    assert {name: text.count("\n") for name, text in texts.items()} == {n: t.count("\n") for n, t in plain.items()}


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """`init --systemd` again says that nothing differs, and leaves no half-written file behind."""
    texts = systemd_units.render(LISTEN, site=SITE, state=STATE)
    assert {str(path.relative_to(tmp_path)) for path in systemd_units.write(texts, tmp_path)} == set(texts)
    assert systemd_units.write(texts, tmp_path) == ()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        Path(name).name for name in texts
    )
    assert all(os.stat(tmp_path / name).st_mode & 0o777 == 0o644 for name in texts)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The refusal names the file and what to type."""
    (tmp_path / "etc").write_text("a file where a directory must be")
    with pytest.raises(NotPermitted, match=re.escape("relay.socket")) as refused:
        systemd_units.write(systemd_units.render(LISTEN, site=SITE, state=STATE), tmp_path)
    assert refused.value.hint == "use sudo"


def test_a_relayctl_in_a_home_is_not_started_by_systemd() -> None:
    """The service sees no home directory, so a relayctl there is refused with what to do instead."""
    if systemd_units.INSTALLED.exists():
        assert systemd_units.program("/root/.local/bin/relayctl") == systemd_units.INSTALLED
        return
    with pytest.raises(NotPermitted, match=r"/root/\.local/bin/relayctl"):
        systemd_units.program("/root/.local/bin/relayctl")
    assert systemd_units.program("/usr/local/bin/relayctl-elsewhere") == Path("/usr/local/bin/relayctl-elsewhere")


def test_a_user_that_exists_is_left_alone() -> None:
    """Asking again for the service's user does nothing."""
    assert systemd_units.make_user("root") is False


@pytest.fixture
def unit_files(tmp_path: Path) -> Path:
    """The packaged units, with a program that exists on this machine."""
    true = shutil.which("true")
    assert true is not None
    texts = systemd_units.packaged() | {"relay-audit-export.service": EXPORT_UNIT.read_text()}
    for name, text in texts.items():
        (tmp_path / name).write_text(text.replace(str(systemd_units.INSTALLED), true))
    return tmp_path


@pytest.mark.system
def test_systemd_finds_nothing_wrong_with_the_units(unit_files: Path) -> None:
    """`systemd-analyze verify` is silent: no unknown setting, no typing error."""
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(unit_files.glob("relay*.s*"))],
        capture_output=True,
        text=True,
    )
    ours = [line for line in done.stderr.splitlines() if "relay" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@pytest.mark.system
@pytest.mark.parametrize("unit", ["relay.service", "relay-audit-export.service"])
def test_systemd_rates_the_services_as_little_exposed(unit_files: Path, unit: str) -> None:
    """`systemd-analyze security` gives an exposure under 2.0 (of 10)."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit_files / unit],
        capture_output=True,
        text=True,
    )
    exposure = re.search(rf"Overall exposure level for {re.escape(unit)}: (\d+\.\d)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert done.returncode == 0
    assert float(exposure[1]) < 2.0
