"""Corrupted panoramas (Zhang & Zhu, ECCV 2024): ImageNet-C's corruptions, in severities from 1 to 5."""

import copy
import dataclasses
import functools
import os
import typing
import zlib

import numpy as np

from safa.datasets.image_files import ImageError, image_size, read_input, same_ratio
from safa.runtime.errors import UserError

# The benchmark's sixteen, in its order, by the library's names.
CORRUPTIONS = ("snow", "frost", "fog", "brightness", "spatter", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
CORRUPTIONS += ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "contrast", "pixelate", "jpeg_compression")
SEVERITIES = 1, 2, 3, 4, 5
GRID, DRAWN = "all", "c_all"  # all of them in all severities; for each query one of these 80
INSTALL = "pip install -r requirements-corruption.txt && pip install --no-deps corrupt-tta==0.1.7"


def library():
    """The package corrupt_tta; a UserError says how it is installed."""
    try:
        import corrupt_tta
    except ImportError:
        raise UserError(f"--corruption: corrupts with the package corrupt-tta; {INSTALL}") from None
    return corrupt_tta


def corrupt(image, corruption, severity, seed):
    """A corrupted image: (H, W, 3) uint8, BGR, as the one that is given. Equal for an equal seed, in one thread at a time."""
    package = library()
    np.random.seed(seed)  # the state that it draws from, but for impulse noise
    package.corruptions.random_noise = functools.partial(package.corruptions.random_noise, rng=seed)
    found = package.corrupt(image[..., ::-1], severity, corruption)
    return np.ascontiguousarray(found[..., ::-1]).clip(0, 255).astype(np.uint8)  # rounded down, as ImageNet-C's images


@dataclasses.dataclass(frozen=True)
class CorruptedPanoramas:
    """Reads panoramas as published, corrupts them, and makes the network's input of them.

    Attributes:
        draws: for each of Q queries its corruption, severity and seed; or None each: their images are corrupted already.
        prepare: function of a panorama that is not prepared, (H, W, 3) uint8, or None.
        size: (height, width) of such a panorama, up to its scale.
        map: of `runtime.worker_pool.worker_map`: each process has a random state of its own.
    """

    draws: list
    prepare: typing.Callable | None
    size: tuple
    map: typing.Callable

    def read(self, row, path, shape):
        """The input of a row, (*shape, 3) uint8, BGR, from its file; rows of further turns begin again. Raises UserError."""
        change = functools.partial(_changed, corrupt, self.draws[row % len(self.draws)], self.prepare, self.size)
        (image,) = self.map(functools.partial(read_input, shape=shape, change=change), [path])
        return image


def _changed(corrupted, draw, prepare, size, image):
    image = image if draw is None else corrupted(image, *draw)
    return prepare(image) if prepare is not None and same_ratio(image.shape[:2], size) else image


def published_panoramas(pairs, folder=None):
    """Pairs with the panoramas as published, or with files of the same names in a folder, prepared or as published."""
    paths = pairs.panorama_paths or pairs.grd_paths
    if folder is not None:
        paths = [os.path.join(folder, os.path.basename(path)) for path in paths]
    dataset = copy.copy(pairs.dataset)
    try:
        if same_ratio(image_size(paths[0]), dataset.panorama_size):
            dataset.query_size = dataset.panorama_size
    except ImageError as error:
        raise UserError(f"{error}; corruptions need the panoramas as published, or --queries_dir") from None
    return dataclasses.replace(pairs, dataset=dataset, grd_paths=paths, panorama_paths=None)


def corrupted_panoramas(view, pairs, parallel_map):
    """CorruptedPanoramas of a PanoramaView and `published_panoramas`: what a query's id draws is the same in every test."""
    prepare = next((job.transform for job in pairs.dataset.preparations() if job.transform is not None), None)
    draws = [None] * len(pairs) if view.queries_dir is not None else [_draw(view, each) for each in pairs.ids]
    return CorruptedPanoramas(draws, prepare, pairs.dataset.panorama_size, parallel_map)


def _draw(view, query_id):
    seed = zlib.crc32(query_id.encode(errors="surrogateescape"))
    if view.corruption != DRAWN:
        return view.corruption, view.severity, seed
    number = np.random.default_rng(seed).integers(len(CORRUPTIONS) * len(SEVERITIES))
    return CORRUPTIONS[number // len(SEVERITIES)], SEVERITIES[number % len(SEVERITIES)], seed
