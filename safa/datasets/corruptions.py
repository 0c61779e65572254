"""Corrupted panoramas (Zhang & Zhu, ECCV 2024): ImageNet-C's corruptions, in severities from 1 to 5."""

import copy
import dataclasses
import functools
import itertools
import os
import typing
import zlib

import numpy as np

from safa.datasets.dataset import Pairs
from safa.datasets.file_checks import on_disk
from safa.datasets.image_files import ImageError, read_input, same_ratio, size_or_error
from safa.datasets.panorama_views import PanoramaView
from safa.runtime.command_line import at_least, setting
from safa.runtime.errors import UserError, first_few

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
class QueryView(PanoramaView):
    """A PanoramaView of queries that may be corrupted."""

    corruption: str | None = setting(
        None,
        "corrupt the queries, as published, before they are resized, with corrupt-tta, a rewrite of ImageNet-C's code; "
        "references stay clean. all: each corruption in each severity, one table at the end; "
        f"{DRAWN}: one of these drawn for each query (default: clean)",
        choices=(*CORRUPTIONS, GRID, DRAWN),
        metavar=f"{{{GRID},{DRAWN},{','.join(CORRUPTIONS)}}}",
    )
    severity: int | None = setting(None, "severity of one corruption, 1 to 5; 0: clean (default: none)", at_least(int, 0, 5))
    queries_dir: str | None = setting(
        None,
        "folder of queries that are corrupted as --corruption says, the benchmark's own for instance, named as the dataset's "
        f"panoramas; with {GRID}, folders CORRUPTION/SEVERITY in it (default: they are corrupted here)",
        metavar="DIR",
    )

    @property
    def is_corrupted(self):
        return self.corruption is not None and self.severity != 0

    @property
    def name(self):
        """As of PanoramaView, and "fog_3", or "files_fog_3" of a folder."""
        if not self.is_corrupted:
            return super().name
        parts = super().name, "files" * bool(self.queries_dir), self.corruption, str(self.severity or "")
        return "_".join(filter(None, parts))

    @property
    def cells(self):
        """The views to test: of a grid all corrupted ones, and the clean one at the end; else this one alone."""
        if self.corruption != GRID:
            return [self]
        cells = []
        for one, each in itertools.product(CORRUPTIONS, SEVERITIES):
            folder = self.queries_dir and os.path.join(self.queries_dir, one, str(each))
            cells.append(dataclasses.replace(self, corruption=one, severity=each, queries_dir=folder))
        return [*cells, dataclasses.replace(self, corruption=None, queries_dir=None)]

    def check_corruption(self):
        """Raises UserError: the flags of a corruption contradict each other, or it needs what is not installed."""
        if (self.severity is None) == (self.corruption in CORRUPTIONS):
            raise UserError("--severity: from 1 to 5 for --corruption with the name of one (0: clean), and for no other test")
        if self.queries_dir and not self.is_corrupted:
            raise UserError("--queries_dir: holds corrupted queries; say how with --corruption, and --severity from 1 to 5")
        if self.is_corrupted and not self.queries_dir:
            library()
        absent = [cell.queries_dir for cell in self.cells if cell.queries_dir and not os.path.isdir(cell.queries_dir)]
        if absent:
            needs = f"--corruption {GRID} needs its CORRUPTION/SEVERITY" if self.corruption == GRID else "name another"
            raise UserError(f"--queries_dir {self.queries_dir}: no folder {first_few(absent)}; {needs}")


@dataclasses.dataclass(frozen=True)
class CorruptedPanoramas:
    """Reads panoramas, corrupts them, and makes the network's input of them."""

    view: QueryView
    pairs: Pairs  # as of `published_panoramas`
    map: typing.Callable  # of `runtime.worker_pool.worker_map`: each process has a random state of its own

    def read(self, row, path, shape):
        """The input of a row, (*shape, 3) uint8, BGR, from its file. Raises UserError."""
        draw = None if self.view.queries_dir else self._draw(self.pairs.ids[row])
        change = functools.partial(_changed, draw, self.pairs.dataset.prepare_panorama)
        (image,) = self.map(functools.partial(read_input, shape=shape, change=change), [path])
        return image

    def _draw(self, name):
        """The arguments of `corrupt` after the image, which a query's id says, in every test the same."""
        seed, corruption, severity = zlib.crc32(name.encode(errors="surrogateescape")), self.view.corruption, self.view.severity
        if corruption == DRAWN:
            one, other = np.random.default_rng(seed).integers((len(CORRUPTIONS), len(SEVERITIES)))
            corruption, severity = CORRUPTIONS[one], SEVERITIES[other]
        return corruption, severity, seed


def _changed(draw, prepare, image):
    image = image if draw is None else corrupt(image, *draw)
    return prepare(image) if prepare is not None and image.shape[1] == 2 * image.shape[0] else image


def published_panoramas(pairs, folder=None):
    """Pairs with the panoramas as published, or with files of the same names in a folder, prepared or as published."""
    paths = pairs.panorama_paths or pairs.grd_paths
    if folder is not None:
        paths = [os.path.join(folder, os.path.basename(path)) for path in paths]
    dataset = copy.copy(pairs.dataset)
    pairs = on_disk(dataclasses.replace(pairs, dataset=dataset, grd_paths=paths, panorama_paths=None))
    sizes = map(size_or_error, pairs.grd_paths)  # `check_files` says more of errors
    first = next((size for size in sizes if not isinstance(size, ImageError)), dataset.query_size)
    if same_ratio(first, dataset.panorama_size):
        dataset.query_size = dataset.panorama_size
    return pairs
