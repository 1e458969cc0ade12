"""What sessions that do nothing cost: memory of each, and the CPU of the proxy while all of them sit there.

usage: upkeep.py [--sessions N] [--seconds S] [--pgdrain PROGRAM]

A server that is a script stands in for Postgres, which would need a process for each session.
"""

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import machine, places, raw

CONFIG = """\
listen = ["127.0.0.1:{port}"]
state_dir = "{directory}/state"
workers = 1

[admin]
listen = "127.0.0.1:0"

[limits]
connections = 100000

[upstream]
url = "postgres://bench@127.0.0.1:{server}/bench?sslmode=disable"
"""

SETTINGS = {"server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "TimeZone": "Etc/UTC",
            "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "integer_datetimes": "on", "is_superuser": "off",
            "in_hot_standby": "off", "default_transaction_read_only": "off", "session_authorization": "bench",
            "standard_conforming_strings": "on", "application_name": ""}


FILES = 65_536


def many_files():
    """Each session takes a file here and two in the proxy, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (max(hard, FILES), hard):
        try:
            return resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        except (OSError, ValueError):
            continue  # Only root may have more.


def scripted_server():
    """Lets everybody in, and answers every Query in the same way; prints its port."""
    import asyncio

    greeting = raw.message(b"R", bytes(4)) + b"".join(
        raw.message(b"S", name.encode() + b"\0" + value.encode() + b"\0") for name, value in SETTINGS.items())
    ready = raw.message(b"Z", b"I")

    class Backend(asyncio.Protocol):
        begun = 0

        def connection_made(self, transport):
            self.transport, self.logged_in = transport, False

        def data_received(self, data):
            if not self.logged_in:
                self.logged_in = True
                Backend.begun += 1
                key = raw.message(b"K", (1000 + Backend.begun).to_bytes(4, "big") + b"four")
                self.transport.write(greeting + key + ready)
            elif data[:1] == b"Q":
                self.transport.write(raw.message(b"C", b"SELECT 1\0") + ready)
            else:
                self.transport.close()

    async def serve():
        server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    many_files()
    asyncio.run(serve())


def session(port):
    """A client that has logged in and asked once."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    for request in (raw.startup("bench", "bench"), raw.query("select 1")):
        client.sendall(request)
        answer = b""
        while not answer.endswith(raw.message(b"Z", b"I")):
            more = client.recv(4096)
            if not more:
                raise RuntimeError("the proxy closed the connection")
            answer += more
    return client


def measure(pid, port, sessions, seconds):
    # What a proxy sets up once does not count for each.
    first = [session(port) for _ in range(16)]
    time.sleep(2)
    before = machine.resident(pid)
    clients = [session(port) for _ in range(sessions)]
    time.sleep(3)
    kib = (machine.resident(pid) - before) / sessions
    began, used = time.monotonic(), machine.Used(pid)
    time.sleep(seconds)
    share = used.cpu(machine.Used(pid)) / (time.monotonic() - began)
    for client in first + clients:
        client.close()
    return {"sessions": sessions, "kib_each": round(kib, 2), "percent_of_a_core": round(share * 100, 4)}


def main():
    if sys.argv[1:] == ["server"]:
        return scripted_server()
    parser = argparse.ArgumentParser(description="Sessions that do nothing")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pgdrain", type=Path, default=places.PGDRAIN)
    options = parser.parse_args()
    many_files()
    server = subprocess.Popen([sys.executable, __file__, "server"], stdout=subprocess.PIPE)
    with tempfile.TemporaryDirectory(prefix="upkeep.") as directory:
        port, upstream = places.free_port(), int(server.stdout.readline())
        config = Path(directory) / "pgdrain.toml"
        config.write_text(CONFIG.format(port=port, directory=directory, server=upstream))
        log = Path(directory) / "log"
        with log.open("w") as output:
            proxy = places.start([options.pgdrain, "serve", "--config", config], output)
        try:
            deadline = time.monotonic() + 30
            while not (Path(directory) / "state" / "endpoints.json").exists():
                if proxy.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"upkeep: pgdrain did not start\n{log.read_text()[-2000:]}")
                time.sleep(0.05)
            print(json.dumps(measure(proxy.pid, port, options.sessions, options.seconds)))
        finally:
            places.stop(proxy)
            places.stop(server)


if __name__ == "__main__":
    main()
