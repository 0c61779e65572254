"""The files of an index, and the manifest that says what they hold."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
from typing import Annotated, Literal

import msgspec
import numpy as np

from safa.localization.tile_source import SourceRecord
from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import open_whole, ordinary, read_file, read_json
from safa.runtime.worker_pool import available_cores
from safa.settings import NetworkConfig

MANIFEST = "index.json"  # written last: an index that has it is whole
UNFINISHED = "index.unfinished"  # folder in an index, where a build writes
DESCRIPTORS, LOCATIONS, NAMES = "descriptors.npy", "locations.npy", "tiles.json"
THUMBNAILS, WEIGHTS, PROJECTION = "thumbnails.npy", "network.weights.h5", "projection.npy"
APPROXIMATE, CALIBRATION, RECORDS = "approximate.faiss", "calibration.json", "tiles.npy"
CHECKED = (DESCRIPTORS, LOCATIONS, NAMES, RECORDS, THUMBNAILS, PROJECTION, APPROXIMATE)  # whose digests a manifest holds
DIGESTED_BYTES = 2**24  # that a thread reads at a time
DTYPES = ("float16", "float32")
REMEDY = "build it again, in another folder"
SPACE = "free some space, use --dtype float16 or --no_thumbnails, or name another folder"

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


@dataclasses.dataclass(frozen=True)
class DescriptorRecipe:
    """How an index's descriptors are computed, and what their network expects."""

    network: NetworkConfig
    weights: str  # digest, training.weights.weights_digest
    precision: Literal["float32", "tf32", "bfloat16"]
    trained_on: str | None  # name of the dataset
    stretch: bool  # polar maps are min-max stretched
    tile_metres: Positive  # ground size of a tile
    vertical_fov: Positive  # degrees from top to bottom of the panoramas


@dataclasses.dataclass(frozen=True)
class IndexManifest:
    """What an index holds."""

    recipe: DescriptorRecipe
    tiles: Count  # N
    values: Count  # D, of a descriptor as the network computes it
    kept_values: Count  # K, of a descriptor as the index keeps it
    source: SourceRecord
    identity: str  # digest of all that the index depends on, except the tiles themselves
    content: str  # digest of the tiles: their names, locations and files
    one_colour: int  # number of tiles that show one colour
    files: dict[Literal[CHECKED], str]  # digests
    spacing: Annotated[float, msgspec.Meta(ge=0)] | None  # median metres from a tile to the nearest other one
    # How often a search finds a tile's nearest other tile first, and among the first ten; None: the search is exact.
    pca_recall: tuple[float, float] | None = None
    approximate_recall: tuple[float, float] | None = None
    digest: str = ""  # own_digest, by which a damaged manifest is found
    format: Literal[4] = 4  # another one cannot be read by this version

    @property
    def own_digest(self):
        """Digest of all but itself, as it is read from the file: 60.0 where 60 was written."""
        values = msgspec.to_builtins(dataclasses.replace(self, digest=""))
        return hashlib.sha256(msgspec.json.encode(msgspec.convert(values, IndexManifest))).hexdigest()


def read_index_manifest(folder):
    """The IndexManifest of a folder.

    Raises:
        UserError: the index does not exist, is not finished, or its manifest cannot be understood.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{shortened(folder)}: no index; build one: localize.py build {shortened(folder)} --tiles ...")
    path, remedy = os.path.join(folder, MANIFEST), f"damaged, or of another version: {REMEDY}"
    try:
        manifest = read_json(path, IndexManifest, remedy)
    except FileNotFoundError:
        problem = f"holds no finished index (no {MANIFEST})"
        raise UserError(f"{shortened(folder)}: {problem}; run localize.py build to its end, or name another folder") from None
    if manifest.digest != manifest.own_digest:
        raise UserError(f"{shortened(path)}: {remedy}")
    return manifest


def earlier_manifest(folder):
    """The IndexManifest of the finished index in a folder; None if that is empty or missing, or a build was stopped there.

    Raises:
        UserError: as of `read_index_manifest`, or the folder holds something else.
    """
    for place in os.path.join(folder, UNFINISHED), folder:  # whose files are being moved, and the index
        if os.path.lexists(os.path.join(place, MANIFEST)):
            return read_index_manifest(place)
    names = [name for name in os.listdir(folder) if not name.startswith(".")] if os.path.isdir(folder) else []
    if names and UNFINISHED not in names:
        raise UserError(f"{shortened(folder)}: holds files that are not of an index; name a new folder")
    return None


def file_digest(path):
    """Digest of a file: of the digests of its blocks, each read by a thread. Errors as of `ordinary`."""

    def block(start):
        with open(path, "rb", opener=ordinary) as file:
            file.seek(start)
            return hashlib.sha256(file.read(DIGESTED_BYTES)).digest()

    with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
        blocks = pool.map(block, range(0, max(1, os.stat(path).st_size), DIGESTED_BYTES))
        return hashlib.sha256(b"".join(blocks)).hexdigest()


def file_digests(folder):
    """{name: digest} of those of CHECKED that a folder holds."""
    return {name: file_digest(os.path.join(folder, name)) for name in CHECKED if os.path.lexists(os.path.join(folder, name))}


def check_files(folder, manifest, names=CHECKED):
    """Raise a UserError if a file of an index is not as it was written, or one is there that was not."""
    for name in names:
        path = os.path.join(folder, name)
        with _whole(path):
            if (name in manifest.files or os.path.lexists(path)) and file_digest(path) != manifest.files.get(name):
                raise ValueError("its content has changed; if an update did it, open the index again")


@contextlib.contextmanager
def _whole(path):
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever broken bytes lead the readers to
        raise UserError(f"{path}: missing, cut off or damaged ({first_line(error)}); {REMEDY}") from None


def read_array(folder, name, shape, dtypes):
    """An array of an index, mapped into memory; a UserError if it is missing, cut off, or of another shape or type (names)."""
    path = os.path.join(folder, name)
    with _whole(path):
        open(path, "rb", opener=ordinary).close()
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != shape or array.dtype.name not in dtypes or not array.flags.c_contiguous:
            order = "" if array.flags.c_contiguous else " by columns"
            raise ValueError(f"{array.dtype.name} of shape {array.shape}{order} instead of {' or '.join(dtypes)} of {shape}")
        return array


def read_names(folder):
    """The names of the tiles, N strings."""
    path = os.path.join(folder, NAMES)
    with _whole(path):
        return msgspec.json.decode(read_file(path), type=list[str])


def save_array(path, array):
    """Write an array as NumPy's file, whole or not at all."""
    with open_whole(path) as file:
        np.save(file, array)
