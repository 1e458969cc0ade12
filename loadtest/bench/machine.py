"""What a process has used so far, from /proc."""

import os
import re
import time

HZ = os.sysconf("SC_CLK_TCK")


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def fields(pid):
    """Of /proc/PID/stat, those behind the name."""
    text = read(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2:].split() if text else None


def tree(pid):
    """A process and its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        stat = fields(entry) if entry.isdigit() else None
        if stat:
            children.setdefault(int(stat[1]), []).append(int(entry))
    found, ahead = [], [pid]
    while ahead:
        found.append(ahead.pop())
        ahead += children.get(found[-1], [])
    return found


class Used:
    """CPU and context switches of a process tree at one moment."""

    def __init__(self, pid):
        self.ticks = self.reaped = self.nanoseconds = self.switches = 0
        self.threads = set()
        for process in tree(pid):
            stat = fields(process)
            if not stat:
                continue
            self.ticks += sum(int(ticks) for ticks in stat[11:15])
            self.reaped += sum(int(ticks) for ticks in stat[13:15])
            try:
                threads = os.listdir(f"/proc/{process}/task")
            except OSError:
                continue
            for thread in threads:
                self.threads.add((process, thread))
                scheduled = read(f"/proc/{process}/task/{thread}/schedstat").split()
                self.nanoseconds += int(scheduled[0]) if scheduled else 0
                status = read(f"/proc/{process}/task/{thread}/status")
                self.switches += sum(map(int, re.findall(r"voluntary_ctxt_switches:\s+(\d+)", status)))

    def cpu(self, later):
        """Seconds of CPU between the two: nanoseconds where no thread or process came or went, else ticks of 10 ms."""
        if self.nanoseconds and (self.threads, self.reaped) == (later.threads, later.reaped):
            return (later.nanoseconds - self.nanoseconds) / 1e9
        return (later.ticks - self.ticks) / HZ


def busy():
    """Seconds of CPU that the whole machine has used."""
    ticks = [int(count) for count in read("/proc/stat").split("\n")[0].split()[1:]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / HZ


def resident(pid):
    """KiB of memory that the tree holds."""
    found = (re.search(r"^Rss:\s+(\d+)", read(f"/proc/{process}/smaps_rollup"), re.M) for process in tree(pid))
    return sum(int(match.group(1)) for match in found if match)


def settle(pid):
    """Until no process comes or goes there, a second at most: backends are counted with their parent a moment
    after their client has left."""
    found = None
    for _ in range(20):
        time.sleep(0.05)
        before, found = found, len(tree(pid))
        if before == found:
            return


class Span:
    """CPU of a proxy, of the server and of strangers while something is done."""

    def __init__(self, proxy, server):
        self.proxy, self.server = proxy, server

    def __enter__(self):
        self.before = [Used(pid) if pid else None for pid in (self.proxy, self.server)]
        self.own, self.machine, self.began = os.times(), busy(), time.monotonic()
        return self

    def __exit__(self, *_):
        self.wall = time.monotonic() - self.began
        settle(self.server)
        after = [Used(pid) if pid else None for pid in (self.proxy, self.server)]
        whole = time.monotonic() - self.began
        cpu = [first.cpu(last) if first else 0.0 for first, last in zip(self.before, after)]
        self.cpu, self.server_cpu = cpu
        self.switches = after[0].switches - self.before[0].switches if after[0] else 0
        own = sum(os.times()[:4]) - sum(self.own[:4])
        self.strangers = max(0.0, busy() - self.machine - own - sum(cpu)) / whole
