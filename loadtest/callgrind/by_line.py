"""A profile of callgrind: how many instructions each line of the sources took, also where it was inlined."""

import re
from collections import Counter
from functools import cache

from bench import places

COST = re.compile(r"^(\d+) (\d+)$")

# Our sources by what they are for. The whole of a file counts, and so does every atomic operation of the relay,
# whatever it is for: what comes out is the most that these can take.
GATE = ("src/gate/", "src/session/relay/door.rs", "src/session/inbox.rs")
MEASURES = ("src/metrics/", "src/session/registry", "src/clock.rs")
# Functions elsewhere that do nothing but note what a session is at.
NOTES = ("note_start", "note_activity", "note_flowing")
CLOCK = re.compile(r"clock_gettime|std::time::Instant|sys::.*time::")


@cache
def lines_of(file):
    """Which lines of a source file belong to functions that are in NOTES."""
    within, found = None, set()
    for number, line in enumerate((places.REPOSITORY / file).read_text().splitlines(), 1):
        begun = re.match(r"( *)(?:pub(?:\([a-z]+\))? )?fn (\w+)", line)
        if begun and begun[2] in NOTES:
            within = begun[1] + "}"
        if within is not None:
            found.add(number)
            if line == within:
                within = None
    return found


class Profile:
    """Instructions by function, file and line, in one of so many equal parts."""

    def __init__(self, text, shares):
        self.costs, function, file, called = Counter(), "", "", False
        for line in text.splitlines():
            if line.startswith("fn="):
                function = line[3:]
            elif line.startswith(("fl=", "fi=", "fe=")):
                file = line[3:]
            elif line.startswith("calls="):
                called = True
            elif cost := COST.match(line):
                # Behind a call is what the callee took, which is counted where it is.
                if not called:
                    self.costs[function, file, int(cost[1])] += int(cost[2]) / shares
                called = False
        self.total = sum(self.costs.values())

    @property
    def of_lines(self):
        """What the connections in memory took themselves."""
        return sum(cost for (function, _, _), cost in self.costs.items() if "line::Line" in function)

    def parts(self):
        """Instructions for the gate, and for measures."""
        found = Counter(gate=0, metrics=0)
        for (function, file, line), cost in self.costs.items():
            found[part_of(function, file, line)] += cost
        del found[None]
        return dict(found)


def part_of(function, file, line):
    """What a line is for; `None` for the relaying itself."""
    if "line::Line" in function:
        return None
    ours = file.removeprefix(f"{places.REPOSITORY}/")
    if ours.startswith(GATE):
        return "gate"
    if ours.startswith(MEASURES) or CLOCK.search(function) or ours.startswith("src/") and line in lines_of(ours):
        return "metrics"
    if file.endswith("sync/atomic.rs") and "pgdrain" in function:
        return "gate"
    return None
