"""What a hold costs clients: how long until drained, and from the reopening until they are answered."""

import asyncio
import time
from datetime import datetime

from . import raw
from .servers import DATABASE, USER, admin

CLIENTS = 64

# Between two transactions of a client, in seconds. Without it our own clients would be what is measured.
THINK = 0.005


class Client:
    """Asks again and again, and notes when it was answered."""

    def __init__(self, number):
        self.number, self.answered, self.errors = number, [], 0

    async def run(self, port, stop):
        session = await raw.Session.open(port, USER, DATABASE)
        try:
            while not stop.is_set():
                try:
                    await session.run(f"select abalance from pgbench_accounts where aid = {1 + self.number}")
                    self.answered.append(time.monotonic())
                except raw.Failed:
                    self.errors += 1
                await asyncio.sleep(THINK)
        finally:
            session.close()

    def first_after(self, moment):
        return next((at for at in self.answered if at > moment), float("inf"))


class Pgdrain:
    """Holds by the admin interface, which says itself when the gate was closed and when it was drained."""

    def __init__(self, target):
        self.target, self.path = target, f"/v1/databases/{DATABASE}/mode"

    async def hold(self):
        return await asyncio.to_thread(admin, self.target, "PUT", f"{self.path}?wait=drained", {"mode": "hold", "for": "30s"})

    async def open(self):
        await asyncio.to_thread(admin, self.target, "PUT", self.path, {"mode": "open"})

    def drained_ms(self, answer, _):
        drain = next(result["drain"] for result in answer["results"] if result["database"] == DATABASE)
        held_at, drained_at = (datetime.fromisoformat(drain[key]) for key in ("held_at", "drained_at"))
        return (drained_at - held_at).total_seconds() * 1000


class PgBouncer:
    """Holds by PAUSE, which returns when it is drained."""

    def __init__(self, target):
        self.target = target

    async def say(self, command):
        console = await raw.Session.open(self.target.port, USER, "pgbouncer")
        try:
            await console.run(f"{command} {DATABASE}")
        finally:
            console.close()

    async def hold(self):
        # In session pooling it would wait for every client to leave.
        await asyncio.wait_for(self.say("pause"), 10)

    async def open(self):
        await self.say("resume")

    def drained_ms(self, _, command_ms):
        return command_ms


async def one(holder):
    """One hold of a second under load."""
    stop, clients = asyncio.Event(), [Client(number) for number in range(CLIENTS)]
    running = [asyncio.create_task(client.run(holder.target.port, stop)) for client in clients]
    try:
        await asyncio.sleep(0.7)
        began = time.monotonic()
        answer = await holder.hold()
        command_ms = (time.monotonic() - began) * 1000
        await asyncio.sleep(1)
        asked = time.monotonic()
        await holder.open()
        await asyncio.sleep(0.7)
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), 20)
    waits = sorted(client.first_after(asked) - asked for client in clients)
    return {"target": holder.target.name, "errors": sum(client.errors for client in clients), "command_ms": command_ms,
            "drain_ms": holder.drained_ms(answer, command_ms), "first_ms": waits[0] * 1000,
            "p50_ms": waits[CLIENTS // 2] * 1000, "p99_ms": waits[-1] * 1000}


def measure(targets, times):
    """So many holds of each that can hold, in turn."""
    holders = [Pgdrain(targets["pgdrain-1"])] if "pgdrain-1" in targets else []
    if "pgbouncer-tx" in targets:
        holders.append(PgBouncer(targets["pgbouncer-tx"]))
    return [asyncio.run(one(holder)) for _ in range(times) for holder in holders]
