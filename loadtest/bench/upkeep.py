"""What idle sessions cost while nothing happens, by the thousand: a scripted server stands in for Postgres."""

import asyncio
import resource

from . import machine, raw
from .servers import DATABASE, USER

# Once they are there, their logins are still cleaned up after for a moment.
SETTLE = 3


def affordable(sessions):
    """As many of them as this account may open files for: the proxy needs two each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sessions if hard == resource.RLIM_INFINITY else min(sessions, (hard - 100) // 2)


async def cpu_of(pid, seconds):
    """The share of one core that the process uses."""
    before = machine.Used(pid)
    await asyncio.sleep(seconds)
    return before.cpu(machine.Used(pid)) / seconds


async def one(target, count, seconds):
    empty, turn = await cpu_of(target.pid, seconds / 2), asyncio.Semaphore(32)
    memory = machine.resident(target.pid)

    async def enter():
        async with turn:
            session = await raw.Session.open(target.port, USER, DATABASE)
            await session.run("select 1")
            return session
    sessions = await asyncio.gather(*(enter() for _ in range(count)))
    await asyncio.sleep(SETTLE)
    cores, memory = await cpu_of(target.pid, seconds), machine.resident(target.pid) - memory
    for session in sessions:
        session.close()
    await asyncio.sleep(0.5)
    return {"sessions": count, "seconds": seconds, "core": cores, "core_without_sessions": empty, "kib": memory / count}


def measure(proxies, count, seconds):
    """Shares of one core, with so many sessions and with none; and the memory of a session."""
    server = proxies.scripted("scripted")
    try:
        # Without a role for its control connection: what is asked there is no session's upkeep.
        url = f"postgres://127.0.0.1:{server.port}/{DATABASE}?sslmode=disable"
        target = proxies.pgdrain("upkeep", 1, more=f"[limits]\nconnections = {count + 100}\n", url=url)
        try:
            return asyncio.run(one(target, affordable(count), seconds))
        finally:
            target.stop()
    finally:
        server.stop()
