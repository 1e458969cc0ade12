"""A stand-in for Postgres that costs next to nothing, for sessions by the thousand: it lets everybody in, and
answers each query with an empty result.

usage: scripted.py PORT
"""

import asyncio
import struct
import sys

PARAMETERS = {"server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "DateStyle": "ISO, MDY",
              "TimeZone": "UTC", "integer_datetimes": "on", "standard_conforming_strings": "on", "is_superuser": "off"}
SSL_REQUEST = 80877103


def message(tag, body=b""):
    return tag + struct.pack("!i", len(body) + 4) + body


WELCOME = message(b"R", struct.pack("!i", 0)) + b"".join(
    message(b"S", f"{name}\0{value}\0".encode()) for name, value in PARAMETERS.items())
READY = message(b"Z", b"I")
ANSWER = message(b"I") + READY


class Backend(asyncio.Protocol):
    """One session. Each is told a process id of its own, by which cancel requests find it."""

    told = 0

    def __init__(self):
        self.buffer, self.begun = b"", False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        while (end := self.end()) and len(self.buffer) >= end:
            self.obey(self.buffer[:end])
            self.buffer = self.buffer[end:]

    def end(self):
        """Where the first message ends; 0 while its header is not whole."""
        header = 5 if self.begun else 4
        if len(self.buffer) < header:
            return 0
        return struct.unpack("!i", self.buffer[header - 4:header])[0] + header - 4

    def obey(self, message_):
        if not self.begun:
            self.greet(struct.unpack("!i", message_[4:8])[0])
        elif message_[:1] == b"Q":
            self.transport.write(ANSWER)
        elif message_[:1] == b"X":
            self.transport.close()

    def greet(self, code):
        if code == SSL_REQUEST:
            self.transport.write(b"N")
            return
        self.begun = True
        Backend.told += 1
        key = message(b"K", struct.pack("!ii", Backend.told, 1))
        self.transport.write(WELCOME + key + READY)


async def main(port):
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
