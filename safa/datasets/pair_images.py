"""The images of a split's pairs as the network reads them: resized, kept in memory, changed for an epoch or a test."""

import dataclasses
import functools

import numpy as np

from safa.datasets.corruptions import CorruptedPanoramas
from safa.datasets.dataset import Pairs
from safa.datasets.image_files import read_input
from safa.datasets.pair_augmentation import AugmentedPairs
from safa.datasets.panorama_views import TurnedPanoramas


@dataclasses.dataclass(frozen=True)
class BranchImages:
    """The images of one branch: `input_data.Images`."""

    paths: list[str]  # N files
    shape: tuple[int, int]  # (height, width) of the network's input; images of another size are resized by area
    cache: list[np.ndarray | None] | None = None  # N images, (height, width, 3) uint8, as far as they were read
    augmented: object = None  # function of a row and its image that changes it
    turned: TurnedPanoramas | None = None  # of N rows; they come last
    corrupted: CorruptedPanoramas | None = None  # that read the files

    @property
    def dtype(self):
        """Of the images: uint8, or float32 where a part of them is not seen."""
        return np.uint8 if self.turned is None else self.turned.dtype

    def read(self, row):
        """The image of a row: (*shape, 3) `dtype`, BGR. Raises UserError where it cannot be read."""
        image = self.cache and self.cache[row]
        if image is None:
            read = read_input if self.corrupted is None else functools.partial(self.corrupted.read, row)
            image = read(self.paths[row], self.shape)
            if self.cache is not None:
                self.cache[row] = image
        if self.augmented is not None:
            image = self.augmented(row, image)
        return image if self.turned is None else self.turned(row, image)


@dataclasses.dataclass(frozen=True)
class PairImages:
    """The images of a split's pairs: `input_data.Pairs`.

    `sat` has the references, `grd` the queries.
    """

    pairs: Pairs
    sat: BranchImages
    grd: BranchImages

    @classmethod
    def of(cls, pairs, shapes, panoramas=None, cached=False, corrupted=None):
        """The images of Pairs, as inputs of these (height, width), satellite and ground.

        Args:
            panoramas: TurnedPanoramas of the queries; None: as they are.
            cached: keep decoded images in memory.
            corrupted: CorruptedPanoramas of the queries, or None.
        """
        sat, grd = (
            BranchImages(paths, shape, [None] * len(paths) if cached else None)
            for paths, shape in zip((pairs.sat_paths, pairs.grd_paths), shapes, strict=True)
        )
        return cls(pairs, sat, dataclasses.replace(grd, turned=panoramas, corrupted=corrupted))

    def changed(self, augmented: AugmentedPairs | None, panoramas: TurnedPanoramas | None):
        """The same images, changed for an epoch of training: turned and mirrored pairs, then turned and cut panoramas."""
        of_sat, of_grd = (None, None) if augmented is None else (augmented.sat, augmented.grd)
        sat = dataclasses.replace(self.sat, augmented=of_sat)
        return PairImages(self.pairs, sat, dataclasses.replace(self.grd, augmented=of_grd, turned=panoramas))

    truth = property(lambda self: self.pairs.truth)
