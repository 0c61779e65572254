"""Charts of runs and results: loss and recall over epochs, recall@K, similarities, and places on the ground."""

import dataclasses
import functools
import itertools
import re

import numpy as np

from recall import reported_k
from safa.report.drawing import new_figure
from safa.runtime.errors import shortened

SIZE = 720, 510  # pixels: the text has 10 on a phone
MOST_BINS, BIN = 60, 8  # of a histogram, and queries a bin where these are few
MOST_OF_NAME = 60  # characters
MOST_NAMED = 12  # runs that a legend names; one alone needs none; where it names more curves, it stands beside them
NAME_HEIGHT = 27  # pixels of a line of that legend
MOST_MARKERS = 20  # of a line over epochs
FEW_COLOURS = 10  # of matplotlib's first palette; the second has twice as many
MARKERS = "osD^vP*X<>"
MARKED = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]  # K with a marker, and a number on the axis
_figure = functools.partial(new_figure, dpi=150, layout="constrained")


def training_curves(runs, columns=2):
    """Loss and recall over the epochs of runs, beside one another or in 1 of `columns`, as a matplotlib Figure.

    `runs`: {name: lines of `epoch_lines.read_lines`}.
    """
    figure = _figure(columns * SIZE[0], SIZE[1] * 2 // columns)
    loss, recall = figure.subplots(2 // columns, columns)
    for number, (name, lines) in enumerate(runs.items()):
        epochs, losses, first, fifth = np.array(lines, np.float64).reshape(len(lines), -1).T[:4]
        look = {"marker": MARKERS[number % len(MARKERS)], "ms": 4, "markevery": -(-len(epochs) // MOST_MARKERS)}
        loss.plot(epochs, losses, label=_label(shortened(name, MOST_OF_NAME)), **look)
        recall.plot(epochs, 100 * first, **look)
        recall.plot(epochs, 100 * fifth, ls="--", color=recall.lines[-1].get_color())
    loss.set(title="loss of training", xlabel="epoch", ylabel="loss")
    recall.set(title="recall on the validation split", xlabel="epoch", ylabel="percent; line: R@1, dashed: R@5", ylim=(0, 101))
    for axes in loss, recall:
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    if 1 < len(runs) <= MOST_NAMED:
        loss.legend(fontsize="small")
    return figure


def recall_figure(rows, authors, size=(960, 720)):
    """Recall@K from 1 to 1 % of the references as a matplotlib Figure, a panel for each dataset and split; K is logarithmic.

    Args:
        rows: of `rows.collect`.
        authors: {dataset: (n,) recall@1, @2, ... in percent} of the authors' own files; toy towns' panels have none.
        size: of a panel, in pixels.
    """
    import matplotlib

    groups = [(key, list(group)) for key, group in itertools.groupby(rows, key=lambda row: row.kind.table)]
    most = 6 + max(len(group) for _, group in groups)  # with the authors', the published ones, title and axis
    figure = _figure(size[0] * len(groups), max(size[1], NAME_HEIGHT * most))
    for axes, (title, group) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        # Both kinds of references have one colour; descriptors that were computed elsewhere may have a network's name.
        likes = [row.kind if row.kind.polar is None else dataclasses.replace(row.kind, polar=0) for row in group]
        unlike = list(dict.fromkeys(likes))
        colours = matplotlib.colormaps["tab20" if len(unlike) > FEW_COLOURS else "tab10"].colors
        with_sizes = len({row.kind.sizes for row in group}) > 1
        for row, like in zip(group, likes, strict=True):
            curves, number = row.curves, unlike.index(like)
            look = {"color": colours[number % len(colours)], "marker": MARKERS[number % len(MARKERS)]}
            look |= {"linestyle": "-" if row.kind.polar != 0 else "--", "label": _label(row.title(with_sizes))}
            ks, marked = range(1, curves.shape[1] + 1), [k - 1 for k in MARKED if k <= curves.shape[1]]
            axes.plot(ks, curves.mean(axis=0), markevery=marked, **look)
            if len(curves) > 1:
                axes.fill_between(ks, curves.min(axis=0), curves.max(axis=0), color=look["color"], alpha=0.15, linewidth=0)
            if row.published is not None:
                depths = reported_k(row.results[0].references).values()
                axes.plot(list(depths), row.published.recalls, "x", color=look["color"], label="published")
        of_authors = () if group[0].kind.toy_town else authors.get(group[0].kind.dataset, ())
        if len(of_authors):
            axes.plot(range(1, len(of_authors) + 1), of_authors, "k:", label="authors' file")
        bands = "; bands: all seeds, all severities" if any(len(row.results) > 1 for row in group) else ""
        axes.set(title=title, xlabel="K", ylabel=f"recall@K in percent{bands}", ylim=(0, 101), xscale="log")
        deepest = max(len(of_authors), 10, *(row.curves.shape[1] for row in group))
        axes.set_xlim(0.9, 1.1 * deepest)
        ticks = [k for k in MARKED if k <= deepest]
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
        named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(named) > MOST_NAMED else {"loc": "lower right"}
        axes.legend(named.values(), named, fontsize="small", **beside)
    return figure


def similarity_histogram(positive, negative):
    """Similarities of queries with their truth and with their hardest negative, as a matplotlib Figure."""
    figure = _figure(*SIZE)
    axes = figure.subplots()
    negative = negative[np.isfinite(negative)]
    bins = min(MOST_BINS, (len(positive) + len(negative)) // BIN + 8)
    look = {"histtype": "stepfilled", "alpha": 0.6, "color": ["tab:blue", "tab:orange"]}
    axes.hist([positive, negative], bins, label=["truth", "hardest negative"], **look)
    axes.set(title="similarity with the query", xlabel="similarity", ylabel="queries")
    axes.legend()
    return figure


def place_map(utm, ranks):
    """Test places in metres, coloured by rank: (Q, 2) eastings and northings, (Q,) ranks from 0."""
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
    return figure


def _label(name):
    """A name for a legend, which would obey "$", and leave out what begins with "_"."""
    return re.sub("^_", " _", name.replace("$", r"\$"))
