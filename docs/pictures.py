"""Writes the README's pictures: toy_town.jpg, and from the demos retrieval.jpg, attention.jpg, training.png, localisation.jpg.

Run by `make pictures`, after the demo's test drew figures: python -m docs.pictures FOLDER
Run by `make localize-picture`, after its demo: python -m docs.pictures localisation FOLDER
"""

import dataclasses
import io
import os
import sys
import tempfile

import cv2
import numpy as np
from PIL import Image  # matplotlib brings it

from docs.measured import write
from safa.datasets.preparation import polar_map
from safa.localization import Index
from safa.localization.answer_page import answer_panel
from safa.localization.located_files import read_located_files
from safa.localization.panorama import asked_panorama
from safa.localization.places import QueryConfig
from safa.localization.tile_map import BEST, Mark, TileMap
from safa.report.charts import training_curves
from safa.report.drawing import Shown, bgr_pixels, file_bytes, image_rows
from safa.report.epoch_lines import read_lines
from safa.runtime.errors import reported
from toy_town.dataset import SIZES, Settings, image_paths, render_dataset
from toy_town.district import DRIVE_METRES

QUALITY, COLOURS = 80, 32
MAP_HEIGHT, GAP = 460, 8  # pixels
PLACE = 12  # of the toy town, that toy_town.jpg shows


def town():
    """A place at CVUSA's sizes: its tile beside its polar map and its panorama."""
    settings = Settings("cvusa", PLACE + 4, 1, 0, *SIZES["cvusa"])
    with tempfile.TemporaryDirectory() as folder:
        data = render_dataset(settings, folder)
        tile, panorama = (cv2.imread(os.path.join(data, path)) for path in image_paths(settings, PLACE))
    polar = polar_map(tile, size=panorama.shape[:2])
    right = np.vstack([polar, np.full((GAP, polar.shape[1], 3), 255, np.uint8), panorama])
    left = cv2.resize(tile, (len(right), len(right)), interpolation=cv2.INTER_AREA)
    _write_jpeg("toy_town", np.hstack([left, np.full((len(right), GAP, 3), 255, np.uint8), right]))


def localisation(folder):
    """A panorama of the demo's drive, the tiles of its best places, and the drive on the map."""
    index = Index(os.path.join(folder, "index"))
    config = QueryConfig(unknown_heading=True, sequence=DRIVE_METRES, top=3)
    listed = read_located_files(os.path.join(folder, "district", "drive.csv"), needs_locations=True)
    panoramas = [asked_panorama(path, config) for path in listed.paths]
    answers = index.query(panoramas, **dataclasses.asdict(config))
    places = [tuple(index.metres[answer.places[0].row]) for answer in answers]
    marks = [Mark(place, str(number), BEST) for number, place in enumerate(places, start=1)]
    drawn = answer_panel(answers[len(answers) // 2], index), TileMap(index).draw(marks, places)
    _write_jpeg("localisation", bgr_pixels(image_rows([[Shown(bgr_pixels(figure)) for figure in drawn]], tallest=MAP_HEIGHT)))


def main(folder):
    town()
    results = os.path.join(folder, "Result", "CVUSA", "SAFA_8_polar_1")
    names = sorted(os.listdir(f"{results}.figures"))
    for target, prefix in ("retrieval", "001_"), ("attention", "attention_001_"):
        name = next(name for name in names if name.startswith(prefix))
        _write_jpeg(target, cv2.imread(os.path.join(f"{results}.figures", name)))
    curves, content = training_curves({"SAFA_8, polar": read_lines(f"{results}.csv")}), io.BytesIO()
    Image.open(io.BytesIO(file_bytes(curves))).convert("RGB").quantize(COLOURS).save(content, "PNG", optimize=True)
    write("training.png", content.getvalue())


def _write_jpeg(name, pixels):
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    write(f"{name}.jpg", content.tobytes())


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with reported():
        localisation(sys.argv[2]) if len(sys.argv) == 3 else main(sys.argv[1])
