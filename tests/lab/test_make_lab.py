"""`make lab`: a person gets a shell at the client with everything running, breaks something, and leaves nothing."""

import subprocess

import pytest

from tests.lab.world import CHECKOUT

pytestmark = pytest.mark.system

MAKE = ["make", "--no-print-directory", "-o", ".venv/.installed-dev", "lab"]  # this environment is as it should be


def test_one_command() -> None:
    """RUN= runs a command at the client, whose quotes arrive; the end is the command's own."""
    run = "ssh -J relay remote 'hostname; echo it is' && on gateway hostname && lab break remove && ssh remote"
    done = subprocess.run([*MAKE, f"RUN={run}"], cwd=CHECKOUT, capture_output=True, text=True, timeout=90)
    assert done.stdout.startswith("remote\nit is\ngateway\nZeroTier stops"), done.stdout + done.stderr
    assert done.returncode == 2  # make's, for any failure: ssh's is 255
    assert "Error 255" in done.stderr
    assert "the network behind this relay is down" in done.stderr


def test_two_sites() -> None:
    """PLANT=1 adds the second site."""
    run = "RUN=ssh remote.plant hostname"
    done = subprocess.run([*MAKE, "PLANT=1", run], cwd=CHECKOUT, capture_output=True, text=True, timeout=90)
    assert done.stdout == "plant-remote\n", done.stdout + done.stderr


def test_a_shell() -> None:
    """On a terminal there is a map, then a shell: ssh -J relay remote, commands elsewhere, faults, decoys."""
    typed = (
        "ssh -tt -J relay remote 'hostname; tty' </dev/null\n"  # else ssh would take the next lines
        "on provider hostname\n"
        "lab break remove\n"
        "on relay bash -c 'exec 3<>/dev/tcp/192.168.1.201/22; head -n 1 <&3'\n"
        "lab seen\n"
        "lab heal\n"
        "exit\n"
    )
    done = subprocess.run(
        ["script", "-qec", " ".join(MAKE), "/dev/null"],  # script(1) is the terminal
        cwd=CHECKOUT,
        input=typed,
        capture_output=True,
        text=True,
        timeout=90,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "TERM": "dumb"},
    )
    said = " ".join(done.stdout.split())  # a terminal's line ends differ
    for text in (
        "relay 1.1.1.1",
        "remote /dev/pts/",
        "provider alice@client",
        "decoy_provider",
        "got them from the relay",
    ):
        assert text in said, (text, said)
    assert said.endswith("The lab has been removed.")
