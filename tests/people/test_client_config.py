"""relay.people.client_config: what a person puts into their SSH client."""

import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from relay.core.keys.authorized_keys import Key, parse_line
from relay.core.policy.model import Host
from relay.core.policy.reachable_targets import Reachable
from relay.core.policy.target import parse_spec
from relay.errors import InputRejected
from relay.people import client_config as configs
from relay.people.client_config import Client

HOST_KEY = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL7FU1mGyK1pTBbgoP5IOj2wwZspWj/P2MLnE+S9r651", "SHA256:abc")
REMOTE = Host("remote", "office", ip_address("192.168.1.201"), "ubuntu", 22)
WEB = Host("web", "office", ip_address("192.168.1.202"))
PLACES = (
    Reachable("remote", REMOTE, ((22, 22), (8080, 8080))),
    Reachable("web", WEB, ((443, 443),)),
    Reachable("fd00::1.office", Host("six", "office", ip_address("fd00::1"), "", 2200), ((1, 65535),)),
    Reachable("192.168.1.0/28 in office", None, ((22, 22),)),
)


def key(lines: dict[str, str], name: str) -> Key:
    made = parse_line(lines[name], person="alice", file="f", line=1)
    assert made is not None
    return made


def client(
    keys: tuple[Key, ...] = (),
    public: str = "relay.example.com:2222",
    places: tuple[Reachable, ...] = PLACES,
    login: str = "",
) -> Client:
    return configs.make_client(
        "alice", parse_spec(public), host_keys=(HOST_KEY,), keys=keys, places=places, login=login
    )


def effective(tmp_path: Path, text: str, host: str) -> dict[str, str]:
    """What the real ssh makes of the configuration for `host`."""
    path = tmp_path / "config"
    path.write_text(text)
    done = subprocess.run(["ssh", "-G", "-F", path, host], capture_output=True, text=True, timeout=20, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


@pytest.mark.system
def test_openssh_reads_it_as_meant(tmp_path: Path, lines: dict[str, str]) -> None:
    """`ssh -G` shows relay and hosts with the right names, ports, users, aliases and jump."""
    text = configs.config(client((key(lines, "ed25519"), key(lines, "sk-ecdsa"))))
    relay = effective(tmp_path, text, "relay")
    assert (relay["hostname"], relay["port"], relay["user"]) == ("relay.example.com", "2222", "alice")
    assert (relay["identitiesonly"], relay["identityfile"]) == ("yes", "~/.ssh/id_ecdsa_sk")
    remote = effective(tmp_path, text, "remote")
    assert (remote["hostname"], remote["port"], remote["user"]) == ("remote", "22", "ubuntu")
    assert (remote["hostkeyalias"], remote["proxyjump"]) == ("remote.office", "relay")
    windows = effective(tmp_path, configs.config(client(), windows=True), "remote")
    assert windows["proxycommand"] == r"C:\Windows\System32\OpenSSH\ssh.exe -W [%h]:%p relay"


def test_only_hosts_whose_ssh_port_is_open_get_a_block(lines: dict[str, str]) -> None:
    """Other ports and whole networks are in comments, each with the command that reaches them."""
    text = configs.config(client((key(lines, "ed25519"),)))
    assert [line for line in text.splitlines() if line.startswith("Host ")] == [
        "Host relay",
        "Host remote",
        "Host fd00::1.office",
    ]
    assert "# remote (22, 8080): ssh -N -L 8080:remote:8080 relay" in text
    assert "# web (443): ssh -N -L 8443:web:443 relay" in text
    assert "# also 192.168.1.0/28 in office (22): ssh -J relay ADDRESS" in text
    assert "ansible_ssh_common_args='-o ProxyJump=alice@relay.example.com:2222'" in text
    assert "VS Code" in text


def test_the_relay_key_is_pinned() -> None:
    """The line for known_hosts has the port only where it is not 22, and the fingerprint stands beside it."""
    assert configs.known_hosts(client()) == (f"[relay.example.com]:2222 {HOST_KEY[0]}",)
    assert configs.known_hosts(client(public="relay.example.com:22")) == (f"relay.example.com {HOST_KEY[0]}",)
    assert configs.known_hosts(client(public="[2001:db8::1]:2222")) == (f"[2001:db8::1]:2222 {HOST_KEY[0]}",)
    for windows in (False, True):
        text = configs.config(client(), windows=windows)
        assert f"#   [relay.example.com]:2222 {HOST_KEY[0]}" in text
        assert "SHA256:abc" in text


def test_a_relay_without_host_key_says_so() -> None:
    """Before the first start there is nothing to pin."""
    one = configs.make_client("alice", parse_spec("r:22"), host_keys=(), keys=(), places=())
    text = configs.config(one)
    assert "no host key yet" in text
    assert "alice has no key yet" in text
    assert "may reach nothing now" in text
    assert "may reach no host by SSH" in configs.putty(one)


def test_putty_lines() -> None:
    """PuTTY and plink go through plink, with the relay's key pinned by fingerprint and no % that a batch file eats."""
    text = configs.putty(client())
    assert (
        '-proxycmd "plink.exe -batch -ssh -P 2222 -l alice -i %USERPROFILE%\\.ssh\\id.ppk -hostkey SHA256:abc'
        ' -nc remote:22 relay.example.com" remote'
    ) in text
    assert "-nc [fd00::1.office]:2200" in text


def test_a_host_called_relay_keeps_its_name() -> None:
    """Then the relay is called jump."""
    taken = Reachable("relay", Host("relay", "office", ip_address("192.168.1.9")), ((22, 22),))
    assert "Host jump\n" in configs.config(client(places=(taken,)))


def test_the_login_name_may_be_another_and_must_be_one() -> None:
    """`--login` is for `User nologin_user`; nothing that could become a second option gets through."""
    assert "User nologin_user\n" in configs.config(client(login="nologin_user"))
    for login in ("a b", "x\nProxyCommand evil", "-oProxyCommand=x", "'", "a" * 65):
        with pytest.raises(InputRejected):
            client(login=login)


def test_json_has_every_place(lines: dict[str, str]) -> None:
    """Hosts, networks and ports as plain values."""
    value = configs.as_json(client((key(lines, "rsa-3072"),)))
    assert value["relay"]["identity_files"] == ["~/.ssh/id_rsa"]
    assert [(one["name"], one["ssh_port"]) for one in value["hosts"]] == [
        ("remote", 22),
        ("web", None),
        ("fd00::1.office", 2200),
        ("192.168.1.0/28 in office", None),
    ]
