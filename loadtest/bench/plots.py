"""One picture for each workload: the least value of each target, with the spread of the rounds. And one of them
all: pgdrain to those whom it is compared with."""

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

from . import goals, report  # noqa: E402


def draw(run, directory):
    tables = report.tables(run["samples"])
    for workload, table in tables.items():
        one(workload, table, directory)
    overview(tables, directory)


def one(workload, table, directory):
    targets = [target for target in table.least if table.least[target] is not None]
    if not targets:
        return
    least = [table.least[target] for target in targets]
    above = [table.most[target] - table.least[target] for target in targets]
    figure, axes = pyplot.subplots(figsize=(7, 0.4 * len(targets) + 1.2), layout="constrained")
    ours = ["tab:blue" if target.startswith("pgdrain") else "tab:gray" for target in targets]
    axes.barh(targets, least, xerr=[[0] * len(least), above], color=ours)
    axes.invert_yaxis()
    axes.set_xlabel(report.headings(table)[1].split(":")[0])
    axes.set_title(workload)
    figure.savefig(directory / f"{workload}.svg")
    pyplot.close(figure)


def overview(tables, directory):
    """Ratios to each reference; the band is the noise."""
    names = [name for name, table in tables.items() if any(table.ratio(goals.OURS, to) for to in report.REFERENCES)]
    if not names:
        return
    figure, axes = pyplot.subplots(figsize=(8, 0.35 * len(names) + 1.5), layout="constrained")
    for reference, mark in zip(report.REFERENCES, ("o", "s")):
        ratios = [(tables[name].ratio(goals.OURS, reference), name) for name in names]
        at = [(ratio, name) for ratio, name in ratios if ratio]
        axes.plot([ratio for ratio, _ in at], [name for _, name in at], mark, label=f"to {reference}")
    for height, name in enumerate(names):
        noise = tables[name].noise() or 0
        axes.fill_betweenx([height - 0.4, height + 0.4], 1 - noise, 1 + noise, color="tab:gray", alpha=0.25)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel(f"{goals.OURS}: cost as a ratio, least to least")
    axes.legend()
    figure.savefig(directory / "overview.svg")
    pyplot.close(figure)
