"""What a hold costs clients: how long until drained, and from the reopening until they are answered."""

import asyncio
import time
from datetime import datetime

from . import raw
from .servers import DATABASE, USER, admin

CLIENTS = 64


class Client:
    """Asks again and again, and notes when it was answered."""

    def __init__(self):
        self.answered, self.errors = [], 0

    async def run(self, port, stop):
        session = await raw.Session.open(port, USER, DATABASE)
        aid = 1 + id(self) % 10_000
        while not stop.is_set():
            try:
                await session.run(f"select abalance from pgbench_accounts where aid = {aid}")
            except raw.Failed:
                self.errors += 1
            self.answered.append(time.monotonic())
        session.close()

    def first_after(self, moment):
        return next((at for at in self.answered if at > moment), None)


async def one(target):
    """One hold of a second under load."""
    stop, clients = asyncio.Event(), [Client() for _ in range(CLIENTS)]
    running = [asyncio.create_task(client.run(target.port, stop)) for client in clients]
    await asyncio.sleep(0.5)
    path = f"/v1/databases/{DATABASE}/mode"
    held = await asyncio.to_thread(admin, target, "PUT", f"{path}?wait=drained", {"mode": "hold", "for": "30s"})
    await asyncio.sleep(1)
    asked = time.monotonic()
    await asyncio.to_thread(admin, target, "PUT", path, {"mode": "open"})
    await asyncio.sleep(1)
    stop.set()
    await asyncio.gather(*running)
    waits = sorted(client.first_after(asked) - asked for client in clients)
    return {"errors": sum(client.errors for client in clients), "drain_ms": drain_ms(held),
            "first_ms": waits[0] * 1000, "p50_ms": waits[CLIENTS // 2] * 1000, "p99_ms": waits[-1] * 1000}


def drain_ms(held):
    """From the closing of the gate to the proof, as pgdrain itself reports it."""
    drain = next(result["drain"] for result in held["results"] if result["database"] == DATABASE)
    held_at, drained_at = (datetime.fromisoformat(drain[key]) for key in ("held_at", "drained_at"))
    return (drained_at - held_at).total_seconds() * 1000


def measure(target, times):
    """So many holds, one after the other."""
    return [asyncio.run(one(target)) for _ in range(times)]
