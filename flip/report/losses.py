"""Plot training curves of all variants in one image, for `dvc plots`: viewing it needs no network."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

POINTS = 120  # per curve; a run logs more rows
PANEL, COLUMNS = (2.6, 1.7), 4  # inches; panels per row


def draw(logs: dict[str, list]) -> bytes:
    """Draw a PNG with a panel per variant, a line per seed; all panels share their axes."""
    rows = -(-len(logs) // COLUMNS)
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(PANEL[0] * COLUMNS, PANEL[1] * rows + 0.3), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat
        for panel, (name, seeds) in zip(panels, logs.items(), strict=False):
            for log in seeds:
                parts = np.array_split(log[["samples", "loss"]].to_numpy(), min(POINTS, len(log)))
                panel.plot(*np.array([part.mean(axis=0) for part in parts]).T, linewidth=1)
            panel.set_title(name, fontsize=8)
            panel.grid(alpha=0.25)
        panel.xaxis.set_major_locator(MaxNLocator(3))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        for panel in panels:  # those that are left
            panel.set_axis_off()
        figure.supxlabel("samples seen")
        figure.supylabel("loss")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()
