"""Draws docs/architecture.png, with the shapes of the network itself.

Run from the repository's root: python -m docs.architecture
"""

import os

import cv2
import keras
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from docs.measured import DOCS
from safa.parts import build_network
from safa.settings import NetworkConfig

SMALL = 7.5  # points
BLUE, GREEN, ORANGE, GREY = "#dbe8f6", "#ddf0dd", "#fbe6cf", "#eeeeee"
# Parts of docs/toy_town.jpg: rows, columns.
TILE, POLAR, PANORAMA = ((slice(0, 456), slice(0, 456)), (slice(0, 222), slice(464, 1696)), (slice(232, 456), slice(464, 1696)))


def main():
    branch = build_network(NetworkConfig(), seed=0).sat
    pool, embedding = branch.aggregation.layers
    maps = branch.backbone(keras.KerasTensor((None, *branch.image_shape, 3))).shape
    pooled = pool.compute_output_shape(maps)
    picture = cv2.cvtColor(cv2.imread(os.path.join(DOCS, "toy_town.jpg")), cv2.COLOR_BGR2RGB)

    figure = Figure(figsize=(13.2, 5.0), dpi=110)
    axes = figure.subplots()
    axes.set(xlim=(0, 132), ylim=(0, 50))
    axes.axis("off")

    def show(part, left, bottom, width):
        image = picture[part]
        height = width * image.shape[0] / image.shape[1]
        axes.imshow(image, extent=(left, left + width, bottom, bottom + height), aspect="auto", interpolation="antialiased")
        return bottom + height / 2

    def box(left, middle, width, height, text, colour):
        patch = FancyBboxPatch(
            (left, middle - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc=colour, ec="#555555"
        )
        axes.add_patch(patch)
        axes.text(left + width / 2, middle, text, ha="center", va="center", fontsize=SMALL, linespacing=1.35)

    def arrow(x, y, to_x, to_y):
        axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "-|>", "color": "#333333", "lw": 1.2})

    top, low = 40, 9
    show(TILE, 1, top - 7, 14)
    axes.text(8, top - 9, "aerial tile", ha="center", fontsize=SMALL)
    box(18, top, 11, 8, "polar\ntransform\n(section 3.1)", GREY)
    arrow(15, top, 18, top)
    arrow(29, top, 32, top)
    rows = (top, POLAR, "polar map, 112 x 616", "satellite"), (low, PANORAMA, "panorama, 112 x 616", "ground")
    for row, part, name, branch_name in rows:
        show(part, 32, row - 2, 22)
        axes.text(43, row - 4.5, name, ha="center", fontsize=SMALL)
        box(58, row, 13, 9, f"VGG16, {branch_name}\n{maps[1]} x {maps[2]} x {maps[3]}", BLUE)
        box(75, row, 10, 9, f"max-pool\n{pooled[1]} x {pooled[2]} x {pooled[3]}", BLUE)
        positions, hidden, count = embedding.weights1.shape
        weights = row + (-10 if row == top else 10)
        linear = f"mean over channels, two linear layers\n{positions} → {hidden} → {positions}, {count} times"
        box(78, weights, 27, 6, linear, GREEN)
        box(89, row, 16, 9, f"sum over positions,\nweighted {count} times\n{count} x {pooled[3]}", GREEN)
        box(109, row, 9, 9, f"length 1\n{branch.dimension:,}", ORANGE)
        for left, right in ((54, 58), (71, 75), (85, 89), (105, 109)):
            arrow(left, row, right, row)
        edge = 3 if row > weights else -3
        arrow(82, row - 1.5 * edge, 82, weights + edge)
        arrow(97, weights + edge, 97, row - 1.5 * edge)
    middle = (top + low) / 2
    box(120.5, middle, 11, 15, "soft-margin\ntriplet loss\n(section 3.3)\n\nor\nranks", ORANGE)
    arrow(118, top, 125, middle + 7.5)
    arrow(118, low, 125, middle - 7.5)
    axes.text(92, middle, "spatial-aware embeddings (section 3.2)", ha="center", va="center", fontsize=SMALL, style="italic")
    axes.text(64.5, middle, "same architecture,\nno shared weights", ha="center", va="center", fontsize=SMALL, style="italic")
    figure.savefig(os.path.join(DOCS, "architecture.png"), bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    main()
