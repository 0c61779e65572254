"""Training pairs turned and mirrored, both images alike, so that they stay pairs (Sample4Geo, Deuser et al., ICCV 2023)."""

import dataclasses

import numpy as np

from safa.datasets.dataset import POLAR

QUARTERS = 4  # turns of a square tile that need no other pixels
SALT = 20  # of the draws, which share seed and epoch with the panoramas' (`panorama_views`)


@dataclasses.dataclass(frozen=True)
class AugmentedPairs:
    """Changes the images of rows: mirrored, then turned clockwise, as the place itself would be."""

    turns: np.ndarray  # (N,) float64 parts of a full circle, in [0, 1), one for each reference; quarters for tiles
    flips: np.ndarray  # (N,) bool
    polar: bool  # whether the references are polar maps, or else tiles
    truth: np.ndarray  # (Q,) int64, each query's reference, whose change it shares

    @classmethod
    def drawn(cls, pairs, rotate, flip, seed, epoch):
        """The changes of an epoch, the same for the same seed and epoch; None where nothing changes.

        `rotate`: turn each of the Pairs by a random angle, tiles by a quarter turn; `flip`: mirror half of them.
        """
        if not (rotate or flip):
            return None
        random, tiles, polar = np.random.default_rng([seed, epoch, SALT]), len(pairs.sat_paths), pairs.reference == POLAR
        turns = random.random(tiles) if rotate else np.zeros(tiles)
        if not polar:
            turns = np.floor(QUARTERS * turns) / QUARTERS
        return cls(turns, random.random(tiles) < 0.5 if flip else np.zeros(tiles, bool), polar, pairs.truth)

    def sat(self, row, image):
        """The reference of a row, changed: (H, W, 3) of the image's shape and dtype."""
        if self.polar:
            return self._panorama(row, image)
        return np.rot90(self._flipped(row, image), -round(QUARTERS * self.turns[row]))

    def grd(self, row, image):
        """The query of a row, changed: (H, W, 3) of the image's shape and dtype."""
        return self._panorama(self.truth[row], image)

    def _panorama(self, reference, image):
        return np.roll(self._flipped(reference, image), round(self.turns[reference] * image.shape[1]), axis=1)

    def _flipped(self, reference, image):
        return image[:, ::-1] if self.flips[reference] else image
