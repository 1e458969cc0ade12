"""One picture for each workload: the least value of each target, with the spread of the rounds."""

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

from . import report  # noqa: E402


def draw(run, directory):
    for workload, table in report.tables(run["samples"]).items():
        targets = [target for target in table.least if table.least[target] is not None]
        if not targets:
            continue
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
