"""Charts of runs and results: loss and recall over epochs, recall@K, similarities, and places on the ground."""

import dataclasses
import itertools

import numpy as np

from recall import REPORTED
from safa.report.drawing import file_bytes

DPI = 150
SIZE = 4.8, 3.4  # inches: the text has 10 pixels on a phone
MOST_BINS, BIN = 60, 8  # of a histogram, and queries a bin where these are few
MOST_NAMED = 12  # runs that a legend names; one alone needs none
FEW_EPOCHS = 20  # a line through fewer points shows them
FEW_COLOURS = 10  # of matplotlib's first palette; the second has twice as many


def training_curves(runs, columns=2):
    """Loss and recall over the epochs of one or several runs.

    Args:
        runs: {name: lines of `epoch_lines.read_lines`}.
        columns: 2, beside one another; 1, above one another.

    Returns:
        Bytes of a PNG file.
    """
    figure = _figure(columns * SIZE[0], SIZE[1] * 2 / columns)
    loss, recall = figure.subplots(2 // columns, columns)
    for name, lines in runs.items():
        epochs, losses, first, fifth = np.array(lines, np.float64).reshape(len(lines), -1).T[:4]
        marker = "." if len(epochs) < FEW_EPOCHS else None
        loss.plot(epochs, losses, marker=marker, label=name)
        recall.plot(epochs, 100 * first, marker=marker, label=name)
        recall.plot(epochs, 100 * fifth, ls="--", color=recall.lines[-1].get_color())
    loss.set(title="loss of training", xlabel="epoch", ylabel="loss")
    recall.set(title="recall on the validation split", xlabel="epoch", ylabel="percent; line: R@1, dashed: R@5", ylim=(0, 101))
    for axes in loss, recall:
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        if 1 < len(runs) <= MOST_NAMED:
            axes.legend(fontsize="small")
    return file_bytes(figure)


def recall_figure(rows, authors, size=(6.4, 4.8)):
    """Recall@K from 1 to 1 % of the references as a matplotlib Figure, a panel for each dataset and split.

    Args:
        rows: of `rows.collect`.
        authors: {dataset: (n,) recall@1, @2, ... in percent} of the authors' own files.
        size: of a panel, in inches.
    """
    import matplotlib

    groups = [(key, list(group)) for key, group in itertools.groupby(rows, key=lambda row: (row.kind.dataset, row.kind.split))]
    figure = _figure(size[0] * len(groups), size[1])
    for axes, ((dataset, split), group) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        unlike = list(dict.fromkeys(_without_polar(row) for row in group))
        colours = matplotlib.colormaps["tab20" if len(unlike) > FEW_COLOURS else "tab10"].colors
        with_sizes = len({row.kind.sizes for row in group}) > 1
        for row in group:
            curve, title = row.curve, row.kind.title(with_sizes)
            colour = colours[unlike.index(_without_polar(row)) % len(colours)]
            look = {"linestyle": "-" if row.kind.polar else "--", "marker": "o" if len(curve) == 1 else None}
            axes.plot(range(1, len(curve) + 1), curve, color=colour, label=title, **look)
            if row.published is not None:
                depths = *REPORTED, max(1, row.results[0].references // 100)
                axes.plot(depths, row.published.recalls, "x", color=colour, label=f"{title}, published")
        if dataset in authors:
            axes.plot(range(1, len(authors[dataset]) + 1), authors[dataset], "k:", label="authors' file")
        axes.set(title=f"{dataset} {split}", xlabel="K", ylabel="recall@K in percent", ylim=(0, 101))
        axes.set_xlim(0.5, max(len(authors.get(dataset, ())), 10, *(len(row.curve) for row in group)) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower right")
    return figure


def _without_polar(row):
    """What a row is of but for its references: both kinds have one colour."""
    return dataclasses.replace(row.kind, polar=0)


def similarity_histogram(positive, negative):
    """Similarities of queries with their truth and with their hardest negative; bytes of a PNG file."""
    figure = _figure(*SIZE)
    axes = figure.subplots()
    negative = negative[np.isfinite(negative)]
    values = np.concatenate([positive, negative])
    bins = np.linspace(values.min(), max(values.max(), values.min() + 1e-6), min(MOST_BINS, len(values) // BIN + 8))
    axes.hist(positive, bins, alpha=0.6, color="tab:green", label="truth")
    axes.hist(negative, bins, alpha=0.6, color="tab:red", label="hardest negative")
    axes.set(title="similarity with the query", xlabel="similarity", ylabel="queries")
    axes.legend()
    return file_bytes(figure)


def place_map(utm, ranks):
    """Test places in metres, coloured by rank: (Q, 2) eastings and northings, (Q,) ranks from 0; bytes of a PNG file."""
    import matplotlib
    from matplotlib.colors import ListedColormap, LogNorm

    figure = _figure(SIZE[0], SIZE[0])
    axes = figure.subplots()
    order, highest = np.argsort(ranks), max(10, ranks.max() + 1)  # the wrong ones on top
    colours = ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.15, 1, 256)))
    east, north = (utm[order] - utm.mean(axis=0)).T
    shown = axes.scatter(east, north, c=ranks[order] + 1, s=9, cmap=colours, norm=LogNorm(1, highest))
    figure.colorbar(shown, ax=axes, location="bottom", shrink=0.8, label="rank of the first hit", format="{x:,.0f}")
    axes.set(title="test places", xlabel="metres east", ylabel="metres north", aspect="equal")
    return file_bytes(figure)


def _figure(*inches):
    from matplotlib.figure import Figure

    return Figure(figsize=inches, dpi=DPI, layout="constrained")
