"""Library modules that serving processes do not load."""

import subprocess
import sys
from pathlib import Path

from relay.serve import import_stubs
from tests.relay_process import relay

_LOOK = """
from relay.serve import import_stubs
import_stubs.leave_out()
import sys
import asyncssh
import relay.serve.worker.process
loaded = [name for name in import_stubs.EMPTY if getattr(sys.modules["asyncssh." + name], "__file__", None)]
assert not loaded, loaded
assert not [name for name in import_stubs.MISSING if sys.modules[name]]
relay.serve.worker.process._silence_asyncssh()
asyncssh.logger.error("not printed")
try:
    asyncssh.SFTPServer(None)
except RuntimeError as error:
    print(error)
"""


def test_a_worker_has_no_file_server_client_or_terminal() -> None:
    """The modules are not loaded, their classes cannot be used, and the worker needs none of them."""
    done = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "SFTPServer is not loaded in a worker\n"
    assert "sftp" in import_stubs.EMPTY


def test_serving_processes_load_no_tls(tmp_path: Path) -> None:
    """In running processes the libraries of TLS and bcrypt are not mapped, and log-ins work."""
    with relay(tmp_path) as one:
        assert b"logged in as alice" in one.ssh("relay").stderr
        for pid in (one.pid, *one.worker_pids()):
            assert not [name for name in _mapped(pid) if name.startswith(("_ssl.", "libssl", "_bcrypt", "libnettle"))]


def _mapped(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split()[-1]).name for line in lines if "/" in line}


def test_a_process_that_imports_the_worker_has_all_of_asyncssh() -> None:
    """Only `__main__` installs the stubs: a test that imports the worker has all of asyncssh."""
    import asyncssh.sftp

    assert asyncssh.sftp.__file__
