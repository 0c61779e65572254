"""A sheet of pairs as they are on disk, to see whether their images belong together."""

import cv2
import numpy as np

from safa.datasets.image_files import ImageError, read_image
from safa.datasets.preparation import PREPARED_SIZE, polar_map
from safa.report.drawing import Shown, file_bytes, fitted, image_rows
from safa.runtime.files import write_whole

PAIRS_A_ROW = 2
MARK, RED = 0.02, (30, 40, 205)  # where the panorama was taken: radius by the tile's side; BGR
NOTHING = 225  # grey in the place of an image that cannot be read


def draw_pairs(pairs, rows, path):
    """Write a PNG file of pairs: the tile with its centre marked, its polar map, and below this the panorama.

    Polar map and panorama both look north in their middle: what stands in one column lies in one direction. `rows`: of the
    pairs' panoramas. What cannot be read is grey, and its caption says so.
    """
    shown = [_shown(pairs.ids[row], pairs.tile_paths[pairs.truth[row]], pairs.grd_paths[row]) for row in rows]
    sheet = [sum(shown[start : start + PAIRS_A_ROW], []) for start in range(0, len(shown), PAIRS_A_ROW)]
    write_whole(path, file_bytes(image_rows(sheet, f"{pairs.name}: tile, polar map, and the panorama below it")))


def _shown(name, tile_path, panorama_path):
    """The two images of a pair: the tile, and polar map above panorama."""
    tile, panorama = _image(tile_path), _image(panorama_path)
    missing = [f"the {what} cannot be read" for what, image in (("tile", tile), ("panorama", panorama)) if image is None]
    polar, (height, width) = None, PREPARED_SIZE
    if tile is None:
        tile = np.full((height, height, 3), NOTHING, np.uint8)
    elif tile.shape[0] == tile.shape[1]:
        polar, side = polar_map(tile), len(tile)
        tile = cv2.circle(tile.copy(), (side // 2, side // 2), max(1, round(MARK * side)), RED, -1, cv2.LINE_AA)
    else:
        missing.append("a tile that is not square has no polar map")
    nothing, gap = (np.full((rows, width, 3), grey, np.uint8) for rows, grey in ((height, NOTHING), (height // 20, 255)))
    polar, panorama = (nothing if image is None else fitted(image, width, height) for image in (polar, panorama))
    return [Shown(tile, name), Shown(np.vstack([polar, gap, panorama]), "; ".join(missing))]


def _image(path):
    try:
        return read_image(path)
    except ImageError:
        return None
