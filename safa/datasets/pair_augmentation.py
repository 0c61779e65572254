"""Training pairs turned and mirrored, both images alike, so that they stay pairs (Sample4Geo, Deuser et al., ICCV 2023)."""

import dataclasses

import numpy as np

QUARTERS = 4  # turns of a square tile that need no other pixels
SALT = 20  # of the draws, which share seed and epoch with the panoramas' (`panorama_views`)


@dataclasses.dataclass(frozen=True)
class PairAugmentation:
    """Which changes an epoch's pairs are drawn from.

    Attributes:
        rotate: turn each pair by a random angle; tiles by a quarter turn.
        flip: mirror half of the pairs.
        polar: whether the references are polar maps.
    """

    rotate: bool
    flip: bool
    polar: bool

    def drawn(self, pairs, seed, epoch):
        """The AugmentedPairs of an epoch, the same for the same seed and epoch; None where nothing changes.

        Args:
            pairs: datasets.dataset.Pairs.
            seed, epoch: of the draws.
        """
        if not (self.rotate or self.flip):
            return None
        random, tiles = np.random.default_rng([seed, epoch, SALT]), len(pairs.sat_paths)
        turns = random.random(tiles) if self.rotate else np.zeros(tiles)
        if not self.polar:
            turns = np.floor(QUARTERS * turns) / QUARTERS
        flips = random.random(tiles) < 0.5 if self.flip else np.zeros(tiles, bool)
        return AugmentedPairs(turns, flips, self.polar, pairs.truth)


class AugmentedPairs:
    """The changed images of rows: mirrored, then turned clockwise, as the place itself would be.

    Args:
        turns: (N,) float64 parts of a full circle, in [0, 1), one for each reference; quarters for tiles.
        flips: (N,) bool.
        polar: whether the references are polar maps, or else tiles.
        truth: (Q,) int64, each query's reference, whose change it shares.
    """

    def __init__(self, turns, flips, polar, truth):
        self._turns, self._flips, self._polar, self._truth = turns, flips, polar, truth

    def sat(self, row, image):
        """The reference of a row, changed: (H, W, 3) of the image's shape and dtype."""
        if self._polar:
            return self._panorama(row, image)
        return np.rot90(_flipped(image, self._flips[row]), -round(QUARTERS * self._turns[row]))

    def grd(self, row, image):
        """The query of a row, changed: (H, W, 3) of the image's shape and dtype."""
        return self._panorama(self._truth[row], image)

    def _panorama(self, reference, image):
        shift = round(self._turns[reference] * image.shape[1])
        return np.roll(_flipped(image, self._flips[reference]), shift, axis=1)


def _flipped(image, flip):
    return image[:, ::-1] if flip else image
