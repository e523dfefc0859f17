"""The pinned version of asyncssh, compared once before serving.

The connection uses private members of asyncssh; tests/serve/worker/ssh/test_asyncssh_contract.py lists them.
"""

import asyncssh

from relay.errors import RelayError

VERSION = "2.24.1"


def check_version(installed: str = asyncssh.__version__) -> None:
    """Raises RelayError if another version is installed: its private members may mean something else."""
    if installed != VERSION:
        raise RelayError(
            f"asyncssh {installed} is installed: this relay serves with asyncssh {VERSION} only",
            f"install it: pip install asyncssh=={VERSION}",
        )
