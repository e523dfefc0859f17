"""Somebody else's machine that happens to have the address of a LAN host: python -I -S decoy.py NAME [PORT...].

Greets as an SSH server would, on every address of its network namespace, and goes on listening until it is ended.
"""

import asyncio
import sys


async def main(name: str, ports: list[int]) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"SSH-2.0-decoy_{name}\r\n".encode())
        try:
            while await reader.read(1 << 16):
                pass
        except OSError:
            pass
        writer.close()

    servers = [await asyncio.start_server(greet, "0.0.0.0", port) for port in ports]
    sys.stderr.write("listening\n")
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main(sys.argv[1], [int(word) for word in sys.argv[2:]] or [22]))
