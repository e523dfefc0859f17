"""Who is out, while no supervisor is there to say so? A worker on its own looks at the key files itself.

Nobody new gets in by it: what vanished from the files or was revoked is out, nothing else changes. So a revocation
holds for open connections too while the relay is stopped, restarting or broken.
"""

import asyncio
import concurrent.futures.thread
from collections.abc import Callable
from pathlib import Path

from relay.core.keys import keyring as keyrings
from relay.core.keys.keyring import Keyring
from relay.serve.authorizer import Authorizer
from relay.site.key_files import read

LOOK_SECONDS = 1.0  # as often as the supervisor looks

assert concurrent.futures.thread  # imported for use after ready: asyncio would import it with the first thread


class OfflineRevocation:
    """The key files, as a worker without a supervisor sees them."""

    def __init__(self, law: Authorizer, bug: Callable[[BaseException], None]) -> None:
        self._law = law
        self._bug = bug
        self._loop = asyncio.get_running_loop()
        self._files: Keyring | None = None
        self._looked = float("-inf")
        self.site: Path | None = None  # None: a supervisor that does not say where it is

    async def look(self) -> None:
        """Look again, at most once a second. Raises nothing."""
        now = self._loop.time()
        if self.site is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        law = self._law
        try:
            files = self._files = await asyncio.to_thread(
                read, self.site, self._files, offsets=law.policy.offsets, rsa_bits=law.settings.limits.rsa_bits
            )
        except Exception as error:  # the worker looks for a supervisor all the same
            self._bug(error)
            return
        if law.keyring.keys.keys() - keyrings.narrowed(law.keyring, files).keys.keys():
            law.narrow(files)
