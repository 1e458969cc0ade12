#!/usr/bin/env python3
"""Thousands of sessions without a Postgres: a server that lets everybody in and says nothing, and their clients.

`many.py server PORT` serves until it is ended; `many.py clients PORT NUMBER` prints `ready` when so many are logged in, and
keeps them. Messages are those of chapter 55 of the PostgreSQL documentation.
"""

import asyncio
import resource
import struct
import sys

# So many log in at once.
AT_ONCE = 50


def message(tag, body):
    return tag + struct.pack("!i", len(body) + 4) + body


def welcome(pid):
    parameters = [("server_version", "15.0"), ("client_encoding", "UTF8"), ("server_encoding", "UTF8"),
                  ("standard_conforming_strings", "on"), ("integer_datetimes", "on"), ("DateStyle", "ISO, MDY"),
                  ("default_transaction_read_only", "off"), ("in_hot_standby", "off")]
    settings = b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in parameters)
    return message(b"R", struct.pack("!i", 0)) + settings + message(b"K", struct.pack("!ii", pid, 7)) + message(b"Z", b"I")


class Server:
    """Accepts, welcomes, and refuses every question."""

    pids = 0

    async def serve(self, reader, writer):
        Server.pids += 1
        try:
            await self.session(reader, writer, 1000 + Server.pids)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def session(self, reader, writer, pid):
        while True:
            length, code = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if code == 196608:
                break
            # Encryption is declined; a request to cancel needs no answer.
            writer.write(b"N")
        writer.write(welcome(pid))
        while True:
            tag, length = struct.unpack("!ci", await reader.readexactly(5))
            await reader.readexactly(length - 4)
            if tag == b"X":
                return
            if tag in (b"Q", b"S"):
                error = message(b"E", b"SERROR\0VERROR\0C0A000\0Mnobody answers here\0\0") if tag == b"Q" else b""
                writer.write(error + message(b"Z", b"I"))


async def server(port):
    async with await asyncio.start_server(Server().serve, "127.0.0.1", port, backlog=4096) as serving:
        print("ready", flush=True)
        await serving.serve_forever()


async def log_in(port, number, slots):
    async with slots:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        names = f"user\0user{number % 7}\0database\0shop\0application_name\0worker {number}\0\0".encode()
        writer.write(struct.pack("!ii", len(names) + 8, 196608) + names)
        while True:
            tag, length = struct.unpack("!ci", await reader.readexactly(5))
            body = await reader.readexactly(length - 4)
            if tag == b"E":
                raise SystemExit(f"refused: {body!r}")
            if tag == b"Z":
                return writer


async def clients(port, number):
    slots = asyncio.Semaphore(AT_ONCE)
    kept = await asyncio.gather(*(log_in(port, it, slots) for it in range(number)))
    print("ready", flush=True)
    await asyncio.Event().wait()
    return kept


def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    what, *numbers = sys.argv[1:]
    asyncio.run({"server": server, "clients": clients}[what](*map(int, numbers)))


if __name__ == "__main__":
    main()
