"""Seals a log in many lives, each of which ends in the middle of something: `python -m tests.serve.crashes DIRECTORY`.

Each life is a process of its own (a fork). It dies when it is about to do its N-th thing that touches the disk beside
the database (a sync, an erased or removed file, a directory), N growing until a life is whole. What is left is then
read, and the next life, which is not killed, has to go on with it.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from relay.core.audit.log_verifier import LogVerifier
from relay.core.audit.verification_result import VerificationResult
from relay.serve.supervisor.audit.checkpoint_signer import CheckpointSigner, CheckpointTerms
from relay.store import signing_key
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay

DIES = 9
_TOUCHES = ("fsync", "unlink", "mkdir", "pwrite", "write", "open")


def die_at(number: int) -> None:
    """Have this process end before its `number`-th touch of the disk."""
    left = [number]

    def counted(touch: Callable[..., object]) -> Callable[..., object]:
        def instead(*arguments: object, **more: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os._exit(DIES)
            return touch(*arguments, **more)

        return instead

    for name in _TOUCHES:
        setattr(os, name, counted(getattr(os, name)))


def live(state: Path) -> None:
    """Two rows and a checkpoint, twice."""
    relay = Relay(time.time_ns() // 1000)
    writer = AuditWriter(state / FILE, "relay")
    sealer = CheckpointSigner(
        state / FILE, "relay", lambda: CheckpointTerms(rows=2), lambda event, anchor: None, lambda: None
    )
    for _ in range(2):
        writer.append([relay.event("zone.up", zone="office"), relay.event("zone.up", zone="office")])
        sealer.wrote(2)
        while sealer.unsealed:
            sealer.look(writer)
            time.sleep(0.001)
    sealer.finish(writer)
    writer.close()


def apart(deed: Callable[[], None]) -> int:
    """Do it in a process of its own; its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            deed()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def found(state: Path) -> VerificationResult:
    """What the log is now."""
    walk = LogVerifier(signing_key.proves, live=signing_key.seen(state))
    with AuditReader(state / FILE) as reader:
        walk.read(reader.lines())
    return walk.end()


def main(directory: Path) -> None:
    """One line of JSON for each crash."""
    for number in range(1, 1000):
        state = directory / str(number)
        state.mkdir()
        apart(lambda: AuditWriter(state / FILE, "relay").close())  # noqa: B023 - done before the next one

        def dying() -> None:
            die_at(number)  # noqa: B023 - likewise
            live(state)  # noqa: B023 - likewise

        status = apart(dying)
        torn = found(state)
        again = apart(lambda: live(state))  # noqa: B023 - likewise
        whole = found(state)
        told = {"died": status == DIES, "torn": torn.as_json(), "again": again, "whole": whole.as_json()}
        sys.stdout.write(json.dumps(told | {"files": len(os.listdir(state / signing_key.DIRECTORY))}) + "\n")
        sys.stdout.flush()  # or each child would write it once more
        if status == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
