"""From samples to tables: least values, their spread, ratios, and what the noise allows to be said."""

import json
import statistics

from . import goals

REFERENCES = (goals.BOUNCER, goals.PUMP)
# The same program and settings under two names: what they differ by is noise.
PAIR = (goals.OURS, goals.OURS_AGAIN)


def figure(sample):
    """What is compared: CPU for each unit, or memory."""
    return sample.get("kib", sample.get("cpu"))


class Table:
    """The samples of one workload."""

    def __init__(self, samples):
        self.samples, self.least, self.median, self.most = samples, {}, {}, {}
        self.usual_noise = 0.0
        self.unit = samples[0]["unit"]
        self.is_memory = any("kib" in sample for sample in samples)
        by_target = {}
        for sample in samples:
            if figure(sample) is not None:
                by_target.setdefault(sample["target"], []).append(figure(sample))
        for target, figures in by_target.items():
            figures.sort()
            self.least[target], self.most[target] = figures[0], figures[-1]
            self.median[target] = figures[len(figures) // 2]

    def apart(self):
        """How far apart the same thing is, as a share; `None` if it was not measured twice."""
        first, again = (self.least.get(name) for name in PAIR)
        if not first or not again:
            return None
        return abs(first / again - 1)

    def noise(self):
        """The same, and no less than is usual in this run: two values may be close by luck."""
        apart = self.apart()
        return None if apart is None else max(apart, self.usual_noise)

    def ratio(self, target, reference):
        if target not in self.least or not self.least.get(reference):
            return None
        return self.least[target] / self.least[reference]

    def said(self, target, reference):
        """A ratio as it may be said: inside of the noise there is no difference."""
        ratio, noise = self.ratio(target, reference), self.noise()
        if ratio is None:
            return ""
        same = noise is not None and abs(ratio - 1) <= noise
        return f"{ratio:.2f} (same)" if same and target != reference else f"{ratio:.2f}"

    def best(self, target, key, pick):
        found = [sample[key] for sample in self.samples if sample["target"] == target and key in sample]
        return pick(found) if found else None


def tables(samples):
    by_workload = {}
    for sample in samples:
        if "error" not in sample:
            by_workload.setdefault(sample["workload"], []).append(sample)
    found = {workload: Table(of) for workload, of in by_workload.items()}
    for kind in (True, False):
        alike = [table for table in found.values() if table.is_memory == kind]
        apart = [table.apart() for table in alike if table.apart() is not None]
        for table in alike:
            table.usual_noise = statistics.median(apart) if apart else 0.0
    return found


def shown(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.0f}"


def headings(table):
    cost = "KiB" if table.is_memory else "CPU s" if table.unit == "GiB" else "CPU us"
    columns = ["target", f"{cost} per {table.unit}: least", "median", "most"]
    columns += [f"to {reference}" for reference in REFERENCES]
    if table.is_memory:
        return [*columns, "after login"]
    return [*columns, f"{table.unit}s a second", "p50 ms", "p99 ms", "p999 ms", "switches", "server CPU"]


def row(table, target):
    cells = [target, shown(table.least.get(target)), shown(table.median.get(target)), shown(table.most.get(target))]
    cells += [table.said(target, reference) for reference in REFERENCES]
    if table.is_memory:
        return [*cells, shown(table.best(target, "kib_after_login", min))]
    cells.append(shown(table.best(target, "per_second", max)))
    return cells + [shown(table.best(target, key, min)) for key in ("p50_ms", "p99_ms", "p999_ms", "switches", "server_cpu")]


def lines_of(columns, rows):
    """A table of Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)]


def goal_lines(run):
    columns = ["figure", "goal", "measured", "noise", "verdict"]
    found = list(goals.all_of(tables(run["samples"]), run))
    # Of a selection nobody expects all of them.
    asked = [goal for goal in found if run["whole"] or goal.measured is not None]
    return lines_of(columns, [goal.row() for goal in asked])


def markdown(run):
    """The whole report."""
    lines = ["# Load test", "", f"{run['when']}, {run['machine']}. {run['rounds']} rounds, targets interleaved; least values "
             "over the rounds. *same*: inside of what two names for the same program differ by, in this workload or as a "
             "median over all of them, whichever is more.", ""]
    lines += [f"- `{name}`: {about}" for name, about in run["targets"].items()]
    if "stopped" in run:
        lines += ["", f"**{run['stopped']}**"]
    for workload, table in tables(run["samples"]).items():
        lines += ["", f"## {workload}", ""]
        if table.noise() is not None:
            lines += [f"Noise: {table.noise():.1%}.", ""]
        targets = list(dict.fromkeys(sample["target"] for sample in table.samples))
        lines += lines_of(headings(table), [row(table, target) for target in targets])
    lines += holds(run.get("holds", [])) + upkeep(run.get("upkeep"))
    failed = [sample for sample in run["samples"] if "error" in sample]
    if failed:
        lines += ["", "## Not measured", ""]
        lines += [f"- {sample['workload']} on {sample['target']}: `{sample['error']}`" for sample in failed]
    strangers = max((sample.get("strangers", 0) for sample in run["samples"]), default=0)
    lines += ["", f"Other programs took {strangers:.2f} cores at most during one of the runs; above some 0.2 rates and "
              "latencies say little.", "", "## Goals", "", *goal_lines(run), ""]
    return "\n".join(lines)


def holds(samples):
    if not samples:
        return []
    keys = ("command_ms", "drain_ms", "first_ms", "p50_ms", "p99_ms", "errors")
    lines = ["", "## Holds, 64 clients", "", "Milliseconds: of the command that holds, from the closed gate to drained, and "
             "from the command to open to the first, the median and the last of the clients answered. Median of the holds, "
             "and most.", ""]
    rows = []
    for target in dict.fromkeys(sample["target"] for sample in samples):
        found = {key: sorted(sample[key] for sample in samples if sample["target"] == target) for key in keys}
        rows.append([target] + [f"{shown(of[len(of) // 2], 1)} ({shown(of[-1], 1)})" for of in found.values()])
    return lines + lines_of(["target", "command", "drained", "first", "p50", "p99", "errors"], rows)


def upkeep(found):
    if not found:
        return []
    return ["", "## Upkeep", "", f"{found['sessions']} idle sessions with a scripted server, {found['seconds']} s: "
            f"{found['core']:.4%} of a core; without sessions {found['core_without_sessions']:.4%}. "
            f"Memory for each: {found['kib']:.2f} KiB."]


def write(run, directory):
    """JSON for programs, Markdown for people."""
    (directory / "loadtest.json").write_text(json.dumps(run, indent=1))
    (directory / "loadtest.md").write_text(markdown(run))
