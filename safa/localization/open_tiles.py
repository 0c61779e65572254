"""Where an index's tiles come from: a list, rasters, or a folder of map tiles."""

import os

from safa.localization.listed_tiles import ListedTiles
from safa.localization.map_tiles import MapTiles, has_zoom_folders
from safa.localization.rasters import ENDINGS, RasterTiles
from safa.runtime.errors import UserError


def open_tile_source(paths, cut, zoom=None, tms=False, skip_missing=False):
    """The TileSource that paths name.

    Args:
        paths: a CSV list; GeoTIFF or other georeferenced rasters, or a folder of them; or a folder of Web Mercator tiles.
        cut: Cut, for imagery that is not in tiles already.
        zoom, tms: of a folder of Web Mercator tiles (`map_tiles.MapTiles`).
        skip_missing: leave out tiles of a list whose files do not exist.

    Raises:
        UserError: there is nothing there, or nothing that can be used.
    """
    first = paths[0]
    if len(paths) == 1 and first.lower().endswith(".csv"):
        return ListedTiles(first, skip_missing)
    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"--tiles {path}: does not exist; name a CSV list, rasters, or a folder of either kind of tiles")
    if len(paths) == 1 and os.path.isdir(first):
        if has_zoom_folders(first):
            return MapTiles(first, cut, zoom, tms)
        paths = sorted(entry.path for entry in os.scandir(first) if entry.name.lower().endswith(ENDINGS))
        if not paths:
            raise UserError(
                f"--tiles {first}: holds neither rasters ({', '.join(ENDINGS)}) nor folders of map tiles (zoom/x/y.png); name "
                "another folder, or a CSV list"
            )
    return RasterTiles(paths, cut)
