"""Figures of a test: which are drawn, from what, and their files."""

import dataclasses
import os
import re

import numpy as np

from safa.datasets.image_files import ImageError, read_image
from safa.datasets.pair_images import PairImages
from safa.report.attention_panels import attention_panel
from safa.report.charts import similarity_histogram
from safa.report.drawing import bgr_pixels, file_bytes
from safa.report.retrieval_panels import contact_sheet, query_images, retrieval_panel
from safa.retrieval.evaluation import margins
from safa.retrieval.search import SearchResult
from safa.retrieval.task import GROUND_TO_AERIAL, Task
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, first_few
from safa.runtime.files import remove_abandoned, write_whole
from safa.runtime.progress import ProgressBar

SEED = 0  # of the draw of queries
MOST_ON_SHEET = 40  # queries: a picture that viewers still open
SHOWN_QUERIES = 4  # of the validation split, in TensorBoard
SHEET, SIMILARITIES = "contact_sheet.png", "similarities.png"
WITH_ATTENTION = "SAFA_M", "VGG_gp"  # aggregations whose descriptors are sums over positions


@dataclasses.dataclass(frozen=True)
class FigureConfig(Checked):
    """Which figures a test writes to a folder beside its result file."""

    figures: int | None = setting(
        None,
        "draw N queries with best and true references, a contact sheet, a histogram; of a grid, clean ones (default: none)",
        at_least(int, 1),
        metavar="N",
    )
    attention: int | None = setting(
        None,
        "draw for N queries and their best match what the descriptors rest on: each position's part of the similarity, and "
        "the position weights of all embeddings (default: none)",
        at_least(int, 1),
        metavar="N",
    )
    report: bool = setting(
        False,
        "write one page that shows the test, beside the result file: recalls, curves, figures (as many as --figures and "
        "--attention say, else a few), the worst queries, settings and versions",
    )
    only_wrong: bool = setting(False, "draw only queries whose best reference is wrong")
    queries: str | None = setting(None, "draw these queries (default: random ones, the same in every test)", metavar="ID,ID")

    def check(self, task, direction, network, view):
        """Refuse, by the flag, what contradicts a test's Task, its direction, NetworkConfig and PanoramaView."""
        for flag in "only_wrong", "queries":
            if getattr(self, flag) and not (self.figures or self.attention or self.report):
                raise UserError(f"--{flag}: chooses queries to draw; use --figures, --attention or --report with it")
        if self.queries:
            if self.only_wrong:
                raise UserError("--queries: names what is drawn; leave --only_wrong out")
            self.chosen(task, None, 0)
        if self.attention:
            if direction != GROUND_TO_AERIAL or view.search_heading > 1:
                raise UserError("--attention: needs panoramas as queries, at one turn; omit --direction and --search_heading")
            if network.aggregation[0] not in WITH_ATTENTION:
                raise UserError(f"--attention: {network.network_type} has no position weights and no maximum; leave it out")

    def chosen(self, task, ranks, count):
        """Rows of the queries of a Task to draw: `queries` in their order, else `count` at random, always the same, sorted.

        `ranks`: (Q,) from 0, of the best hit; None where all may be drawn. Raises UserError if a name is no query's.
        """
        if self.queries:
            names = [name.strip() for name in self.queries.split(",")]
            row_of = {name: row for row, name in enumerate(task.ids)}
            if unknown := [name for name in names if name not in row_of]:
                raise UserError(f"--queries: no query {first_few(unknown)} in this split; see its list for the ids")
            return [row_of[name] for name in names]
        candidates = np.flatnonzero(ranks) if self.only_wrong else np.arange(len(task.ids))
        return np.sort(np.random.default_rng(SEED).permutation(candidates)[:count]).tolist()


@dataclasses.dataclass(frozen=True)
class FigureSource:
    """What figures are drawn from; all pictures are (H, W, 3) uint8, BGR."""

    images: PairImages  # as the network reads them, of `pairs`, datasets.dataset.Pairs
    task: Task
    direction: str  # of the task
    found: SearchResult  # of all queries
    references: np.ndarray | None = None  # (N, D) float32 descriptors, for figures of attention
    queries: np.ndarray | None = None  # (Q, D) or (Q, T, D) float32

    pairs = property(lambda self: self.images.pairs)

    @property
    def ranks(self):
        """(Q,) int64 ranks from 0 of the best hit."""
        return self.found.closer if self.task.near is None else self.found.near_closer

    def hits(self, row):
        """The set of rows of references that are hits of a query."""
        return {int(self.task.truth[row]), *([] if self.task.near is None else self.task.near[row].tolist())}

    def query(self, row):
        """The picture of a query."""
        return self._panorama(row) if self.direction == GROUND_TO_AERIAL else self._aerial(self.task.queries[row])

    def reference(self, row):
        """The picture of a reference."""
        return self._aerial(row) if self.direction == GROUND_TO_AERIAL else self._panorama(row)

    def _panorama(self, row):
        """A panorama, turned, cut and corrupted as the network sees it."""
        if self.images.grd.corrupted is not None:
            return np.rint(self.images.grd.read(row)).astype(np.uint8)
        panorama, turned = _picture(self.pairs.grd_paths[row]), self.images.grd.turned
        return panorama if turned is None else np.rint(turned(row, panorama)).astype(np.uint8)

    def tile(self, row):
        """The north-up tile of a reference, which networks of polar maps need not have: None without a square image."""
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


def draw_figures(config, folder, tested, network):
    """Write the figures of a FigureSource that a FigureConfig asks for to a folder, and say where; those of an earlier test go.

    `network`: spatial_net.Network with the tested weights.
    """
    kinds = (
        ("", config.figures, lambda row: retrieval_panel(*query_images(tested, row))),
        ("attention_", config.attention, lambda row: attention_panel(tested, row, network)),
    )
    count = 0
    for prefix, asked, draw in kinds:
        if not asked:
            continue
        os.makedirs(folder, exist_ok=True)
        remove_abandoned(folder)
        for name in os.listdir(folder):
            if re.fullmatch(rf"{prefix}\d{{3,}}_.*\.png", name) or not prefix and name in (SHEET, SIMILARITIES):
                os.unlink(os.path.join(folder, name))
        rows = config.chosen(tested.task, tested.ranks, asked)
        for number, row in enumerate(ProgressBar(rows, "figures", len(rows), "figures"), 1):
            name = re.sub(r"[^A-Za-z0-9_-]", "_", tested.task.ids[row])[:80]
            write_whole(os.path.join(folder, f"{prefix}{number:03}_{name}.png"), file_bytes(draw(row)))
        count += len(rows)
        if rows and not prefix:
            write_whole(os.path.join(folder, SHEET), file_bytes(contact_sheet(tested, rows[:MOST_ON_SHEET])))
            histogram = similarity_histogram(*margins(tested.task, tested.found))
            write_whole(os.path.join(folder, SIMILARITIES), file_bytes(histogram))
            count += 2
    if config.figures or config.attention:
        print(f"{count} figures in {folder}" if count else "no query is wrong: nothing to draw", flush=True)


def validation_sheet(images, task, found):
    """A contact sheet of SHOWN_QUERIES panoramas, the same ones each time, by the SearchResult of a Task: (H, W, 3) uint8, BGR.

    `images`: PairImages. `found` has at least `retrieval_panels.BEST` winners a query.
    """
    tested = FigureSource(images, task, GROUND_TO_AERIAL, found)
    return bgr_pixels(contact_sheet(tested, FigureConfig().chosen(task, None, SHOWN_QUERIES)))
