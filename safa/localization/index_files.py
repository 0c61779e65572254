"""The files of an index, and the note that says what they are."""

import dataclasses
import json
import os

import msgspec
import numpy as np

from safa.localization.coordinates import problem_of
from safa.localization.tile_images import THUMBNAIL_BYTES
from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import ordinary, read_json
from safa.settings import NetworkConfig

NOTE = "index.json"  # written last: an index that has it is whole
DESCRIPTORS, POSITIONS, NAMES = "descriptors.npy", "positions.npy", "tiles.json"
THUMBNAILS, WEIGHTS, PROJECTION = "thumbnails.npy", "network.weights.h5", "projection.npy"
APPROXIMATE, CALIBRATION = "approximate.faiss", "calibration.json"
FORMAT = 1  # raise it when older programs must not read an index
PRECISIONS = ("float32", "tf32", "bfloat16")
DTYPES = ("float16", "float32")
REMEDY = "build it again, in another folder"


@dataclasses.dataclass(frozen=True)
class Described:
    """What descriptors are of.

    Attributes:
        network: NetworkConfig.
        weights: digest of the network's weights (`training.weights.weights_digest`).
        precision: of the network's convolutions.
        trained_on: name of the dataset, or None.
        stretch: whether polar maps are min-max stretched.
        tile_metres: ground size of a tile that the network expects.
        vertical_fov: degrees from top to bottom of the panoramas that the network expects.
    """

    network: NetworkConfig
    weights: str
    precision: str
    trained_on: str | None
    stretch: bool
    tile_metres: float
    vertical_fov: float


@dataclasses.dataclass(frozen=True)
class IndexNote(Described):
    """What an index is of.

    Attributes:
        tiles: N, number of tiles.
        dimension: values of a descriptor as it is kept.
        source: of the tiles, `tile_source.TileSource.record`.
        identity: digest of all that the index depends on, but for the content of the tiles' files.
        spacing: median metres from a tile's centre to the nearest other one; None of a single tile.
        pca_recall, approximate_recall: {"1", "10"}: how often the search finds a tile's nearest other tile among the K
            first, or None where the search is exact.
    """

    tiles: int
    dimension: int
    source: dict
    identity: str
    spacing: float | None
    pca_recall: dict | None = None
    approximate_recall: dict | None = None

    def as_json(self):
        """The note's file, bytes."""
        return json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=2).encode()


def read_note(folder):
    """The IndexNote of a folder.

    Raises:
        UserError: there is no index, it is not finished, or its note cannot be understood.
    """
    path = os.path.join(folder, NOTE)
    if not os.path.isdir(folder):
        raise UserError(f"{shortened(folder)}: no index; build one: localize.py build {shortened(folder)} --tiles ...")
    try:
        values = read_json(path, dict, REMEDY)
        if values.pop("format") != FORMAT:
            raise UserError(f"{path}: an index of another version of this program; {REMEDY}")
        values["network"] = msgspec.convert(values["network"], NetworkConfig)
        note = IndexNote(**values)
        numbers = note.tiles, note.dimension, note.tile_metres, note.vertical_fov
        if not all(isinstance(number, int | float) and number > 0 for number in numbers):
            raise ValueError("a number is expected")
        if note.precision not in PRECISIONS:
            raise ValueError("precision")
        if not isinstance(note.weights, str) or not isinstance(note.stretch, bool) or not isinstance(note.source, dict):
            raise ValueError("weights, stretch or source")
        return note
    except FileNotFoundError:
        raise UserError(
            f"{shortened(folder)}: holds no finished index (no {NOTE}); run localize.py build to its end, or name another "
            "folder"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the note of an index ({first_line(error)}); {REMEDY}") from None


def read_array(folder, name, shape, dtypes):
    """An array of an index, mapped into memory.

    Args:
        folder, name: of its file.
        shape: that it must have.
        dtypes: names of the types that it may have.

    Raises:
        UserError: it is missing, cut off, or another one.
    """
    path = os.path.join(folder, name)
    try:
        open(path, "rb", opener=ordinary).close()
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; the index is damaged: {REMEDY}") from None
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: cut off or damaged ({first_line(error)}); {REMEDY}") from None
    if array.shape != shape or array.dtype.name not in dtypes:
        raise UserError(
            f"{path}: {array.dtype.name} of shape {array.shape} instead of {' or '.join(dtypes)} of {shape}; the index is "
            f"damaged: {REMEDY}"
        )
    return array


def read_positions(folder, count):
    """(N, 2) float64 longitude and latitude of the tiles."""
    positions = np.array(read_array(folder, POSITIONS, (count, 2), ("float64",)))
    for longitude, latitude in (positions.min(axis=0).tolist(), positions.max(axis=0).tolist()):
        if problem_of(longitude, latitude):
            raise UserError(f"{os.path.join(folder, POSITIONS)}: holds no positions on Earth; the index is damaged: {REMEDY}")
    return positions


def read_names(folder, count):
    """The names of the tiles, N strings."""
    path = os.path.join(folder, NAMES)
    try:
        with open(path, "rb", opener=ordinary) as file:
            names = json.load(file)
        if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
            raise ValueError("a list of names is expected")
        return names
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; the index is damaged: {REMEDY}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({first_line(error)}); {REMEDY}") from None


def read_thumbnails(folder, count):
    """(N, THUMBNAIL_BYTES) uint8 of `tile_images.encoded_thumbnail`, mapped into memory; None where the index has none."""
    if not os.path.lexists(os.path.join(folder, THUMBNAILS)):
        return None
    return read_array(folder, THUMBNAILS, (count, THUMBNAIL_BYTES), ("uint8",))
