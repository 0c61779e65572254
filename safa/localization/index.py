"""An index of tiles, and the answers that it gives."""

import collections
import concurrent.futures
import dataclasses
import functools
import os
import tempfile

import numpy as np
from scipy.spatial import cKDTree

from safa.loading import load_network
from safa.localization import index_files
from safa.localization.answering import answer_alone, drive_answers, fit_answers
from safa.localization.calibration import read_calibrations, write_calibrations
from safa.localization.coordinates import LocalFrame
from safa.localization.index_files import read_array, read_index_manifest
from safa.localization.panorama import Panorama, asked_panorama, far_outside, read_canvas, turned
from safa.localization.places import Answer, QueryConfig
from safa.localization.position_estimate import PER_SIMILARITY
from safa.localization.tile_images import THUMBNAIL_BYTES, decoded_thumbnail
from safa.localization.tile_search import ApproximateSearch, as_float32, similarities
from safa.runtime.errors import UserError, first_few, printable
from safa.runtime.files import locked, write_whole
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import available_cores
from safa.settings import FULL_CIRCLE

AT_ONCE = 16  # panoramas that are read at a time
BATCH = 32  # images that go through the network at a time
OVERLAP = 0.25  # tiles' size, up to which neighbours show so much of the same ground that a place between them looks like both
SIMILARITY_BYTES = 2**28  # of the similarities of panoramas with all tiles that are held at a time


class Index:
    """An index that `localize.py build` made in a folder.

    Attributes:
        manifest: index_files.IndexManifest.
        locations: (N, 2) float64 longitude and latitude of the tiles.
        spacing: metres between neighbouring tiles; tiles_overlap: whether they show much of the same ground.
        frame: coordinates.LocalFrame around their middle; metres: (N, 2) float64, the locations in it.
        tree: scipy.spatial.cKDTree of `metres`.
        names: N strings.
        calibrations: {name of a view: calibration.Calibration}.

    Args:
        folder: of the index.
        dtype: "float32" holds all descriptors in memory, ready for searches; None maps the file.

    Raises:
        UserError: the index does not exist, is not finished, or one of its files is damaged.
    """

    def __init__(self, folder: str, dtype: str | None = None):
        if dtype not in (None, "float32"):
            raise UserError(f"dtype {dtype!r}: descriptors are held in memory as float32, or mapped (None)")
        self.folder, self.manifest = folder, read_index_manifest(folder)
        count, kept = self.manifest.tiles, self.manifest.kept_values
        self._descriptors = read_array(folder, index_files.DESCRIPTORS, (count, kept), index_files.DTYPES)
        if dtype is not None:
            self._descriptors = (np.array if self._descriptors.dtype == np.float32 else as_float32)(self._descriptors)
        self.names = index_files.read_names(folder)
        locations = np.array(read_array(folder, index_files.LOCATIONS, (count, 2), ("float64",)))
        self._thumbnails = self._directions = None
        if os.path.lexists(os.path.join(folder, index_files.THUMBNAILS)):
            self._thumbnails = read_array(folder, index_files.THUMBNAILS, (count, THUMBNAIL_BYTES), ("uint8",))
        if self.manifest.pca_recall is not None:
            self._directions = read_array(folder, index_files.PROJECTION, (self.manifest.values, kept), ("float32",))
        self.calibrations = read_calibrations(os.path.join(folder, index_files.CALIBRATION), self.manifest.identity)
        index_files.check_files(folder, self.manifest)  # after they were opened: a build may have exchanged them meanwhile
        self._place_tiles(locations)

    def _place_tiles(self, locations):
        self.locations, self.frame = locations, LocalFrame.around(locations)
        self.metres = self.frame.metres(locations)
        self.tree = cKDTree(self.metres)
        self.spacing = self.manifest.spacing or self.manifest.recipe.tile_metres
        self.tiles_overlap = self.spacing <= OVERLAP * self.manifest.recipe.tile_metres

    def __len__(self):
        return self.manifest.tiles

    def query(self, panoramas, **settings):
        """Where panoramas were taken: a list of Answer, one for each.

        Args:
            panoramas: list of paths, of the bytes of image files, of (H, W, 3) uint8 BGR arrays, or of Panorama.
            settings: of QueryConfig: top=5, unknown_heading=True, heading=90.0, fov=90.0, sequence=10.0, near=50.0, ...

        Raises:
            UserError: a setting is out of bounds, an image cannot be read or is not a panorama, or a file of the index is
                damaged.
        """
        config = QueryConfig.of(settings)
        if isinstance(panoramas, (str, bytes, bytearray, os.PathLike, Panorama)):
            raise UserError(f"a query takes a list of panoramas, not a {type(panoramas).__name__}; put it into a list")
        with tempfile.TemporaryDirectory() as folder:
            asked = []
            for number, each in enumerate(panoramas):
                if isinstance(each, (bytes, bytearray)):
                    path = os.path.join(folder, f"image {number}")
                    write_whole(path, each, durable=False)
                    each = path
                asked.append(asked_panorama(each, config))
            _check_positions(asked, config)
            answers = self.finished(list(self.found(asked, config)), config)
        for answer in answers:
            if answer.problem is not None:
                raise UserError(answer.problem)
        return answers

    def found(self, panoramas, config, with_evidence=False):
        """Yield the Answer of each Panorama by itself, as it comes; one that cannot be used has a problem instead of places.

        Of a drive they hold only the evidence for `finished`; `with_evidence`: others hold theirs too.
        """
        at_once = min(max(1, SIMILARITY_BYTES // (6 * len(self))), AT_ONCE)
        with ProgressBar(None, "search", len(panoramas), "panoramas") as progress:
            for start in range(0, len(panoramas), at_once):
                part = panoramas[start : start + at_once]
                for panorama, compared in zip(part, self._compared(part, config), strict=True):
                    if isinstance(compared, str):
                        yield Answer(panorama, [], None, problem=printable(compared))
                    else:
                        yield answer_alone(self, panorama, *compared, config, with_evidence)
                progress.update(len(part))

    def finished(self, answers, config):
        """The answers of `found`, all of them; those of a drive are given here, from all of its panoramas together."""
        return answers if config.sequence is None else drive_answers(self, answers, config)

    def calibrate(self, panoramas, wrong_share=0.05, **settings):
        """Learn how sure answers are from panoramas of known locations, and keep it in the index.

        Args:
            panoramas: list of Panorama with locations; of places that are not in the index too, if queries may be.
            wrong_share: of the answers that may be wrong.
            settings: as of `query`; queries of the same view use it.

        Returns:
            Calibration, and the list of Answer that it is fitted on, and those of panoramas that could not be used.

        Raises:
            UserError: as of `query`; a location is missing, or there are too few panoramas.
        """
        config = QueryConfig.of(settings)
        if not os.access(self.folder, os.W_OK):
            raise UserError(f"{self.folder}: may not be written, and keeps the calibration; check the permissions, or copy it")
        panoramas = [asked_panorama(each, config) for each in panoramas]
        for panorama in panoramas:
            if panorama.location is None and panorama.problem is None:
                remedy = "list panoramas with their coordinates in a CSV file, or take them from their tags with --truth exif"
                raise UserError(f"{panorama.path}: no known location; {remedy}")
        if far := far_outside(panoramas, self):
            raise UserError(f"{len(far):,} known locations lie far outside the index: {first_few(far)}; correct or remove them")
        names = {config.view_name(panorama) for panorama in panoramas if panorama.problem is None}
        if len(names) > 1:
            raise UserError(f"panoramas of several views ({'; '.join(sorted(names))}); calibrate each of them by itself")
        files = collections.Counter(os.path.realpath(panorama.path) for panorama in panoramas if panorama.image is None)
        if twice := [path for path, count in files.items() if count > 1]:
            raise UserError(f"{len(twice):,} panoramas are named more than once: {first_few(twice)}; name each once")
        _check_positions(panoramas, config)
        found = list(self.found(panoramas, config, with_evidence=True))
        calibration, answers = fit_answers(self, found, config, wrong_share)
        kept = os.path.join(self.folder, index_files.CALIBRATION), self.manifest.identity
        with locked(self.folder, f"{self.folder}: waiting for another calibration", wait=True):
            self.calibrations = read_calibrations(*kept) | {names.pop(): calibration}
            write_calibrations(*kept, self.calibrations)
        return calibration, answers, [answer for answer in found if answer.problem is not None]

    def calibration(self, config, panorama=None):
        """The Calibration for queries of a QueryConfig, or of a Panorama of them, or None."""
        return self.calibrations.get(config.view_name(panorama))

    def weight(self, config, panorama):
        """What a similarity weighs in a tile's log probability, by the calibration that is nearest to a Panorama's view."""
        alone = dataclasses.replace(config, sequence=None)
        names = config.view_name(panorama), alone.view_name(panorama), alone.view_name()
        found = next((self.calibrations[name] for name in names if name in self.calibrations), None)
        return PER_SIMILARITY if found is None else found.uncertainty.per_similarity

    def _compared(self, panoramas, config):
        """What each panorama is compared with: rows, similarities and headings of `answer_alone`, or why it cannot be used."""
        unknown = [FULL_CIRCLE * turn / config.turns for turn in range(config.turns)]
        headings = [np.array(unknown if panorama.heading is None else [panorama.heading]) for panorama in panoramas]
        compared = self._compute_descriptors(panoramas, headings, config)
        together = {}  # panoramas that are compared with all tiles, by their number of headings
        for number, (own, panorama) in enumerate(zip(compared, panoramas, strict=True)):
            if isinstance(own, str):
                continue
            if (rough := panorama.rough) is None:
                together.setdefault(len(own), []).append(number)
                continue
            (place,) = self.frame.metres([(rough.longitude, rough.latitude)])
            reach, where = rough.reach(self.spacing), f"{rough.latitude:.6f}, {rough.longitude:.6f}"
            compared[number] = f"{panorama.path}: no tile within {reach:g} m of its rough position {where}"
            if rows := self.tree.query_ball_point(place, reach, return_sorted=True):
                rows = np.array(rows)
                found, turn = self._search(own[None], False, rows)
                compared[number] = rows, found[0], headings[number][turn[0]]
        for numbers in together.values():
            queries = np.stack([compared[number] for number in numbers])
            for number, found, turn in zip(numbers, *self._search(queries, config.approximate), strict=True):
                compared[number] = None, found, headings[number][turn]
        return compared

    def _search(self, queries, approximate, rows=None):
        """As tile_search.similarities, with the tiles of some rows, or of all."""
        return self._approximate.similarities(queries) if approximate else similarities(self._descriptors, queries, rows)

    def _compute_descriptors(self, panoramas, headings, config):
        """(T, K) float32 descriptors of each panorama at its T headings, or what is wrong with it."""
        recipe = self.manifest.recipe
        # Before the threads, which need its mean colour.
        ground = self._ground if any(panorama.problem is None for panorama in panoramas) else None

        def read(panorama):
            if panorama.problem is not None:
                return panorama.problem
            try:
                return read_canvas(panorama, config, recipe.vertical_fov, ground.fill)
            except UserError as error:
                return str(error)

        with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
            found = list(pool.map(read, panoramas))
        usable = [number for number, canvas in enumerate(found) if not isinstance(canvas, str)]
        if not usable:
            return found
        turns = [(found[number], heading, recipe.network.grd_shape) for number in usable for heading in headings[number]]
        parts = (turns[start : start + BATCH] for start in range(0, len(turns), BATCH))
        rows = np.concatenate([ground(np.stack([turned(*turn) for turn in part])) for part in parts])
        rows = rows if self._directions is None else rows @ self._directions
        ends = np.cumsum([len(headings[number]) for number in usable])
        for number, own in zip(usable, np.split(rows, ends[:-1]), strict=True):
            diverged = f"{panoramas[number].path}: its descriptor is not finite; the network has diverged: use another index"
            found[number] = own if np.isfinite(own).all() else diverged
        return found

    def thumbnail(self, row):
        """A small picture of a tile, (128, 128, 3) uint8 BGR; None if the index keeps no pictures."""
        return None if self._thumbnails is None else decoded_thumbnail(self._thumbnails[row])

    @functools.cached_property
    def _ground(self):
        return self.load_ground(os.path.join(self.folder, index_files.WEIGHTS))

    @functools.cached_property
    def _approximate(self):
        if self.manifest.approximate_recall is None:
            raise UserError(f"--approximate: {self.folder} was built without it; leave it out, or build with --approximate")
        found = ApproximateSearch(os.path.join(self.folder, index_files.APPROXIMATE), self._descriptors)
        index_files.check_files(self.folder, self.manifest, [index_files.APPROXIMATE])  # read only now
        return found

    def load_ground(self, path):
        """The ground branch of the index's network, a function from (B, H, W, 3) images to (B, D) descriptors, with its `fill`.

        Raises:
            UserError: the weights in `path` are not the index's, or cannot be read as weights of its network.
        """
        recipe = self.manifest.recipe
        loaded = load_network(path, recipe.network, recipe.precision)
        if loaded.digest != recipe.weights:
            raise UserError(
                f"{loaded.path}: other weights than those that {self.folder} was built with; leave --checkpoint out, or build "
                "another index"
            )
        import tensorflow as tf

        ground = loaded.model.grd
        compute = tf.function(lambda images: ground(images, training=False), reduce_retracing=True, autograph=False)
        compute.fill = ground.fill
        return compute


def _check_positions(panoramas, config):
    """Refuse a search around rough positions where no panorama that can be used has one."""
    rough = [panorama.rough for panorama in panoramas if panorama.problem is None]
    if (config.near or config.gps_sigma) and rough and not any(rough):
        raise UserError("--near, --gps_sigma: no photo's tags say its position; leave them out")
