"""A small client that speaks the protocol itself, so that what is measured is not a driver.

Logins are by trust.
"""

import asyncio
import socket
import ssl
import struct

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def message(tag, body=b""):
    return tag + struct.pack("!i", len(body) + 4) + body


def query(sql):
    return message(b"Q", sql.encode() + b"\0")


def startup(user, database):
    parameters = b"user\0%s\0database\0%s\0\0" % (user.encode(), database.encode())
    return struct.pack("!ii", len(parameters) + 8, 196608) + parameters


def context():
    """TLS to a certificate of our own making."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return unverified


class Failed(Exception):
    """The server sent an error."""


class Blocking:
    """For bulk transfers: reads in large pieces and walks the headers."""

    def __init__(self, port, user, database, tls=False):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket.sendall(SSL_REQUEST)
            if self.socket.recv(1) != b"S":
                raise Failed("no TLS")
            self.socket = context().wrap_socket(self.socket)
        self.buffer = bytearray(1 << 18)
        self.socket.sendall(startup(user, database))
        self.answer()

    def answer(self, until=b"Z"):
        """Reads to the end of a message of this type; gives how many bytes came."""
        total, left, header = 0, 0, b""
        view, wanted = memoryview(self.buffer), until[0]
        while True:
            read = self.socket.recv_into(self.buffer)
            if read == 0:
                raise Failed("the connection was closed")
            total += read
            at = 0
            while at < read:
                if left:
                    step = min(left, read - at)
                    left, at = left - step, at + step
                else:
                    step = min(5 - len(header), read - at)
                    header, at = header + bytes(view[at:at + step]), at + step
                    if len(header) < 5:
                        break
                    tag, left = header[0], struct.unpack("!i", header[1:])[0] - 4
                    header = b""
                    if tag == ord("E"):
                        raise Failed(bytes(view[at:read]))
                    last = tag == wanted
                if not left and not header and last:
                    return total

    def run(self, sql):
        self.socket.sendall(query(sql))
        return self.answer()

    def copy_in(self, sql, chunk, times):
        """Sends the same chunk of rows again and again; gives how many bytes went."""
        self.socket.sendall(query(sql))
        self.answer(until=b"G")
        data = message(b"d", chunk)
        for _ in range(times):
            self.socket.sendall(data)
        self.socket.sendall(message(b"c"))
        self.answer()
        return len(data) * times

    def close(self):
        self.socket.close()


class Session:
    """For many connections at once."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port, user, database, tls=False):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 14)
        if tls:
            writer.write(SSL_REQUEST)
            if await reader.readexactly(1) != b"S":
                raise Failed("no TLS")
            await writer.start_tls(context())
        session = cls(reader, writer)
        writer.write(startup(user, database))
        await session.answer()
        return session

    async def answer(self):
        error = None
        while True:
            header = await self.reader.readexactly(5)
            body = await self.reader.readexactly(struct.unpack("!i", header[1:])[0] - 4)
            if header[:1] == b"E":
                error = body
                if b"VFATAL" in body:
                    raise Failed(body)
            if header[:1] == b"Z":
                if error:
                    raise Failed(error)
                return

    async def run(self, sql):
        self.writer.write(query(sql))
        await self.answer()

    def close(self):
        self.writer.close()
