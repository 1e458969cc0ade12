"""What pgdrain is to reach, beside what was measured. The goals are those of docs/PERFORMANCE.md."""

from dataclasses import dataclass

OURS, OURS_AGAIN, BOUNCER, PUMP = "pgdrain-1", "pgdrain-1-again", "pgbouncer-session", "pump-1"


@dataclass(frozen=True)
class Goal:
    """`measured` is to be at most `bound`; both are of the same unit, and so is the `noise`."""

    figure: str
    goal: str
    bound: float
    measured: float | None
    noise: float = 0.0
    unit: str = ""

    def verdict(self):
        if self.measured is None:
            return "not measured"
        if self.measured <= self.bound:
            return "met"
        return "within noise" if self.measured <= self.bound + self.noise else "not met"

    def row(self):
        measured = "" if self.measured is None else f"{self.measured:.3g}{self.unit}"
        noise = f"{self.noise:.2g}{self.unit}" if self.noise and self.measured is not None else ""
        return [self.figure, self.goal, measured, noise, self.verdict()]


def ratio(tables, workload, bound, reference, ours=OURS):
    """CPU against somebody else's for the same work."""
    table = tables.get(workload)
    measured = table.ratio(ours, reference) if table else None
    noise = (table.noise() or 0.0) * bound if table else 0.0
    return Goal(f"{workload}, {ours}", f"at most {bound:.2f} of {reference}", bound, measured, noise)


def memory(tables, workload, bound):
    table = tables.get(workload)
    return Goal(f"{workload}: memory of a session", f"at most {bound} KiB", bound,
                table.least.get(OURS) if table else None,
                (table.noise() or 0.0) * bound if table else 0.0, " KiB")


def added_p99(tables, workload):
    """What the 99th percentile grows by, against what the pump adds."""
    table = tables.get(workload)
    least = {name: table.best(name, "p99_ms", min) for name in (OURS, OURS_AGAIN, PUMP, "direct")} if table else {}
    if None in least.values() or not least:
        return Goal(f"{workload}: p99 added to direct", "at most the pump's", 0.0, None)
    pump = least[PUMP] - least["direct"]
    return Goal(f"{workload}: p99 added to direct", f"at most the pump's {pump:.2f} ms", pump,
                least[OURS] - least["direct"], abs(least[OURS] - least[OURS_AGAIN]), " ms")


def upkeep(found):
    sessions = found.get("sessions", 10_000)
    measured = found["core"] * 100 if found else None
    return Goal(f"upkeep of {sessions} idle sessions", "at most 0.1 % of a core", 0.1, measured, unit=" %")


def counted(found):
    """By instructions, from `make callgrind`; these repeat."""
    yield Goal("metrics, logging, gate: share of the relay's instructions", "under 2 %", 2.0,
               found.get("overhead_percent"), unit=" %")
    yield Goal("instructions of a transaction, 2 worker threads against 1", "at most 1.05", 1.05, found.get("workers_ratio"))


def all_of(tables, run):
    """Every goal, in the order in which they are written down."""
    for clients in (16, 64):
        for protocol in ("simple", "extended", "prepared"):
            workload = f"select-{protocol}-c{clients}"
            yield ratio(tables, workload, 1.00, BOUNCER)
            yield ratio(tables, workload, 1.05, PUMP)
            yield ratio(tables, workload, 1.05, "pump-2", "pgdrain-2")
    yield ratio(tables, "pipeline-c16", 1.10, PUMP)
    yield ratio(tables, "tpcb-c16", 1.10, PUMP)
    yield memory(tables, "idle", 2.5)
    yield memory(tables, "idle-tls", 14)
    for workload in ("copy-out", "copy-in", "rows-100B"):
        yield ratio(tables, workload, 0.50, BOUNCER)
        yield ratio(tables, workload, 1.10, PUMP)
    yield ratio(tables, "rows-1MB", 0.75, PUMP)
    yield ratio(tables, "connect-c8", 1.10, PUMP)
    for protocol in ("simple", "extended", "prepared"):
        yield added_p99(tables, f"select-{protocol}-c16")
    yield from counted(run.get("callgrind", {}))
    yield upkeep(run.get("upkeep", {}))
