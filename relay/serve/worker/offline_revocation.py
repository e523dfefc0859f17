"""Enforces key revocations while the supervisor is down or silent, by polling the key files.

It only narrows: a key that has vanished from the files or is revoked there is refused, nothing else changes. So a
revocation also ends open connections while the relay is stopped, restarting or broken.
"""

import asyncio
import concurrent.futures.thread
from collections.abc import Callable
from pathlib import Path

from relay.core.keys.keyring import Keyring, narrowed
from relay.serve.authorizer import Authorizer
from relay.site.key_files import read

POLL_SECONDS = 1.0  # as often as the supervisor

assert concurrent.futures.thread  # imported for use after ready: asyncio would import it with the first thread


class OfflineRevocation:
    """The key files as a worker without a supervisor reads them."""

    def __init__(self, authorizer: Authorizer, bug: Callable[[BaseException], None]) -> None:
        self._authorizer = authorizer
        self._bug = bug
        self._loop = asyncio.get_running_loop()
        self._files: Keyring | None = None
        self._polled = float("-inf")
        self.site: Path | None = None  # None: the supervisor has not named its site

    async def poll(self) -> None:
        """Read the key files, at most once a second, and take out keys that are no longer allowed. Raises nothing."""
        now = self._loop.time()
        if self.site is None or now - self._polled < POLL_SECONDS:
            return
        self._polled = now
        authorizer = self._authorizer
        offsets, rsa_bits = authorizer.policy.offsets, authorizer.settings.limits.rsa_bits
        try:
            files = await asyncio.to_thread(read, self.site, self._files, offsets=offsets, rsa_bits=rsa_bits)
        except Exception as error:  # the worker goes on: it has to find a supervisor
            self._bug(error)
            return
        self._files = files
        if authorizer.keyring.keys.keys() - narrowed(authorizer.keyring, files).keys.keys():
            authorizer.narrow(files)
