# SPDX-License-Identifier: Apache-2.0
"""asyncio streams: one echo server, fifty concurrent clients, every byte hashed."""
import asyncio
import signal
import socket

import common

CONNECTIONS = 50
ROUNDS = 30


async def serve(reader, writer):
    try:
        while True:
            chunk = await reader.read(65536)
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()


async def server(text):
    family, address = common.split_address(text)
    if family == socket.AF_UNIX:
        srv = await asyncio.start_unix_server(serve, address)
    else:
        srv = await asyncio.start_server(serve, *address)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    common.ready()
    await stop.wait()
    srv.close()


async def open_stream(text):
    family, address = common.split_address(text)
    if family == socket.AF_UNIX:
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection(*address)


async def one_client(text, number):
    reader, writer = await open_stream(text)
    for turn in range(ROUNDS):
        # Small questions, so that the connection becomes hot; now and then a large one.
        size = 200000 if turn % 10 == 9 else 1 + (number * 131 + turn * 17) % 4000
        sent = common.data(number * 1000 + turn, size)
        writer.write(sent)
        got, _ = await asyncio.gather(reader.readexactly(size), writer.drain())
        common.need(common.digest(got) == common.digest(sent),
                    f"connection {number} round {turn}: other bytes came back")
    writer.write_eof()
    common.need(await reader.read() == b"", f"connection {number}: bytes after the end")
    writer.close()
    await writer.wait_closed()


async def client(text):
    await asyncio.gather(*(one_client(text, n) for n in range(CONNECTIONS)))


def main():
    args = common.arguments()
    work = server(args.address) if args.role == "server" else client(args.address)
    asyncio.run(asyncio.wait_for(work, None if args.role == "server" else 60))


main()
