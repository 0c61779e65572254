"""Descriptors of all images of a view, computed on all devices together."""

from runtime import backend  # noqa: F401
from runtime.distribution import gather_rows
from runtime.errors import UserError

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from input_data import image_batches, images_of
from spatial_net import branches

VIEWS = "satellite", "ground"


class DescriptorExtractor:
    """Computes descriptors with the two branches of a network. Make it once: each branch is then traced once.

    Args:
        network: keras.Model of `spatial_net.network`, made in the distribution's scope.
        distribution: runtime.distribution.Distribution.
    """

    def __init__(self, network, distribution):
        self.distribution = distribution
        self._forward = dict(zip(VIEWS, map(self._traced, branches(network)), strict=True))

    def pairs(self, pairs, shapes, batch_size, title, caches=(None, None)):
        """Descriptors of a split: (N, D) float32 of the references and (Q, D) of the queries.

        Args:
            pairs: datasets.dataset.Pairs.
            shapes, caches: see `input_data.images_of`.
            batch_size: images at a time, of all devices together; rounded up to a multiple of their number.
            title: of the progress bar.

        Raises:
            UserError: an image cannot be read, or a descriptor is not finite.
        """
        views = zip(VIEWS, images_of(pairs, shapes, caches), strict=True)
        return [self.images(view, images, batch_size, title) for view, images in views]

    def images(self, view, images, batch_size, title):
        """Descriptors of an input_data.Images of "satellite" or "ground"; arguments and errors as of `pairs`."""
        count, replicas = len(images.paths), self.distribution.replicas
        batch_size = -(-batch_size // replicas) * replicas
        # The last image fills up a last batch that does not divide evenly.
        order = np.minimum(np.arange(-(-count // replicas) * replicas), count - 1)
        local_rows = self.distribution.local_rows(order, batch_size)
        reader = image_batches(images, local_rows, self.distribution.local_batch_size(batch_size))
        descriptors = None
        quiet = None if self.distribution.is_chief else True
        with tqdm(total=count, desc=f"{title}, {view}", unit="image", leave=False, disable=quiet) as progress:
            for start, batch in zip(range(0, len(order), batch_size), reader, strict=True):
                found = self._forward[view](self.distribution.spread(batch)[1]).numpy()
                if descriptors is None:
                    descriptors = np.empty((count, found.shape[1]), np.float32)
                rows = order[start : start + batch_size]
                descriptors[rows] = found
                progress.update(len(np.unique(rows)))
        wrong = np.flatnonzero(~np.isfinite(descriptors).all(axis=1))
        if wrong.size:
            raise UserError(
                f"{wrong.size:,} of {count:,} {view} descriptors are not finite, the first that of "
                f"{images.paths[wrong[0]]}; the network has diverged: use an earlier checkpoint"
            )
        return descriptors

    def _traced(self, branch):
        strategy = self.distribution.strategy

        @tf.function(reduce_retracing=True, autograph=False)
        def forward(images):
            found = strategy.run(lambda part: gather_rows(branch(part, training=False)), (images,))
            return strategy.experimental_local_results(found)[0]

        return forward
