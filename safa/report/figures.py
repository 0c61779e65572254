"""Figures of a test: queries with their matches, and what descriptors rest on."""

import dataclasses
import functools
import os
import re

import numpy as np
from tqdm import tqdm

from polar_transform import tile_of_polar
from safa.datasets.dataset import POLAR
from safa.datasets.image_files import ImageError, read_image
from safa.report.attention_panels import attention_panel, coloured, limit_of, on_tile, spread_over
from safa.report.canvas import save_png
from safa.report.charts import similarity_histogram
from safa.report.retrieval_panels import SHOWN, Shown, contact_sheet, retrieval_panel
from safa.retrieval.margins import margins
from safa.retrieval.search import SearchResult
from safa.retrieval.task import GROUND_TO_AERIAL
from safa.runtime.errors import UserError, first_few
from safa.runtime.files import remove_abandoned, write_whole

SEED = 0  # of the draw of queries
SHEET, SIMILARITIES = "contact_sheet.png", "similarities.png"
MOST_ON_SHEET = 40  # panels: a picture that viewers still open
WITH_ATTENTION = "SAFA_M", "VGG_gp"  # aggregations whose descriptors are sums over positions


@dataclasses.dataclass(frozen=True)
class FigureSource:
    """What figures are drawn from.

    Attributes:
        pairs: datasets.dataset.Pairs.
        task: retrieval.task.Task.
        direction: of the task.
        references, queries: (N, D) and (Q, D) or (Q, T, D) float32 descriptors.
        ranks: (Q,) ranks from 0 of the best hit.
        found: retrieval.search.SearchResult of all queries.
        width: of the network's panoramas.
        turned: datasets.panorama_views.TurnedPanoramas of the queries at that width, or None.
    """

    pairs: object
    task: object
    direction: str
    references: np.ndarray
    queries: np.ndarray
    ranks: np.ndarray
    found: SearchResult
    width: int
    turned: object = None

    def query(self, row):
        """The picture of a query: (H, W, 3) uint8, BGR."""
        if self.direction != GROUND_TO_AERIAL:
            return self._aerial(self.task.queries[row])
        panorama = _picture(self.pairs.grd_paths[row])
        if self.turned is None:
            return panorama
        turned = self.turned.scaled(panorama.shape[1] / self.width)
        return np.rint(turned(row, panorama)).astype(np.uint8)

    def reference(self, row):
        """The picture of a reference: (H, W, 3) uint8, BGR."""
        return self._aerial(row) if self.direction == GROUND_TO_AERIAL else _picture(self.pairs.grd_paths[row])

    def tile(self, row):
        """The north-up tile of a reference, which networks of polar maps need not have: None where there is no square image."""
        try:
            tile = read_image(self.pairs.tile_paths[row])
        except ImageError:
            return None
        return tile if tile.shape[0] == tile.shape[1] else None

    def _aerial(self, row):
        tile = self.tile(row)
        return _picture(self.pairs.sat_paths[row]) if tile is None else tile

    def metres(self, query, reference):
        """Distance of a reference to a query's truth, or None."""
        if self.task.query_utm is None:
            return None
        return float(np.linalg.norm(self.task.reference_utm[reference] - self.task.query_utm[query]))


def _picture(path):
    try:
        return read_image(path)
    except ImageError as error:
        raise UserError(f"{error}; it cannot be drawn") from None


def chosen_queries(task, count, ids=None, among=None):
    """Rows of the queries to draw.

    Args:
        task: retrieval.task.Task.
        count: how many are drawn at random, always the same.
        ids: names of those to take instead.
        among: (Q,) bool, those that may be drawn (default: all).

    Returns:
        Sorted rows, or those of `ids` in their order.

    Raises:
        UserError: there is no query of a name.
    """
    if ids is not None:
        row_of = {name: row for row, name in enumerate(task.ids)}
        unknown = [name for name in ids if name not in row_of]
        if unknown:
            raise UserError(f"--queries {','.join(ids)}: no query {first_few(unknown)} in this split; see its list for the ids")
        return [row_of[name] for name in ids]
    candidates = np.arange(len(task.ids)) if among is None else np.flatnonzero(among)
    drawn = np.random.default_rng(SEED).permutation(candidates)[:count]
    return np.sort(drawn).tolist()


def draw_retrievals(folder, tested, rows):
    """Write a panel for each of these queries, and a contact sheet of the first MOST_ON_SHEET; returns the files' paths."""
    first = []

    def panels():
        for panel in retrieval_panels(tested, rows):
            if len(first) < MOST_ON_SHEET:
                first.append(panel)
            yield panel

    paths = _write(folder, "", tested, rows, panels())
    save_png(os.path.join(folder, SHEET), contact_sheet(first))
    return [*paths, os.path.join(folder, SHEET)]


def retrieval_panels(tested, rows):
    """The panel of each of these queries: (H, W, 3) uint8, BGR."""
    task, found = tested.task, tested.found
    for row in rows:
        truth = int(task.truth[row])
        hits = {truth} if task.near is None else set(task.near[row].tolist())
        winners = zip(found.winners[row, :SHOWN].tolist(), found.similarities[row, :SHOWN], strict=True)
        best = [
            Shown(tested.reference(winner), rank, similarity, winner in hits, tested.metres(row, winner))
            for rank, (winner, similarity) in enumerate(winners, 1)
        ]
        true = Shown(tested.reference(truth), int(found.closer[row]) + 1, found.similarity[row], True)
        title = f"{tested.pairs.name} {task.ids[row]}: truth at rank {true.rank:,} of {len(tested.references):,}"
        yield retrieval_panel(title, tested.query(row), best, true)


def _write(folder, prefix, tested, rows, panels):
    """Write these panels, one at a time; those of an earlier test go."""
    os.makedirs(folder, exist_ok=True)
    remove_abandoned(folder)
    for name in os.listdir(folder):
        if re.fullmatch(rf"{prefix}\d{{3,}}_.*\.png", name):
            os.unlink(os.path.join(folder, name))
    names = [re.sub(r"[^A-Za-z0-9_-]", "_", tested.task.ids[row])[:80] for row in rows]
    paths = [os.path.join(folder, f"{prefix}{number:03}_{name}.png") for number, name in enumerate(names, 1)]
    for path, panel in zip(paths, tqdm(panels, "figures", len(paths), leave=False, unit="figure", disable=None), strict=True):
        save_png(path, panel)
    return paths


def draw_similarities(folder, tested):
    """Write a histogram of the similarities with the truth and with the hardest negative; returns its path."""
    positive, negative = margins(tested.task, tested.found)
    path = os.path.join(folder, SIMILARITIES)
    write_whole(path, similarity_histogram(positive, negative))
    return path


def draw_attention(folder, tested, rows, network, images):
    """Write a panel of attention for each of these queries; arguments as of `attention_panels`."""
    return _write(folder, "attention_", tested, rows, attention_panels(tested, rows, network, images))


def attention_panels(tested, rows, network, images):
    """What the descriptors of queries and their best matches rest on: (H, W, 3) uint8, BGR, for each query.

    Args:
        tested: FigureSource, of panoramas among aerial images.
        rows: queries.
        network: keras.Model of `spatial_net.network`, with its weights.
        images: datasets.pair_images.PairImages, as the network reads them.
    """
    from safa.retrieval.attention import branch_maps

    task = tested.task
    for row in rows:
        match = int(tested.found.winners[row, 0])
        inputs = images.sat.read(match), images.grd.read(row)
        maps = [
            branch_maps(getattr(network, branch), image[None]) for branch, image in zip(("sat", "grd"), inputs, strict=True)
        ]
        others = tested.queries[row][None], tested.references[match][None]
        pictures = [np.rint(image).astype(np.uint8) for image in inputs]
        columns = [
            [
                (title, picture),
                *_layers(picture, each, other, lambda values, picture=picture: spread_over(values, picture.shape)),
            ]
            for title, picture, each, other in zip(("match", "query"), pictures, maps, others, strict=True)
        ]
        if tested.pairs.reference == POLAR:
            over_polar, caption, tile = functools.partial(spread_over, shape=pictures[0].shape), "tile", tested.tile(match)
            if tile is None:
                caption, (tile, _) = "warped back", tile_of_polar(pictures[0], 2 * pictures[0].shape[0])
            layers = _layers(tile, maps[0], others[0], lambda values, tile=tile, over=over_polar: on_tile(tile, over(values)))
            columns.insert(0, [(caption, tile), *layers])
        near = () if task.near is None else task.near[row]
        right = "the truth" if match == task.truth[row] else "another hit" if match in near else "another place"
        similarity = tested.found.similarities[row, 0]
        title = f"{tested.pairs.name} {task.ids[row]}: best match is {right}, similarity {similarity:.3f}"
        yield attention_panel(title, columns)


def _layers(picture, maps, other, over):
    """(caption, picture) of the parts of a similarity and of all embeddings' weights; `over` spreads values over pixels."""
    parts = maps.contributions(other)[0]
    shown = [("parts", parts)]
    shown += [
        (f"weights {number}", weights) for number, weights in enumerate([] if maps.weights is None else maps.weights[0], 1)
    ]
    return [(caption, coloured(picture, over(values), limit_of(values))) for caption, values in shown]
