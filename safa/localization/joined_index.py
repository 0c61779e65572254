"""Several indexes of one network, asked together: parts of a region that were built on different machines, for instance."""

import dataclasses
import hashlib

import numpy as np

from safa.localization.index import Index
from safa.runtime.errors import UserError


class JoinedIndex(Index):
    """The tiles of several indexes, one after another. It has no calibrations: those of a part are of the part's tiles.

    Raises:
        UserError: as of Index, or the indexes' descriptors cannot be compared.
    """

    def __init__(self, folders):
        self._parts = [Index(folder) for folder in folders]
        if not self._parts:
            raise UserError("no index to ask; name the folder of one or more")
        first, manifests = self._parts[0], [part.manifest for part in self._parts]
        for part in self._parts[1:]:
            if part.manifest.recipe != first.manifest.recipe or any(each.pca_recall for each in manifests):
                raise UserError(
                    f"{part.folder}: not comparable with {first.folder}; only indexes of one network, with the same settings "
                    "and without --pca, are asked together"
                )
        digest = hashlib.sha256(" ".join(each.digest for each in manifests).encode()).hexdigest()
        spacing = max((each.spacing for each in manifests if each.spacing is not None), default=None)
        tiles = sum(each.tiles for each in manifests)
        self.folder, self._directions, self.calibrations = first.folder, None, {}
        self.manifest = dataclasses.replace(first.manifest, tiles=tiles, digest=digest, spacing=spacing)
        self.names = [name for part in self._parts for name in part.names]
        self._starts = np.cumsum([0] + [each.tiles for each in manifests[:-1]])  # each part's first row
        self._place_tiles(np.concatenate([part.locations for part in self._parts]))

    def thumbnail(self, row):
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part].thumbnail(row - self._starts[part])

    def calibrate(self, panoramas, wrong_share=0.05, **settings):
        raise UserError("several indexes cannot be calibrated together; calibrate one")

    def _search(self, queries, approximate, rows=None):
        found = []
        for part, start in zip(self._parts, self._starts, strict=True):
            own = None if rows is None else rows[(rows >= start) & (rows < start + len(part))] - start
            found.append(part._search(queries, approximate, own))
        return tuple(np.concatenate(own, axis=1) for own in zip(*found, strict=True))
