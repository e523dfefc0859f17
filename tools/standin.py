"""A LAN host for `make demo` on machines without sshd: answers every command with one line and runs none.

python tools/standin.py ADDRESS PORT HOST_KEY AUTHORIZED_KEYS
"""

import asyncio
import sys

import asyncssh


def answer(process: "asyncssh.SSHServerProcess[str]") -> None:
    """Answer with the host's name and the source of the connection, as the demo's command on a real host does."""
    came_from = process.get_extra_info("peername")[0]
    process.stdout.write(f"hello from the stand-in LAN host; your connection comes from {came_from}\n")
    process.exit(0)


async def main(address: str, port: str, host_key: str, authorized_keys: str) -> None:
    """Serve until the process is ended."""
    await asyncssh.listen(
        address, int(port), server_host_keys=[host_key], authorized_client_keys=authorized_keys, process_factory=answer
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
