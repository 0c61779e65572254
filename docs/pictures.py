"""Writes the README's pictures from the demo: docs/retrieval.jpg, docs/attention.jpg, docs/training.png.

Run by `make pictures`, after the demo's test drew figures: python -m docs.pictures FOLDER
"""

from runtime.files import write_whole

import io
import os
import sys

import cv2
from PIL import Image  # matplotlib brings it

from report.canvas import fitted
from report.charts import training_curves
from report.epoch_lines import read_lines

DOCS = os.path.dirname(os.path.abspath(__file__))
WIDTH, QUALITY, COLOURS = 1000, 80, 32


def main(folder):
    results = os.path.join(folder, "Result", "CVUSA", "SAFA_8_polar_1")
    figures = f"{results}.figures"
    names = sorted(os.listdir(figures))
    for target, name in (
        ("retrieval", next(name for name in names if name.startswith("001_"))),
        ("attention", next(name for name in names if name.startswith("attention_001_"))),
    ):
        picture = fitted(cv2.imread(os.path.join(figures, name)), width=WIDTH)
        _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        write_whole(os.path.join(DOCS, f"{target}.jpg"), content.tobytes())
    curves, content = training_curves({"SAFA_8, polar": read_lines(f"{results}.csv")}), io.BytesIO()
    Image.open(io.BytesIO(curves)).convert("RGB").quantize(COLOURS).save(content, "PNG", optimize=True)
    write_whole(os.path.join(DOCS, "training.png"), content.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
