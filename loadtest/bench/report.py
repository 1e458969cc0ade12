"""From samples to tables: least values, their spread, ratios, and what the noise allows to be said."""

import json

REFERENCES = ("pgbouncer-session", "pump-1")
# The same program and settings under two names: what they differ by is noise.
PAIR = ("pgdrain-1", "pgdrain-1-again")


def figure(sample):
    """What is compared: CPU for each unit, or memory."""
    return sample.get("kib", sample.get("cpu"))


class Table:
    """The samples of one workload."""

    def __init__(self, samples):
        self.samples, self.least, self.median, self.most = samples, {}, {}, {}
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

    def noise(self):
        """How far apart the same thing is, as a share; `None` if it was not measured twice."""
        first, again = (self.least.get(name) for name in PAIR)
        if not first or not again:
            return None
        return abs(first / again - 1)

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
    return {workload: Table(found) for workload, found in by_workload.items()}


def shown(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.0f}"


def headings(table):
    cost = "KiB" if table.is_memory else "CPU s" if table.unit == "GiB" else "CPU us"
    columns = ["target", f"{cost} per {table.unit}: least", "median", "most"]
    columns += [f"to {reference}" for reference in REFERENCES]
    if not table.is_memory:
        columns += [f"{table.unit}s a second", "p50 ms", "p99 ms", "p999 ms", "switches", "server CPU"]
    return columns


def row(table, target):
    cells = [target, shown(table.least.get(target)), shown(table.median.get(target)), shown(table.most.get(target))]
    cells += [table.said(target, reference) for reference in REFERENCES]
    if not table.is_memory:
        cells.append(shown(table.best(target, "per_second", max)))
        cells += [shown(table.best(target, key, min)) for key in ("p50_ms", "p99_ms", "p999_ms", "switches", "server_cpu")]
    return cells


def markdown(run):
    """The whole report."""
    lines = ["# Load test", "", f"{run['when']}, {run['machine']}. {run['rounds']} rounds, targets interleaved; least values "
             "over the rounds. *same*: inside of what two names for the same program differ by.", ""]
    lines += [f"- `{name}`: {about}" for name, about in run["targets"].items()]
    for workload, table in tables(run["samples"]).items():
        noise = table.noise()
        lines += ["", f"## {workload}", ""]
        if noise is not None:
            lines += [f"Noise: {noise:.1%}.", ""]
        columns = headings(table)
        lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        targets = list(dict.fromkeys(sample["target"] for sample in table.samples))
        lines += ["| " + " | ".join(row(table, target)) + " |" for target in targets]
    lines += holds(run.get("holds", []))
    failed = [sample for sample in run["samples"] if "error" in sample]
    if failed:
        lines += ["", "## Not measured", ""]
        lines += [f"- {sample['workload']} on {sample['target']}: `{sample['error']}`" for sample in failed]
    strangers = max((sample.get("strangers", 0) for sample in run["samples"]), default=0)
    lines += ["", f"Other programs took {strangers:.2f} cores at most during one of the runs; above some 0.2 rates and "
              "latencies say little.", ""]
    return "\n".join(lines)


def holds(samples):
    if not samples:
        return []
    keys = ("drain_ms", "first_ms", "p50_ms", "p99_ms", "errors")
    lines = ["", "## Holds, 64 clients", "", "Milliseconds from the hold to drained, and from the command to open to the "
             "first, the median and the last of the clients answered.", "",
             "| drained | first | p50 | p99 | errors |", "| --- | --- | --- | --- | --- |"]
    return lines + ["| " + " | ".join(shown(sample[key], 1) for key in keys) + " |" for sample in samples]


def write(run, directory):
    """JSON for programs, Markdown for people."""
    (directory / "loadtest.json").write_text(json.dumps(run, indent=1))
    (directory / "loadtest.md").write_text(markdown(run))
