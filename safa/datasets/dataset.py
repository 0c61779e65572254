"""What a dataset is: pairs of a panorama (the query) and an aerial tile (its reference), and questions about them."""

import abc
import dataclasses
import pathlib
import typing

import numpy as np

from safa.datasets.preparation import PREPARED_SIZE, Preparation
from safa.runtime.errors import UserError, first_few
from safa.runtime.files import naming, ordinary

POLAR, AERIAL = "polar", "aerial"  # kinds of references: polar maps, and the aerial tiles themselves
AGAIN = "take the file from the dataset again"
TOY_NOTE = "toy_world.json"  # in the folder of a dataset that `python -m toy_town` rendered


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Queries and references of one split: Q panoramas, each taken on one of N aerial tiles.

    In CVUSA and CVACT row i's panorama belongs to row i's tile; elsewhere tiles may have several panoramas, or none.
    """

    dataset: "Dataset"
    split: str  # name: "train", for instance
    reference: str  # POLAR or AERIAL
    ids: list[str]  # Q
    sat_paths: list[str]  # N files, of the references of that kind
    grd_paths: list[str]  # Q files, of the panoramas
    tile_paths: list[str]  # N files, of the aerial tiles, which polar maps are made from
    utm: np.ndarray | None = None  # (N, 2) float64 easting and northing of the references in metres, where they are known
    truth: np.ndarray | None = None  # (Q,) int64, the row of each query's reference; left out: row i of both is one place
    # For each query the rows of further references, hits and no negatives of it, (n,) int64 each.
    acceptable: list[np.ndarray] | None = None
    panorama_paths: list[str] | None = None  # Q files that `grd_paths` are prepared from; None: they are the dataset's own
    query_utm: np.ndarray | None = None  # (Q, 2) float64, as `utm`, of the panoramas; left out: their references'

    def __post_init__(self):
        if self.truth is None:
            object.__setattr__(self, "truth", np.arange(len(self.ids)))
        if self.query_utm is None and self.utm is not None:
            object.__setattr__(self, "query_utm", self.utm[self.truth])

    def __len__(self):
        return len(self.ids)

    @property
    def name(self):
        """For messages: "CVUSA train"."""
        return f"{self.dataset.name} {self.split}"

    @property
    def one_to_one(self):
        """Whether row i's panorama belongs to row i's reference, and every reference to a panorama."""
        return len(self.sat_paths) == len(self) and np.array_equal(self.truth, np.arange(len(self)))

    @property
    def sizes(self):
        """(height, width) of references and panoramas as published; resized copies have the same aspect ratio."""
        return self.dataset.polar_size if self.reference == POLAR else self.dataset.tile_size, self.dataset.query_size

    def take(self, queries, references=None):
        """The pairs of some queries, by row, and of these references, which hold the queries' (default: those alone)."""
        if references is None:
            references = self.truth[queries] if self.one_to_one else np.unique(self.truth[queries])
        row_of = np.full(len(self.sat_paths), -1)
        row_of[references] = np.arange(len(references))
        acceptable = self.acceptable and [row_of[self.acceptable[row]] for row in queries]
        return dataclasses.replace(
            self,
            **{name: [getattr(self, name)[row] for row in queries] for name in ("ids", "grd_paths")},
            **{name: [getattr(self, name)[row] for row in references] for name in ("sat_paths", "tile_paths")},
            utm=None if self.utm is None else self.utm[references],
            query_utm=None if self.query_utm is None else self.query_utm[queries],
            truth=row_of[self.truth[queries]],
            acceptable=acceptable and [rows[rows >= 0] for rows in acceptable],
            panorama_paths=self.panorama_paths and [self.panorama_paths[row] for row in queries],
        )


class Dataset(abc.ABC):
    """A dataset in a folder. A new one is a class like `cvusa.CVUSA` in a file of its own, and a line in `registry`.

    Args:
        data_dir: folder that holds the dataset's folder.
        prepared_dir: folder for the prepared files (default: `data_dir`).
    """

    tile_dir: str  # of the aerial tiles; `__init__` sets it
    polar_dir: str | None = None  # of their polar maps; None: the dataset has none, and needs --polar 0
    name: str  # of its result folders: "CVACT_test", for instance
    splits: tuple[str, ...]  # "train" is trained on, "val" validated on; others are tested on alone
    published_counts: dict[str, int] = {}  # pairs of each split as published
    tile_size: tuple[int, int]  # (height, width) in pixels, as published
    panorama_size: tuple[int, int]
    polar_size = PREPARED_SIZE  # (height, width) of the polar maps
    query_size: tuple[int, int]  # of the panoramas that the network reads, prepared or not
    tile_metres: float | None = None  # ground size of a tile, roughly, for the imagery of others
    vertical_fov: float | None = None  # degrees from top to bottom of the panoramas that the network reads
    negative_metres: float | None = None  # in training, pairs closer than this, by `utm`, are not negatives
    hit_metres: float | None = None  # in testing, a match this close to the truth, by `utm`, counts too
    # How its panoramas are prepared, (H, 2H, 3) uint8 -> (*query_size, 3) uint8; None: the network reads them as they are.
    prepare_panorama: typing.Callable[[np.ndarray], np.ndarray] | None = None
    has_panoramas = True  # False: its ground views do not show a full circle, and cannot be turned or cut
    is_centred = True  # whether panoramas are taken at the centres of their tiles
    own_flags: tuple[str, ...] = ()  # of `given_data.Folders`, which only this dataset takes, as arguments
    toy_town: str | None = None  # what `python -m toy_town --dataset` renders in its format

    def __init__(self, data_dir="Data", prepared_dir=None):
        self.data_dir, self.prepared_dir = data_dir, prepared_dir or data_dir

    @abc.abstractmethod
    def pairs(self, split, reference=POLAR):
        """The Pairs of one of `splits`, with POLAR or AERIAL references. Raises UserError if its list is missing or wrong."""

    def read_list(self, path, parse, form):
        """What `parse` makes of each line of a list, but for empty ones, in a spreadsheet's file commas alone.

        Raises UserError: there are no lines, or `parse` makes None of some; `form` says what they should be.
        """
        try:
            with naming(path), open(path, encoding="utf-8-sig", opener=ordinary) as file:
                lines = [(number, line.strip()) for number, line in enumerate(file, 1) if line.strip(", \r\n\t")]
        except FileNotFoundError:
            raise UserError(f"{path}: not found; {self.remedy()}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not a text file ({error}); {AGAIN}") from None
        rows = [parse(line) for _, line in lines]
        wrong = [f"line {number} ({line[:80]!r})" for (number, line), row in zip(lines, rows, strict=True) if row is None]
        if wrong or not rows:
            what = f"{len(wrong):,} of {len(rows):,} lines are not {form}: {first_few(wrong)}" if rows else "nothing in it"
            raise UserError(f"{path}: {what}; {AGAIN}")
        return rows

    @property
    def is_toy_town(self):
        """Whether its places were rendered; `tile_dir` lies in its folder."""
        folder = pathlib.Path(self.tile_dir)
        return any((each / TOY_NOTE).exists() for each in (folder, *folder.parents[:2]))

    def preparations(self):
        """What `data_preparation.py` makes: list of Preparation, polar maps first."""
        if self.polar_dir is None:
            return []
        folders = self.tile_dir, self.polar_dir, self.tile_size, self.remedy()
        return [Preparation(f"{self.name} polar maps", *folders, size=self.polar_size)]

    def remedy(self):
        """What a user does about a dataset that is not there."""
        toy = self.toy_town and f", or render a toy town: python -m toy_town --dataset {self.toy_town} --data_dir DIR"
        return f"put the dataset into '{self.data_dir}' or name its folder with --data_dir (README, 'Data'){toy or ''}"
