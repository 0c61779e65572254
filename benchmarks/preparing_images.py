"""What one polar map costs on one core: ours, and the published script's way, in one run.

Prints milliseconds for each stage (best of several), and for PNG encodings size against time.
Run from the repository's root: python -m benchmarks.preparing_images
"""

import argparse
import io
import tempfile
import timeit

import cv2
import numpy as np
from PIL import Image

from polar_transform import min_max_stretch, polar_transform, sample_coordinates
from safa.datasets.image_files import read_image
from safa.datasets.preparation import PNG


def plain_polar_transform(tile):
    """As the published script goes about it: four masked gathers and float64 arithmetic for every tile."""
    size = len(tile)
    rows, columns = sample_coordinates(size)
    top, left = rows.astype(int), columns.astype(int)

    def neighbour(row, column):
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        values = np.zeros((*row.shape, 3))
        values[inside] = tile[row[inside], column[inside]]
        return values

    def weight(distance):
        return distance[..., None]

    along_left = weight(top + 1 - rows) * neighbour(top, left) + weight(rows - top) * neighbour(top + 1, left)
    along_right = weight(top + 1 - rows) * neighbour(top, left + 1) + weight(rows - top) * neighbour(top + 1, left + 1)
    return weight(left + 1 - columns) * along_left + weight(columns - left) * along_right


def milliseconds(function, repeats):
    """Best time of a call."""
    return 1000 * min(timeit.repeat(function, number=1, repeat=repeats))


def blurred_noise(random, height, width):
    """Noise of several wavelengths, (height, width, 3) uint8, which compresses about as natural images do."""
    coarse = [random.uniform(0, 80, (height // step, width // step, 3)) for step in (2, 10, 50)]
    image = sum(cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse)
    return np.clip(image, 0, 255).astype(np.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="calls of which the fastest counts")
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    for size in (750, 1200):
        compare(size, repeats)


def compare(size, repeats):
    """Print the stages of one tile of `size` x `size` pixels."""
    tile = blurred_noise(np.random.default_rng(0), size, size)
    file = tempfile.NamedTemporaryFile(suffix=".jpg")
    cv2.imwrite(file.name, tile, (cv2.IMWRITE_JPEG_QUALITY, 92))
    polar = polar_transform(tile)
    assert np.array_equal(polar, plain_polar_transform(tile))
    prepared = min_max_stretch(polar)

    def published_encoding():
        """SciPy's imsave hands the image to Pillow."""
        content = io.BytesIO()
        Image.fromarray(prepared).save(content, "PNG")
        return content.getvalue()

    ours = {
        "read": milliseconds(lambda: read_image(file.name), repeats),
        "transform": milliseconds(lambda: polar_transform(tile), repeats),
        "stretch": milliseconds(lambda: min_max_stretch(polar), repeats),
        "encode": milliseconds(lambda: cv2.imencode(".png", prepared, PNG), repeats),
    }
    plain = {
        "read": milliseconds(lambda: cv2.imread(file.name, cv2.IMREAD_COLOR), repeats),
        "transform": milliseconds(lambda: plain_polar_transform(tile), repeats),
        "stretch": ours["stretch"],
        "encode": milliseconds(published_encoding, repeats),
    }
    for name, stages in (("ours", ours), ("plain", plain)):
        print(
            f"{size}x{size} {name:>5}: {sum(stages.values()):5.1f} ms = "
            + " + ".join(f"{stage} {value:.1f}" for stage, value in stages.items())
        )
    print(
        f"  ratio {sum(plain.values()) / sum(ours.values()):.1f}; transform alone "
        f"{plain['transform'] / ours['transform']:.1f}; size of the file "
        f"{len(cv2.imencode('.png', prepared, PNG)[1]) / len(published_encoding()):.2f} of Pillow's"
    )


if __name__ == "__main__":
    main()
