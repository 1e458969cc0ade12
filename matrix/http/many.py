#!/usr/bin/env python3
"""Times the answers about very many sessions: a scripted server, as many clients, and the status asked again and again.

SESSIONS=number says how many (10000); each takes two open files of pgdrain. PGDRAIN names the program.
"""

import asyncio
import http.client
import json
import os
import resource
import struct
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from runner import places  # noqa: E402

SESSIONS = int(os.environ.get("SESSIONS", "10000"))
TIMES = 40
PGDRAIN = Path(os.environ.get("PGDRAIN", places.TARGET.parent / "debug" / "pgdrain")).resolve()
IDLE, INSIDE = b"Z\0\0\0\5I", b"Z\0\0\0\5T"
PATHS = ["/v1/status", "/v1/databases/*/sessions?limit=100", "/v1/databases/*/sessions?sort=transaction&limit=100",
         "/v1/databases/d3/sessions?user=u7&limit=100", "/v1/databases/*/sessions"]


def message(tag, body):
    return tag + struct.pack("!I", len(body) + 4) + body


class Server:
    """Lets everybody in, and takes every statement for a BEGIN."""

    def __init__(self):
        self.pid = 0

    async def serve(self, reader, writer):
        try:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            packet = await reader.readexactly(length - 4)
            if struct.unpack("!I", packet[:4])[0] == 80877103:
                writer.write(b"N")
                return await self.serve(reader, writer)
            self.pid += 1
            key = message(b"K", struct.pack("!II", self.pid, self.pid))
            writer.write(message(b"R", struct.pack("!I", 0)) + key + IDLE)
            while True:
                head = await reader.readexactly(5)
                await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
                if head[:1] == b"Q":
                    writer.write(message(b"C", b"BEGIN\0") + INSIDE)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()


async def client(address, number, gate):
    """A session; every third one is in a transaction."""
    async with gate:
        reader, writer = await asyncio.open_connection(*address)
        words = ["user", f"u{number % 50}", "database", f"d{number % 10}", "application_name", f"web-{number % 7}"]
        body = struct.pack("!I", 196608) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
        writer.write(struct.pack("!I", len(body) + 4) + body)
        await reader.readuntil(IDLE)
        if number % 3 == 0:
            writer.write(message(b"Q", b"BEGIN\0"))
            await reader.readuntil(INSIDE)
    return reader, writer


def ask(address, path):
    connection = http.client.HTTPConnection(*address, timeout=60)
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - begun
    connection.close()
    assert answer.status == 200, (path, answer.status, body)
    return took * 1000, len(body)


async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=4096)
    port = listening.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(dir=places.temporary()) as directory:
        log = open(Path(directory) / "log", "ab")
        command = [PGDRAIN, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state-dir",
                   f"{directory}/state", "--upstream", f"postgres://u0@127.0.0.1:{port}/d0"]
        limits = {"PGDRAIN_LIMITS_CONNECTIONS": str(SESSIONS + 10), "PGDRAIN_LIMITS_ACCEPTS_PER_SECOND": "100000"}
        proxy = places.start(command, log, env=places.environment(**limits))
        try:
            endpoints = Path(directory) / "state" / "endpoints.json"
            while not endpoints.exists():
                assert proxy.poll() is None, (Path(directory) / "log").read_text()
                await asyncio.sleep(0.05)
            found = json.loads(endpoints.read_text())
            place = lambda text: (text.rsplit(":", 1)[0], int(text.rsplit(":", 1)[1]))
            gate = asyncio.Semaphore(100)
            sessions = await asyncio.gather(*(client(place(found["listen"][0]), number, gate)
                                              for number in range(SESSIONS)))
            admin = place(found["admin"])
            print(f"{len(sessions)} sessions in 10 databases, a third of them in a transaction; {TIMES} times each")
            print("| asked | median | slowest | bytes |\n| --- | --- | --- | --- |")
            for path in PATHS:
                # The server's own answers wait meanwhile: nobody needs them.
                asked = sorted(ask(admin, path) for _ in range(TIMES))
                print(f"| `{path}` | {asked[TIMES // 2][0]:.1f} ms | {asked[-1][0]:.1f} ms | {asked[0][1]} |")
        finally:
            places.stop(proxy)


if __name__ == "__main__":
    asyncio.run(main())
