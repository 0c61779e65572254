"""An index of tiles, and the answers that it gives."""

import concurrent.futures
import dataclasses
import functools
import os

import numpy as np
from scipy.spatial import cKDTree

from safa.loading import load_network
from safa.localization import index_files
from safa.localization.calibration import fit_calibration, read_calibrations
from safa.localization.coordinates import LocalFrame
from safa.localization.drive import CANDIDATES, smoothed
from safa.localization.index_files import read_array, read_index_manifest
from safa.localization.panorama import Panorama, panorama_of, read_canvas, turned
from safa.localization.places import Answer, Place, QueryConfig, distinct_places, margin_of
from safa.localization.tile_images import THUMBNAIL_BYTES, decoded_thumbnail
from safa.localization.tile_search import ApproximateSearch, closest, similarities
from safa.runtime.errors import UserError
from safa.runtime.files import write_json
from safa.runtime.progress import ProgressBar
from safa.runtime.worker_pool import available_cores
from safa.settings import FULL_CIRCLE

AT_ONCE = 16  # panoramas that are read at a time, all their turns in memory
BATCH = 32  # images that go through the network at a time
AGREES = 0.01  # posterior probability from which a tile of a drive agrees with a place; less is the smoothing's background
SIMILARITY_BYTES = 2**28  # of the similarities of panoramas with all tiles that are held at a time


class Index:
    """An index that `localize.py build` made in a folder.

    Attributes:
        manifest: index_files.IndexManifest.
        locations: (N, 2) float64 longitude and latitude of the tiles.
        frame: coordinates.LocalFrame around their middle; metres: (N, 2) float64, the locations in it.
        tree: scipy.spatial.cKDTree of `metres`.
        names: N strings.

    Raises:
        UserError: the index does not exist, is not finished, or one of its files is damaged.
    """

    def __init__(self, folder: str):
        self.folder, self.manifest = folder, read_index_manifest(folder)
        count, kept = self.manifest.tiles, self.manifest.kept_values
        self._descriptors = read_array(folder, index_files.DESCRIPTORS, (count, kept), index_files.DTYPES)
        self.locations, self.names = index_files.read_locations(folder, count), index_files.read_names(folder, count)
        self._thumbnails = self._directions = None
        if os.path.lexists(os.path.join(folder, index_files.THUMBNAILS)):
            self._thumbnails = read_array(folder, index_files.THUMBNAILS, (count, THUMBNAIL_BYTES), ("uint8",))
        if self.manifest.pca_recall is not None:
            self._directions = read_array(folder, index_files.PROJECTION, (self.manifest.values, kept), ("float32",))
        self._calibrations = read_calibrations(os.path.join(folder, index_files.CALIBRATION))
        self.frame = LocalFrame.around(self.locations)
        self.metres = self.frame.metres(self.locations)
        self.tree = cKDTree(self.metres)

    def __len__(self):
        return self.manifest.tiles

    def query(self, panoramas, **settings):
        """Where panoramas were taken: a list of Answer, one for each.

        Args:
            panoramas: list of paths, or of Panorama (`panorama.panorama_of`).
            settings: of QueryConfig: top=5, unknown_heading=True, heading=90.0, fov=90.0, sequence=10.0, ...

        Raises:
            UserError: an image cannot be read or is not a panorama, or a file of the index is damaged.
        """
        config = QueryConfig(**settings)
        panoramas = [each if isinstance(each, Panorama) else panorama_of(each, config) for each in panoramas]
        if config.sequence is None or not panoramas:
            return [self._answer(*each, config) for each in self._similarities(panoramas, config)]
        return self._drive(panoramas, config)

    def calibrate(self, panoramas, wrong_share=0.05, **settings):
        """Learn how sure answers are from panoramas of known locations, and keep it in the index.

        Args:
            panoramas: list of Panorama with locations; of places that are not in the index too, if queries may be.
            wrong_share: of the answers that may be wrong.
            settings: as of `query`; queries of the same view use it.

        Returns:
            Calibration, and the list of Answer that it is fitted on.

        Raises:
            UserError: as of `query`; a location is missing, or there are too few panoramas.
        """
        for panorama in panoramas:
            if panorama.location is None:
                raise UserError(f"{panorama.path}: no known location; list panoramas with their coordinates in a CSV file")
        answers = self.query(panoramas, **(settings | {"sequence": None}))
        config = QueryConfig(**settings)
        calibration = fit_calibration(
            [answer.margin for answer in answers],
            [answer.places[0].similarity for answer in answers],
            [answer.metres_off <= config.radius for answer in answers],
            wrong_share,
        )
        path = os.path.join(self.folder, index_files.CALIBRATION)
        self._calibrations = read_calibrations(path) | {config.view_name: calibration}
        write_json(path, self._calibrations)
        return calibration, answers

    def calibration(self, config):
        """The Calibration for queries of a QueryConfig, or None."""
        return self._calibrations.get(config.view_name)

    def _compute_descriptors(self, panoramas, config):
        """Descriptors of panoramas at all headings that are tried: (Q, T, K) float32; and T headings for each of them."""
        recipe = self.manifest.recipe
        unknown = [FULL_CIRCLE * turn / config.turns for turn in range(config.turns)]
        headings = [unknown if panorama.heading is None else [panorama.heading] for panorama in panoramas]

        def read(number):
            canvas = read_canvas(panoramas[number], config, recipe.vertical_fov)
            return turned(canvas, headings[number], recipe.network.grd_shape)

        with concurrent.futures.ThreadPoolExecutor(available_cores()) as pool:
            images = np.concatenate(list(pool.map(read, range(len(panoramas)))))
        found = [self._ground(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        found = np.concatenate(found).reshape(len(panoramas), len(headings[0]), -1)
        found = found if self._directions is None else found @ self._directions
        finite = np.isfinite(found).all(axis=(1, 2))
        if not finite.all():
            path = panoramas[int(finite.argmin())].path
            raise UserError(f"{path}: its descriptor is not finite; the network has diverged: use another index")
        return found, headings

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
        return ApproximateSearch(os.path.join(self.folder, index_files.APPROXIMATE), self._descriptors)

    def load_ground(self, path):
        """The ground branch of the index's network, a function from (B, H, W, 3) images to (B, D) float32 descriptors.

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
        forward = tf.function(lambda images: ground(images, training=False), reduce_retracing=True, autograph=False)
        return lambda images: forward(tf.constant(images)).numpy()

    def _similarities(self, panoramas, config):
        """Yield each panorama, (N,) similarities of the tiles, and (N,) its heading in degrees at each of them."""
        search = functools.partial(similarities, self._descriptors)
        if config.approximate:
            search = self._approximate.similarities
        at_once = min(max(1, SIMILARITY_BYTES // (6 * len(self))), AT_ONCE)
        with ProgressBar(None, "search", len(panoramas), "panoramas") as progress:
            for start in range(0, len(panoramas), at_once):
                part = panoramas[start : start + at_once]
                descriptors, headings = self._compute_descriptors(part, config)
                for panorama, found, turn, tried in zip(part, *search(descriptors), headings, strict=True):
                    yield panorama, found, np.array(tried)[turn]
                progress.update(len(part))

    def _answer(self, panorama, found, headings, config):
        merged = distinct_places(found, self.tree, config.top + 1, config.merge_metres)
        rivals = [float(found[row]) for row, _ in merged[1:]] + [-np.inf]
        places = [
            self._place(row, found[row], headings[row], int(np.count_nonzero(found[near] > rival)))
            for (row, near), rival in zip(merged, rivals, strict=True)
        ][: config.top]
        margin = margin_of(found, self.tree, places[0].row, config.radius)
        calibration = self.calibration(config)
        confidence = None if calibration is None else calibration.confidence(margin, places[0].similarity)
        known = calibration is None or confidence >= calibration.threshold
        return Answer(panorama, places, margin, confidence, known)

    def _place(self, row, similarity, heading, tiles=1):
        longitude, latitude = self.locations[row].tolist()
        return Place(longitude, latitude, float(similarity), float(heading), self.names[row], int(row), tiles)

    def _drive(self, panoramas, config):
        """The answers of a drive's panoramas, from all of them together."""
        alone = []
        for panorama, found, headings in self._similarities(panoramas, config):
            rows, values = closest(found[None], min(CANDIDATES, len(self)))
            places = [self._place(row, found[row], headings[row]) for row in rows[0][values[0] > -np.inf]]
            alone.append(Answer(panorama, places, margin_of(found, self.tree, places[0].row, config.radius)))
        rows = [[place.row for place in answer.places] for answer in alone]
        values = [[place.similarity for place in answer.places] for answer in alone]
        posteriors = smoothed(rows, values, self.metres, config.sequence, self.manifest.spacing or 0.0)
        answers = []
        for answer, own, posterior in zip(alone, rows, posteriors, strict=True):
            places = []
            for best, near in distinct_places(posterior, cKDTree(self.metres[own]), config.top, config.merge_metres):
                agree, probability = int(np.count_nonzero(posterior[near] > AGREES)), float(posterior[near].sum())
                places.append(dataclasses.replace(answer.places[best], tiles=agree, probability=probability))
            places.sort(key=lambda place: -place.probability)
            answers.append(dataclasses.replace(answer, places=places, confidence=places[0].probability))
        return answers
