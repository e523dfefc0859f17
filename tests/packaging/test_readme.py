"""README and tutorial: the commands run as written, by a user with sudo; both languages have the same ones."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.machine import Machine

CHECKOUT = Path(__file__).parents[2]
ENGLISH = (CHECKOUT / "README.md").read_text()
CHINESE = (CHECKOUT / "README.zh-CN.md").read_text()
TUTORIAL = (CHECKOUT / "docs" / "tutorial" / "first-host.md").read_text()
RESTORE = (CHECKOUT / "docs" / "how-to" / "restore-on-a-new-server.md").read_text()
WHO = (CHECKOUT / "docs" / "how-to" / "who-may-run-relayctl.md").read_text()
UNINSTALL = (CHECKOUT / "docs" / "how-to" / "uninstall.md").read_text()
STOP = "sudo systemctl disable --now relay.service relay.socket\n"
BLOCK = re.compile(r"^ *(?:<!-- not run: (?P<why>[^\n]+) -->\n)?^ *```sh\n(?P<text>.*?)^ *```$", re.M | re.S)


def blocks(text: str) -> list[tuple[str, str]]:
    """(why it is not run, commands) of each block of shell commands."""
    return [(match["why"] or "", match["text"]) for match in BLOCK.finditer(text)]


def commands(text: str) -> list[str]:
    """The lines of all blocks that are run."""
    return [line for why, block in blocks(text) if not why for line in block.splitlines()]


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/move-from-sshd.md"])
def test_both_languages_have_the_same_commands(page: str) -> None:
    """The Chinese page differs from the English one in its words only: blocks and their order are the same."""
    english = (CHECKOUT / page).read_text()
    chinese = (CHECKOUT / page.replace(".md", ".zh-CN.md")).read_text()
    assert blocks(chinese) == blocks(english)
    assert chinese.count("\n## ") == english.count("\n## ")


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_the_readme_is_short(text: str) -> None:
    """At most 200 lines of at most 120 characters."""
    lines = text.splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 120] == []


def test_the_tutorial_has_the_commands_of_the_readme() -> None:
    """Every command of the README stands in the tutorial, in the same order; so running one runs both."""
    remaining = iter(commands(TUTORIAL))
    assert [line for line in commands(ENGLISH) if line not in remaining] == []


def test_ci_runs_the_command_of_the_page() -> None:
    """.ci/run is the README's own test command in strict mode."""
    assert "make test\n" in ENGLISH
    assert "make test STRICT=1" in (CHECKOUT / ".ci/run").read_text()


@pytest.fixture
def machine(
    sources: Path, wheels: Path, from_wheels: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A booted machine with a user `admin` who has sudo, a copy of the checkout, and a key for Alice."""
    work = tmp_path_factory.mktemp("machine")
    with Machine(work, (wheels, sources)) as booted:
        booted.run(
            f"""set -eu
            useradd --create-home --shell /bin/bash --password '*' admin
            printf 'Defaults env_keep += "PIP_*"\\nadmin ALL=(ALL) NOPASSWD: ALL\\n' > /etc/sudoers.d/admin
            cp -r {sources} /tmp/relay
            cp -r {wheels} /tmp/wheels && chmod -R a+rX /tmp/wheels
            echo "127.0.0.1 localhost relay.example.com $(hostname)" > /etc/hosts
            # a person answers "yes" once for a host key
            printf 'Host *\\n  StrictHostKeyChecking accept-new\\n  ConnectTimeout 20\\n' > /etc/ssh/ssh_config
            rm -rf /etc/ssh/ssh_config.d /etc/ssh/sshd_config.d
            mkdir -m 700 /home/admin/.ssh
            ssh-keygen -q -t ed25519 -N '' -C alice@laptop -f /home/admin/.ssh/id_ed25519
            cp /home/admin/.ssh/id_ed25519.pub /tmp/relay/alice.pub
            chown -R admin: /home/admin/.ssh /tmp/relay
            useradd --create-home --shell /bin/bash --password '*' ubuntu
            install -d -m 700 -o ubuntu /home/ubuntu/.ssh
            install -m 600 -o ubuntu /home/admin/.ssh/id_ed25519.pub /home/ubuntu/.ssh/authorized_keys
            rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -A
            printf 'UsePAM no\\nPidFile none\\n' > /tmp/office_sshd
            ip netns exec office /usr/sbin/sshd -f /tmp/office_sshd -o ListenAddress=192.168.1.201
            """
        )
        booted.environ = {**from_wheels, "PIP_FIND_LINKS": "/tmp/wheels"}
        yield booted


def as_admin(machine: Machine, script: str, timeout: float = 300) -> str:
    """Run a script as the user `admin`, in the checkout, with the strict umask of many companies."""
    script = f"umask 027; cd /tmp/relay\n{script}"
    command = f"setpriv --reuid admin --regid admin --init-groups env HOME=/home/admin bash -euc {shlex.quote(script)}"
    return machine.run(command, timeout, **machine.environ)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("installing")  # what is made once is shared
def test_the_commands_of_the_tutorial_run_as_written(machine: Machine) -> None:
    """From `make demo` to the first jump, its audit row and the guard, in order, on a machine with systemd."""
    output = [as_admin(machine, block) for why, block in blocks(TUTORIAL) if not why]
    whole = "\n".join(output)
    assert "Everything worked" in whole
    assert "Host remote" in whole
    assert re.search(r"alice +127\.0\.0\.1 +forward ", whole)

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

    # what client-config printed is a configuration that works, with a host key that is known
    as_admin(
        machine,
        """rm -f ~/.ssh/known_hosts
        sudo relayctl client-config alice > ~/.ssh/config
        sudo relayctl client-config alice --known-hosts > ~/.ssh/known_hosts
        ssh -o BatchMode=yes remote true""",
    )

    # the relay takes port 22, as the way from sshd ends, and a restart keeps an open connection
    as_admin(
        machine,
        """sudo sed -i 's/:2222/:22/' /etc/relay/relay.yaml
        echo 'listen: ["0.0.0.0:22", "[::]:22"]' | sudo tee -a /etc/relay/relay.yaml
        sudo relayctl init /etc/relay --systemd
        sudo systemctl daemon-reload
        sudo systemctl restart relay.socket relay.service
        sudo relayctl reload
        ssh -o BatchMode=yes -J nologin_user@relay.example.com ubuntu@192.168.1.201 true
        mkfifo ~/talk
        ssh -F none -o BatchMode=yes -J alice@relay.example.com ubuntu@192.168.1.201 cat < ~/talk > ~/heard & client=$!
        exec 3> ~/talk
        echo before >&3
        until grep -q before ~/heard; do kill -0 $client; sleep 0.1; done
        sudo relayctl upgrade > ~/upgraded
        sudo systemctl restart relay.service
        echo after >&3
        exec 3>&-
        wait $client
        grep -q after ~/heard
        ssh -o BatchMode=yes -J relay.example.com ubuntu@192.168.1.201 true
        """,
        timeout=120,
    )
    upgraded = machine.run("cat /home/admin/upgraded")
    assert "systemctl restart relay.service" in upgraded
    assert "goes on until it is empty: 1 connection with 1 forward" in upgraded
    assert "relay: Accepted publickey for alice" in machine.run("journalctl --no-pager -o cat -u relay.service")

    # auditors read the log, as members of the group or by sudo, and do nothing else
    for _, block in blocks(WHO):
        as_admin(machine, block)
    for number, rules in enumerate(re.findall(r"^```\n(%.*?)^```$", WHO, re.M | re.S)):
        machine.run(f"cat > /etc/sudoers.d/page{number} <<'END'\n{rules}END\nvisudo -cqf /etc/sudoers.d/page{number}")
    machine.run("groupadd auditors; useradd -G auditors ann; useradd -G relay ben")
    found = "relayctl audit search --since 7d"
    assert "alice" in machine.run(f"setpriv --reuid ann --regid ann --init-groups sudo -u relay {found}")
    assert "alice" in machine.run(f"setpriv --reuid ben --regid ben --init-groups {found}")
    machine.run("! setpriv --reuid ann --regid ann --init-groups sudo -n -u relay relayctl backup /tmp/x")

    # a backup, before everything is removed
    backup, restore = (block for why, block in blocks(RESTORE)[:2])
    as_admin(machine, backup)

    # uninstalling is refused until the network is undone, then works as its page says and leaves nothing
    uninstall = [block for why, block in blocks(UNINSTALL) if "gateway" not in why]
    as_admin(machine, f"{STOP}! sudo make uninstall 2> refused; grep 'net apply --undo' refused")
    for block in uninstall:
        as_admin(machine, block)
    left = "ls -d /opt/relay /etc/relay* /var/lib/relay /usr/local/bin/relayctl /etc/systemd/system/relay*"
    assert machine.run(f"{left} 2>/dev/null || :; nft list tables; id relay 2>&1 || :") == "id: ‘relay’: no such user\n"

    # restored, the relay has its old host keys and its old log
    as_admin(machine, restore.replace("sudo relayctl doctor", "sudo relayctl doctor || test $? = 1"))
    jump = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -J alice@relay.example.com ubuntu@192.168.1.201 true"
    as_admin(machine, f"{jump}; sudo relayctl audit search --person alice > found; test $(wc -l < found) -ge 5")
