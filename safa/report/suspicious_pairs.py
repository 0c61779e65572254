"""A contact sheet of pairs that may not belong together: tile, polar map and panorama above one another."""

import cv2

from safa.datasets.dataset import PREPARED_SIZE
from safa.datasets.image_files import ImageError, read_image
from safa.datasets.preparation import polar_map
from safa.report.canvas import GREY, RED, TEXT, Canvas, stacked

WIDTH, SIDE, GAP = 420, 200, 8  # of a card and its tile, and between its parts; pixels
CAPTION = TEXT + 6
COLUMNS = 4
CENTRE = 3  # half a side of the mark where the panorama was taken


def suspicious_sheet(cards):
    """All cards on one picture: (H, W, 3) uint8, BGR."""
    return stacked(cards, min(COLUMNS, len(cards)))


def pair_card(name, finding, tile_path, panorama_path):
    """A pair as a picture: the tile with its centre marked, its polar map, the panorama. All look north in the middle.

    Args:
        name: the pair's id.
        finding: what is suspicious.
        tile_path, panorama_path: of the images; what cannot be read is said in its place.

    Returns:
        (H, WIDTH, 3) uint8, BGR.
    """
    strip = WIDTH, round(WIDTH * PREPARED_SIZE[0] / PREPARED_SIZE[1])
    canvas = Canvas(WIDTH, 2 * CAPTION + SIDE + 2 * (strip[1] + GAP))
    canvas.write(name, 0, 0, width=WIDTH)
    canvas.write(finding, 0, CAPTION, RED, width=WIDTH)
    top = 2 * CAPTION
    tile, panorama = _image(tile_path), _image(panorama_path)
    if tile is None:
        canvas.write("the tile cannot be read", 0, top, GREY)
    else:
        shown = cv2.resize(tile, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        middle = slice(SIDE // 2 - CENTRE, SIDE // 2 + CENTRE)
        shown[middle, middle] = RED[::-1]
        canvas.put(shown, (WIDTH - SIDE) // 2, top)
        if tile.shape[0] == tile.shape[1]:
            canvas.put(cv2.resize(polar_map(tile), strip, interpolation=cv2.INTER_AREA), 0, top + SIDE + GAP)
        else:
            canvas.write("a tile that is not square has no polar map", 0, top + SIDE + GAP, GREY)
    below = top + SIDE + strip[1] + 2 * GAP
    if panorama is None:
        canvas.write("the panorama cannot be read", 0, below, GREY)
    else:
        canvas.put(cv2.resize(panorama, strip, interpolation=cv2.INTER_AREA), 0, below)
    return canvas.pixels


def _image(path):
    try:
        return read_image(path)
    except ImageError:
        return None
