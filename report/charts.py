"""Charts of a run: loss and recall over epochs, similarities, and places on the ground."""

import numpy as np

from report.curves import as_bytes

PNG_DPI = 110
SIZE = 6.4, 4.0  # inches
MOST_BINS, BIN = 60, 8  # of a histogram, and queries a bin where these are few
MOST_NAMED = 12  # runs that a legend names


def training_curves(runs):
    """Loss and recall over the epochs of one or several runs.

    Args:
        runs: {name: lines of `epoch_lines.read_lines`}.

    Returns:
        Bytes of a PNG file.
    """
    figure = _figure((2 * SIZE[0], SIZE[1]))
    loss, recall = figure.subplots(1, 2)
    for name, lines in runs.items():
        columns = np.array(lines, np.float64).reshape(len(lines), -1)
        loss.plot(columns[:, 0], columns[:, 1], marker="." if len(columns) < 20 else None, label=name)
        recall.plot(columns[:, 0], 100 * columns[:, 2], marker="." if len(columns) < 20 else None, label=f"{name}, R@1")
        recall.plot(columns[:, 0], 100 * columns[:, 3], ls="--", color=recall.lines[-1].get_color(), label=f"{name}, R@5")
    loss.set(title="loss of training", xlabel="epoch", ylabel="loss")
    recall.set(title="recall on the validation split", xlabel="epoch", ylabel="percent", ylim=(0, 101))
    for axes in loss, recall:
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(runs) <= MOST_NAMED:
            axes.legend(fontsize="small")
    return _png(figure)


def similarity_histogram(positive, negative):
    """Similarities of queries with their truth and with their hardest negative; bytes of a PNG file."""
    figure = _figure(SIZE)
    axes = figure.subplots()
    negative = negative[np.isfinite(negative)]
    values = np.concatenate([positive, negative])
    bins = np.linspace(values.min(), max(values.max(), values.min() + 1e-6), min(MOST_BINS, len(values) // BIN + 8))
    axes.hist(positive, bins, alpha=0.6, color="tab:green", label="truth")
    axes.hist(negative, bins, alpha=0.6, color="tab:red", label="hardest negative")
    axes.set(title="similarity with the query", xlabel="similarity", ylabel="queries")
    axes.legend()
    return _png(figure)


def place_map(utm, ranks):
    """Test places in metres, coloured by rank: (Q, 2) positions and (Q,) ranks from 0; bytes of a PNG file."""
    import matplotlib

    figure = _figure((SIZE[0], SIZE[0]))
    axes = figure.subplots()
    order = np.argsort(ranks)  # the wrong ones on top
    colours = matplotlib.colormaps["plasma"]
    centre = utm.mean(axis=0)
    shown = axes.scatter(*(utm[order] - centre).T, c=np.log10(ranks[order] + 1), s=9, cmap=colours)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    highest = int(np.log10(ranks.max() + 1)) if len(ranks) else 0
    bar.set_ticks(range(highest + 1), labels=[f"{10**power:,}" for power in range(highest + 1)])
    bar.set_label("rank of the truth")
    axes.set(title="test places", xlabel="metres east", ylabel="metres north", aspect="equal")
    return _png(figure)


def _figure(size):
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _png(figure):
    return as_bytes(figure, dpi=PNG_DPI)
