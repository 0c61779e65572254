"""Descriptors of all images of a view, computed on all devices together."""

import contextlib
import time

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from input_data import image_batches
from safa.runtime.distribution import gather_rows
from safa.runtime.errors import UserError

VIEWS = "satellite", "ground"


class DescriptorExtractor:
    """Computes descriptors with the two branches of a network. Make it once: each branch is then traced once.

    Args:
        network: spatial_net.Network, made in the distribution's scope.
        distribution: runtime.distribution.Distribution.
    """

    def __init__(self, network, distribution):
        self.distribution = distribution
        self.dimension = network.sat.dimension
        self._forward = dict(zip(VIEWS, map(self._traced, (network.sat, network.grd)), strict=True))

    def pairs(self, images, batch_size, title):
        """Descriptors of a split: (N, D) float32 of the references and (Q, D) of the queries.

        Args:
            images: datasets.pair_images.PairImages.
            batch_size: images at a time, of all devices together; rounded up to a multiple of their number.
            title: of the progress bar.

        Raises:
            UserError: an image cannot be read, or a descriptor is not finite.
        """
        return [
            self.images(view, each, batch_size, title)[0] for view, each in zip(VIEWS, (images.sat, images.grd), strict=True)
        ]

    def images(self, view, images, batch_size, title, file=None):
        """Descriptors of an input_data.Images of "satellite" or "ground"; arguments and errors as of `pairs`.

        Args:
            file: retrieval.descriptor_files.DescriptorFile that keeps them, the chief's alone: rows that it has are not
                computed again. Default: none, they are in memory.

        Returns:
            (N, D) float32; None in processes that are not the chief's.
            Milliseconds that the devices took an image; None where one batch was all, which is traced.
        """
        count, replicas = len(images.paths), self.distribution.replicas
        batch_size = -(-batch_size // replicas) * replicas
        keeper = _Rows((count, self.dimension)) if file is None else file
        done = self._chiefs(keeper.done)
        if done == count:
            return keeper.rows, keeper.milliseconds
        done -= done % replicas
        # The last image fills up a last batch that does not divide evenly.
        order = np.minimum(np.arange(done, -(-count // replicas) * replicas), count - 1)
        local_rows = self.distribution.local_rows(order, batch_size)
        reader = image_batches(images, local_rows, self.distribution.local_batch_size(batch_size))
        stopwatch = Stopwatch()
        quiet = None if self.distribution.is_chief else True
        try:
            with tqdm(total=count, initial=done, desc=f"{title}, {view}", unit="image", leave=False, disable=quiet) as progress:
                for start, batch in zip(range(0, len(order), batch_size), reader, strict=True):
                    with stopwatch.counting(len(batch)):
                        found = self.batch(view, batch)
                    rows = np.unique(order[start : start + batch_size])
                    self._check_finite(found, rows, view, images)
                    if self.distribution.is_chief:
                        keeper.begin()
                        keeper.rows[rows] = found[: len(rows)]
                        done = int(rows[-1]) + 1
                        if keeper.is_due():
                            keeper.keep(done, stopwatch.milliseconds)
                    progress.update(len(rows))
        finally:
            if keeper.rows is not None:
                keeper.keep(done, stopwatch.milliseconds or keeper.milliseconds)
        return keeper.rows, keeper.milliseconds

    def batch(self, view, images):
        """Descriptors of this process's images of a batch: (B, H, W, 3) -> (B of all processes, D) float32."""
        return self._forward[view](self.distribution.spread(images)[1]).numpy()

    def _chiefs(self, number):
        """The chief's number, in all processes."""
        shared = tf.Variable(number)
        self.distribution.share_chiefs_values([shared])
        return int(shared.numpy())

    def _check_finite(self, found, rows, view, images):
        wrong = np.flatnonzero(~np.isfinite(found[: len(rows)]).all(axis=1))
        if wrong.size:
            raise UserError(
                f"{images.paths[rows[wrong[0]]]}: its {view} descriptor is not finite; the network has diverged: use an "
                "earlier checkpoint"
            )

    def _traced(self, branch):
        strategy = self.distribution.strategy

        @tf.function(reduce_retracing=True, autograph=False)
        def forward(images):
            found = strategy.run(lambda part: gather_rows(branch(part, training=False)), (images,))
            return strategy.experimental_local_results(found)[0]

        return forward


class _Rows:
    """Rows of descriptors in memory, as `descriptor_files.DescriptorFile` has them on disk."""

    def __init__(self, shape):
        self._shape, self.done, self.rows, self.milliseconds = shape, 0, None, None

    def begin(self):
        if self.rows is None:
            self.rows = np.empty(self._shape, np.float32)

    def is_due(self):
        return False

    def keep(self, done, milliseconds):
        self.milliseconds = milliseconds


class Stopwatch:
    """How long an image takes on the devices: the mean of all batches but those of a new size, which are traced."""

    def __init__(self):
        self._size, self._seconds, self._images = None, 0.0, 0

    @contextlib.contextmanager
    def counting(self, images):
        """Count the time inside for so many images."""
        begin = time.perf_counter()
        yield
        if images == self._size:
            self._seconds += time.perf_counter() - begin
            self._images += images
        self._size = images

    @property
    def milliseconds(self):
        """That an image takes, or None where one batch was all."""
        return 1000 * self._seconds / self._images if self._images else None
