"""Panels of attention: which positions of a map the descriptors rest on."""

import math

import cv2
import numpy as np

from polar_transform import tile_of_polar
from safa.datasets.dataset import POLAR
from safa.report.drawing import Shown, image_rows

TALLEST = 130  # pixels of an image
LAYERS_A_ROW = {2: 2, 3: 1}  # by the number of images of a layer: the row is filled either way
OPACITY = 0.55  # of the colours over the image
LIMIT = 99.0  # percentile of the absolute values that has the full colour


def attention_panel(tested, row, network):
    """What the descriptors of the query of a row and of its best match rest on, as a matplotlib Figure.

    `tested`: figures.FigureSource, of panoramas among aerial images. `network`: spatial_net.Network with its weights.
    """
    from safa.retrieval.attention import branch_maps

    task, match = tested.task, int(tested.found.winners[row, 0])
    inputs = tested.images.sat.read(match), tested.images.grd.read(row)
    others = tested.queries[row][None], tested.references[match][None]
    columns = []
    for branch, caption, image, other in zip((network.sat, network.grd), ("best match", "query"), inputs, others, strict=True):
        picture, maps = np.rint(image).astype(np.uint8), branch_maps(branch, image[None])
        values = [maps.contributions(other)[0], *([] if maps.weights is None else maps.weights[0])]
        columns.append((caption, picture, [spread_over(each, picture.shape) for each in values]))
    if tested.pairs.reference == POLAR:
        _, polar, values = columns[0]
        tile = tested.tile(match)
        if tile is None:
            tile = tile_of_polar(polar, 2 * len(polar))
        columns.insert(0, ("tile", tile, [tile_of_polar(each, len(tile)) for each in values]))
    layers = [[Shown(picture, caption) for caption, picture, _ in columns]]
    for number, of_layer in enumerate(zip(*(values for *_, values in columns), strict=True)):
        caption = f"weights {number}" if number else "parts"
        pictures = [coloured(picture, each) for (_, picture, _), each in zip(columns, of_layer, strict=True)]
        layers.append([Shown(picture, caption) for picture in pictures])
    count = LAYERS_A_ROW[len(columns)]
    rows = [sum(layers[start : start + count], []) for start in range(0, len(layers), count)]
    right = "the truth" if match == task.truth[row] else "another hit" if match in tested.hits(row) else "another place"
    similarity = tested.found.similarities[row, 0]
    return image_rows(rows, f"{tested.pairs.name} {task.ids[row]}: best match is {right}, similarity {similarity:.3f}", TALLEST)


def spread_over(values, shape):
    """Values of a map's positions over the pixels of its input: (h, w) -> (H, W) float32, bilinearly.

    A position lies in the middle of the pixels that its poolings join; TensorFlow pads at the bottom and at the right.
    """
    stride = 2 ** math.ceil(math.log2(shape[0] / values.shape[0]) - 1e-9)
    size = values.shape[1] * stride, values.shape[0] * stride
    return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)[: shape[0], : shape[1]]


def coloured(image, values):
    """An image, (H, W, 3) uint8, BGR, under its (H, W) values: warm colours are positive, cold ones negative, nothing at 0."""
    import matplotlib

    limit = np.percentile(np.abs(values), LIMIT)
    scaled = np.clip(values / limit, -1, 1) if limit > 0 else np.zeros_like(values)
    colours = 255 * matplotlib.colormaps["coolwarm"](0.5 + scaled / 2)[..., 2::-1]
    opacity = OPACITY * np.sqrt(np.abs(scaled))[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.rint((1 - opacity) * grey + opacity * colours).astype(np.uint8)
