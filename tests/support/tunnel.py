"""A proxy that opens a tunnel to one server, whatever it is asked for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def tunnel(port: int, established: bytes = b"HTTP/1.1 200 Connected") -> AsyncIterator[tuple[int, list[bytes]]]:
    """Its own port, and the method of each request that it got. `established`: the head of its answer."""
    methods: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods.append((await reader.readuntil(b"\r\n\r\n")).split()[0])
        inner = await asyncio.open_connection("127.0.0.1", port)
        writer.write(established + b"\r\n\r\n")
        await asyncio.gather(_pump(reader, inner[1]), _pump(inner[0], writer))

    proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield proxy.sockets[0].getsockname()[1], methods
    proxy.close()
    await asyncio.sleep(0.02)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
    writer.close()
