"""Curves of recall@K, as in the paper's figures."""

import dataclasses
import io
import itertools
import os

import numpy as np
import scipy.io

from recall import REPORTED
from safa.runtime.errors import UserError, first_line
from safa.runtime.files import ordinary, write_whole

FORMATS = "png", "pdf"
MOST_BYTES = 2**26  # of a file of recalls


def draw_curves(rows, authors, folder):
    """Write curves.png and curves.pdf: `recall_figure`.

    Args:
        rows, authors: as of `recall_figure`.
        folder: to write to.

    Returns:
        Paths of the files.

    Raises:
        OSError: a file cannot be written.
    """
    figure, paths = recall_figure(rows, authors), []
    for kind in FORMATS:
        paths.append(os.path.join(folder, f"curves.{kind}"))
        write_whole(paths[-1], as_bytes(figure, kind))
    return paths


def as_bytes(figure, kind="png", dpi=150):
    """The file of a matplotlib Figure, in which a "$" of a run's name is no formula."""
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=dpi)
    return content.getvalue()


def recall_figure(rows, authors):
    """Recall@K from 1 to 1 % of the references as a matplotlib Figure, a panel for each dataset and split.

    Args:
        rows: of `rows.collect`.
        authors: {dataset: (n,) recall@1, @2, ... in percent} of the authors' own files.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    groups = [(key, list(group)) for key, group in itertools.groupby(rows, key=lambda row: (row.kind.dataset, row.kind.split))]
    figure = Figure(figsize=(6.4 * len(groups), 4.8), layout="constrained")
    for axes, ((dataset, split), group) in zip(np.ravel(figure.subplots(1, len(groups), squeeze=False)), groups, strict=True):
        unlike = list(dict.fromkeys(_without_polar(row) for row in group))
        colours = matplotlib.colormaps["tab20" if len(unlike) > 10 else "tab10"].colors
        with_sizes = len({row.kind.sizes for row in group}) > 1
        for row in group:
            curve, title = row.curve, row.kind.title(with_sizes)
            colour = colours[unlike.index(_without_polar(row)) % len(colours)]
            look = {"linestyle": "-" if row.kind.polar else "--", "marker": "o" if len(curve) == 1 else None}
            axes.plot(range(1, len(curve) + 1), curve, color=colour, label=title, **look)
            if row.published is not None:
                depths = *REPORTED, max(1, row.results[0]["references"] // 100)
                axes.plot(depths, row.published.recalls, "x", color=colour, label=f"{title}, published")
        if dataset in authors:
            curve = authors[dataset]
            axes.plot(range(1, len(curve) + 1), curve, "k:", label="authors' file")
        axes.set(title=f"{dataset} {split}", xlabel="K", ylabel="recall@K in percent")
        longest = max([len(row.curve) for row in group] + [len(authors.get(dataset, ()))])
        axes.set_xlim(0.5, max(longest, 10) + 0.5)
        axes.set_ylim(0, 101)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower right")
    return figure


def _without_polar(row):
    """What a row is of but for its references: both kinds have one colour."""
    return dataclasses.replace(row.kind, polar=0)


def read_recalls(path):
    """recall@1, @2, ... from a file: the one list of numbers in a .mat or .npy file, or the numbers of a text file.

    Returns:
        (n,) float64 percent; fractions are recognised by none being above 1. A 0 before the others is left out: the authors'
        scripts count recall@0, recall@1, ...

    Raises:
        UserError: it cannot be read, or is no list of recalls.
    """
    try:
        with open(path, "rb", opener=ordinary) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes")
        if path.endswith(".mat"):
            arrays = [value for name, value in scipy.io.loadmat(io.BytesIO(content)).items() if not name.startswith("_")]
            numbers = [np.ravel(array) for array in arrays if np.issubdtype(array.dtype, np.number) and array.size > 1]
            if len(numbers) != 1:
                raise ValueError(f"{len(numbers)} lists of numbers instead of one")
            recalls = numbers[0].astype(np.float64)
        elif path.endswith(".npy"):
            recalls = np.ravel(np.load(io.BytesIO(content), allow_pickle=False)).astype(np.float64)
        else:
            recalls = np.array(content.decode().replace(",", " ").split(), np.float64)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a file of recalls") from None
    except UserError:
        raise
    except Exception as error:  # whatever broken bytes lead the readers to
        raise UserError(f"{path}: not a list of recalls ({first_line(error)}); name a .mat, .npy or text file") from None
    if not recalls.size or not np.isfinite(recalls).all() or recalls.min() < 0 or recalls.max() > 100:
        raise UserError(f"{path}: not recalls: numbers between 0 and 100, or fractions, are expected")
    if (np.diff(recalls) < 0).any():
        raise UserError(f"{path}: not recall@1, @2, ...: these never fall")
    if len(recalls) > 1 and not recalls[0]:
        recalls = recalls[1:]
    return recalls * (100 if recalls.max() <= 1 else 1)
