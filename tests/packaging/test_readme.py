"""README: its commands run as written, on a fresh machine; the two languages say the same."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli import COMMANDS
from tests.packaging.machine import Machine

CHECKOUT = Path(__file__).parents[2]
ENGLISH = (CHECKOUT / "README.md").read_text()
CHINESE = (CHECKOUT / "README.zh-CN.md").read_text()
BLOCK = re.compile(r"^(<!-- not run: (?P<why>[^\n]+) -->\n)?```sh\n(?P<text>.*?)^```$", re.M | re.S)


def blocks(text: str) -> list[tuple[str, str]]:
    """(why it is not run, commands) of each block of shell commands."""
    return [(match["why"] or "", match["text"]) for match in BLOCK.finditer(text)]


def test_both_languages_have_the_same_commands() -> None:
    """README.zh-CN.md differs from README.md in its words only: blocks, in their order, are the same."""
    placeholder = re.compile(r"^(host-key|backup|restore).*", re.M)
    assert [placeholder.sub("", text) for _, text in blocks(CHINESE)] == [
        placeholder.sub("", text) for _, text in blocks(ENGLISH)
    ]
    assert CHINESE.count("\n## ") == ENGLISH.count("\n## ")
    assert CHINESE.count("\n|") == ENGLISH.count("\n|")


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_command_is_in_the_table(text: str) -> None:
    """Whoever reads the page knows that a command exists; and none is named that does not."""
    table = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([a-z-]+)(?: [^`]*)?`", table))
    assert set(COMMANDS) <= named
    for command in re.findall(r"^(?:sudo )?relayctl ([a-z-]+)", text, re.M):
        assert command in COMMANDS


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Every link to a file of this repository finds it."""
    links = re.findall(r"\]\(([^)#:]+)\)", (CHECKOUT / name).read_text())
    assert [link for link in links if not (CHECKOUT / link).exists()] == []


def test_ci_runs_the_command_of_the_page() -> None:
    """.ci/run is the README's own test command in strict mode."""
    assert "make test\n" in ENGLISH
    assert "make test STRICT=1" in (CHECKOUT / ".ci/run").read_text()


@pytest.fixture
def machine(
    sources: Path, wheels: Path, from_wheels: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A booted machine with a copy of the checkout in /tmp/relay, packages to install from, and a key for Alice."""
    work = tmp_path_factory.mktemp("machine")
    with Machine(work, (wheels, sources)) as booted:
        booted.run(
            f"""set -eu
            cp -r {sources} /tmp/relay
            printf '#!/bin/sh\\nexec "$@"\\n' > /usr/local/sbin/sudo; chmod 755 /usr/local/sbin/sudo
            printf '127.0.0.1 localhost relay.example.com\\n' > /etc/hosts
            # a person answers "yes" once for a host key
            printf 'Host *\\n  StrictHostKeyChecking accept-new\\n  ConnectTimeout 20\\n' > /etc/ssh/ssh_config
            rm -rf /root/.ssh /etc/ssh/ssh_config.d /etc/ssh/sshd_config.d
            mkdir -m 700 /root/.ssh
            ssh-keygen -q -t ed25519 -N '' -C alice@laptop -f /root/.ssh/id_ed25519
            cp /root/.ssh/id_ed25519.pub /tmp/relay/alice.pub
            useradd --create-home --shell /bin/bash --password '*' ubuntu
            install -d -m 700 -o ubuntu /home/ubuntu/.ssh
            install -m 600 -o ubuntu /root/.ssh/id_ed25519.pub /home/ubuntu/.ssh/authorized_keys
            rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -A
            printf 'UsePAM no\\nPidFile none\\n' > /tmp/office_sshd
            ip netns exec office /usr/sbin/sshd -f /tmp/office_sshd -o ListenAddress=192.168.1.201
            """
        )
        booted.environ = from_wheels
        yield booted


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("installing")  # they share what is made once
def test_the_commands_of_the_page_run_as_written(machine: Machine) -> None:
    """From `make demo` to the first jump and its audit row: each block in its order, on a machine with systemd."""
    said = []
    for why, commands in blocks(ENGLISH):
        if not why:
            said.append(machine.run(f"set -eu; cd /tmp/relay\n{commands}", **machine.environ))
    whole = "\n".join(said)
    assert "All as promised" in whole
    assert "Host remote" in whole
    assert re.search(r"alice +127\.0\.0\.1 +forward ", said[-1])

    # the service is what the units say it is
    shown = machine.run("systemctl show relay.service -p ActiveState,User,MainPID,NRestarts")
    assert "ActiveState=active" in shown
    assert "User=relay" in shown
    assert "NRestarts=0" in shown
    pid = re.search(r"MainPID=(\d+)", shown)
    assert pid is not None
    status = machine.run(f"cat /proc/{pid[1]}/status")
    assert re.search(r"^CapEff:\t0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
    assert re.search(r"^Seccomp:\t2$", status, re.M)
    assert machine.run("stat -c '%U %a' /var/lib/relay") == "relay 700\n"

    # what client-config printed is a configuration that works
    machine.run("relayctl client-config alice > /root/.ssh/config && ssh -o BatchMode=yes remote true")

    # the relay takes port 22, as the way from sshd ends, and a restart keeps an open connection
    machine.run(
        """set -eu
        sed -i 's/:2222/:22/' /etc/relay/relay.yaml
        echo 'listen: ["0.0.0.0:22", "[::]:22"]' >> /etc/relay/relay.yaml
        relayctl init /etc/relay --systemd
        systemctl daemon-reload
        systemctl restart relay.socket relay.service
        relayctl reload
        ssh -o BatchMode=yes -J nologin_user@relay.example.com ubuntu@192.168.1.201 true
        mkfifo /tmp/talk
        ssh -F none -o BatchMode=yes -J relay.example.com ubuntu@192.168.1.201 cat < /tmp/talk > /tmp/heard & client=$!
        exec 3> /tmp/talk
        echo before >&3
        until grep -q before /tmp/heard; do kill -0 $client; sleep 0.1; done
        relayctl upgrade > /tmp/upgraded
        systemctl restart relay.service
        echo after >&3
        exec 3>&-
        wait $client
        grep -q after /tmp/heard
        ssh -o BatchMode=yes -J relay.example.com ubuntu@192.168.1.201 true
        """,
        timeout=120,
    )
    upgraded = machine.run("cat /tmp/upgraded")
    assert "systemctl restart relay.service" in upgraded
    assert "goes on until it is empty: 1 connection with 1 forward" in upgraded
    assert "relay: Accepted publickey for alice" in machine.run("journalctl --no-pager -o cat -u relay.service")
